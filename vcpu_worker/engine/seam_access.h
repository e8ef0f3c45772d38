/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ALLSTOP_SEAM_ACCESS_H
#define ALLSTOP_SEAM_ACCESS_H

#include "seam.h"

/* For the seam: whose accesses are translated; NULL is nobody's. */
void seam_access_attach(uc_engine *engine);

#endif

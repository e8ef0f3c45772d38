/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ALLSTOP_ENGINE_RUN_RUN_H
#define ALLSTOP_ENGINE_RUN_RUN_H

#include "vcpu_worker/engine/vcpu.h"

/* Enter the guest, and go on until Python is needed, with the reason in `exit`. The owner of a stopped world may enter
 * it alone. False on an engine error, with `sentence` set. */
bool vcpu_run(struct vcpu *v, uint64_t budget, bool owner);

#endif

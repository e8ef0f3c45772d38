/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What one vCPU computes, by itself. Each returns a value that depends on all of the work, and on nothing else. */
#ifndef WORK_H
#define WORK_H

#include "guest.h"

uint32_t work_calls(unsigned id, uint32_t rounds);
uint32_t work_memory(unsigned id, uint32_t rounds);
uint32_t work_branches(unsigned id, uint32_t rounds);
uint32_t work_mixed(unsigned id, uint32_t rounds);

#endif

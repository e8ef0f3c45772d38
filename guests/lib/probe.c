/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mmu.h"

extern const char probe_load[], probe_called[], probe_faulted[];

bool probe_data_abort(struct frame *frame)
{
    if (frame->pc != (uint32_t)probe_load)
        return false;
    frame->pc = (uint32_t)probe_faulted;
    return true;
}

bool probe_prefetch_abort(struct frame *frame)
{
    if (frame->lr_svc != (uint32_t)probe_called || frame->pc != read_ifar())
        return false;
    frame->pc = (uint32_t)probe_faulted;
    return true;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vcpu_worker/engine/run/wait.h"

#include "vcpu_worker/engine/cpu/requests.h"
#include "vcpu_worker/engine/step.h"

#define WAKES (CP_INTERRUPT | CP_EVENT | CP_QUIT | CP_TICK | CP_PING)

void vcpu_wait_for_interrupt(struct vcpu *v)
{
    struct step step = step_begin(v, CP_COUNT_WFI, STEP_NO_HISTOGRAM, CP_ACTIVITY_WFI, 0);
    for (;;) {
        vcpu_serve(v);
        if ((atomic_load(&v->slot->line) & 3) || (atomic_load(&v->slot->requests) & (CP_EVENT | CP_QUIT | CP_TICK)))
            break; /* on a tick the run loop looks at the timers: WFI may end early */
        cp_sleep(v->slot, WAKES, SLICE_NS);
        cp_beat(&v->slot->process);
    }
    step_end(&step, JOURNAL_SLEPT, v->pc);
}

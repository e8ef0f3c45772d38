/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest.h"

exception_handler exception_handlers[EXCEPTIONS];

void print_anyway(const char *format, ...);

static const char *exception_name(unsigned kind)
{
    switch (kind) {
    case UNDEFINED: return "undefined instruction";
    case SUPERVISOR_CALL: return "supervisor call";
    case PREFETCH_ABORT: return "prefetch abort";
    case DATA_ABORT: return "data abort";
    case HYP_TRAP: return "hyp trap";
    case IRQ: return "IRQ";
    case FIQ: return "FIQ";
    default: return "reset";
    }
}

/* Called by the vectors in SVC mode. */
void exception_dispatch(unsigned kind, struct frame *frame)
{
    uint32_t address = 0, status = 0;

    if (kind == UNDEFINED)
        frame->pc -= frame->cpsr & CPSR_T ? 2 : 4;
    if (exception_handlers[kind] && exception_handlers[kind](frame))
        return;
    if (kind == DATA_ABORT) {
        address = read_dfar();
        status = read_dfsr();
    } else if (kind == PREFETCH_ABORT) {
        address = read_ifar();
        status = read_ifsr();
    }
    print_anyway("unexpected exception: vcpu=%u kind=%s pc=%x address=%x status=%x cpsr=%x\n", vcpu_id(),
                 exception_name(kind), frame->pc, address, status, frame->cpsr);
    testdev_exit(2);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vcpu_worker/engine/interpose/cpu.h"

#include "vcpu_worker/engine/interpose/library.h"
#include "vcpu_worker/engine/interpose/reading.h"
#include "vcpu_worker/engine/interpose/state.h"

/* Offsets, with the function of the library in which each can be seen. library.c refuses another build. */
#define UC_CPU 0x1b8             /* uc_struct.cpu: helper_check_exit_request_arm */
#define CPU_ENV 0xa2f0           /* ARMCPU.env: get_page_addr_code_arm's callers; arm_cpu_do_interrupt_arm */
#define ENV_EXCLUSIVE_ADDR 0xec0 /* CPUARMState.exclusive_addr, exclusive_val */
#define ENV_EXCLUSIVE_VAL 0xec8
#define CONTEXT_BYTES 0 /* uc_context.context_size, of the data at its end: uc_context_alloc */

void *interpose_cpu(const struct interpose *s)
{
    return AT(s->uc, UC_CPU, void *);
}

void *interpose_cpu_of(void *env)
{
    return (char *)env - CPU_ENV;
}

void *interpose_env(const struct interpose *s)
{
    return (char *)interpose_cpu(s) + CPU_ENV;
}

void interpose_take_exception(struct interpose *s)
{
    real.do_interrupt(interpose_cpu(s));
}

void interpose_flush_tlb(struct interpose *s)
{
    real.flush_tlb(interpose_cpu(s));
}

void interpose_flush_page(struct interpose *s, uint32_t gva)
{
    real.flush_page(interpose_cpu(s), gva);
}

void interpose_invalidate_code(struct interpose *s, uint64_t ram_offset, uint64_t bytes)
{
    real.invalidate_range(s->uc, ram_offset, ram_offset + bytes);
}

void interpose_drop_code(struct interpose *s)
{
    real.flush_blocks(interpose_cpu(s));
    reading_forget(&s->reading);
}

void interpose_monitor(struct interpose *s, uint64_t *address, uint64_t *value)
{
    *address = AT(interpose_env(s), ENV_EXCLUSIVE_ADDR, uint64_t);
    *value = AT(interpose_env(s), ENV_EXCLUSIVE_VAL, uint64_t);
}

void interpose_set_monitor(struct interpose *s, uint64_t address, uint64_t value)
{
    AT(interpose_env(s), ENV_EXCLUSIVE_ADDR, uint64_t) = address;
    AT(interpose_env(s), ENV_EXCLUSIVE_VAL, uint64_t) = value;
}

void *interpose_context_state(struct interpose *s, uc_context *context, size_t *bytes)
{
    *bytes = AT(context, CONTEXT_BYTES, size_t);
    return (char *)context + uc.context_size(s->uc) - *bytes;
}

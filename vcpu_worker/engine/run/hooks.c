/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The library takes an exception that goes to EL2 itself, so that HSR, HDFAR and HPFAR are its own; then the run is
 * stopped before an instruction of EL2 would be executed, and the guest's CPSR and PC are put back (arm/exits.c).
 */
#include "vcpu_worker/engine/run/hooks.h"

#include "vcpu_worker/engine/cpu/arm/registers.h"
#include "vcpu_worker/engine/interpose/cpu.h"
#include "vcpu_worker/engine/interpose/stops.h"
#include "vcpu_worker/engine/run/arm/semihosting.h"
#include "vcpu_worker/engine/run/arm/undefined.h"
#include "vcpu_worker/engine/run/time_slice.h"

#define PREFETCH_ABORT 3u /* the library's EXCP_PREFETCH_ABORT */

/* Every request is served outside the guest, except HOLD: the second look in one guest entry comes after an
 * instruction. */
static bool on_poll(void *vcpu)
{
    struct vcpu *v = vcpu;
    uint32_t requests = atomic_load(&v->slot->requests);
    if (requests & CP_HOLD) {
        uint32_t entry = atomic_load(&v->slot->mode) | CP_MODE_MASK;
        if (v->held_entry == entry)
            cp_got_on(v->host, v->slot);
        v->held_entry = entry;
    }
    return requests & ~v->ignored;
}

static void on_hint(void *vcpu, bool is_wfe)
{
    struct vcpu *v = vcpu;
    cp_count(v->slot, is_wfe ? CP_COUNT_WFE : CP_COUNT_YIELD);
    time_slice_give(v); /* also where there are cores enough for the machine: the host may have more to do */
}

const struct interpose_events hooks_events = { on_poll, on_hint };

static void on_exception(uc_engine *unused, uint32_t number, void *vcpu)
{
    struct vcpu *v = vcpu;
    v->pc = vcpu_register(v, UC_ARM_REG_R15); /* the preferred return address, for every class */
    if (v->semihosting && vcpu_calls_host(v, number)) {
        v->calls_host = true;
        uc.emu_stop(v->uc);
        return;
    }
    interpose_take_exception(v->interpose);
    if ((vcpu_register(v, UC_ARM_REG_CPSR) & PSR_MODE) == MODE_HYP) {
        v->trapped = true;
        uc.emu_stop(v->uc);
        return;
    }
    /* To EL1: the guest's own. A guest whose vectors cannot be fetched aborts forever without starting a block. */
    if (number == PREFETCH_ABORT)
        interpose_count(v->interpose);
    if (on_poll(v) || interpose_budget_is_spent(v->interpose))
        uc.emu_stop(v->uc);
}

static bool on_invalid_instruction(uc_engine *unused, void *vcpu)
{
    struct vcpu *v = vcpu;
    uint32_t cpsr = vcpu_register(v, UC_ARM_REG_CPSR);
    on_exception(unused, 0, v);
    if (!v->trapped && !v->calls_host)
        vcpu_note_undefined(v, cpsr);
    return true;
}

bool hooks_install(struct vcpu *v)
{
    uc_hook hook;
    return !vcpu_failed(v, "hook exceptions", uc.hook_add(v->uc, &hook, UC_HOOK_INTR, (void *)on_exception, v, 1, 0))
        && !vcpu_failed(v, "hook undefined instructions",
                        uc.hook_add(v->uc, &hook, UC_HOOK_INSN_INVALID, (void *)on_invalid_instruction, v, 1, 0));
}

const void *hooks_memory(void *vcpu, uint32_t ipa, int *allowed)
{
    const struct vcpu *v = vcpu;
    if (!is_in_ram(v, ipa))
        return NULL;
    uint64_t entry = atomic_load_explicit(entry_of(v, ipa), memory_order_acquire);
    if (!(entry & VALID))
        return NULL;
    *allowed = (entry & READ_ONLY ? INTERPOSE_READ : 0) | ((entry & READ_WRITE) == READ_WRITE ? INTERPOSE_WRITE : 0)
        | (entry & XN || !(entry & READ_ONLY) ? 0 : INTERPOSE_EXECUTE);
    return v->ram + (ipa - RAM_BASE);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vcpu_worker/engine/run/arm/exits.h"

#include <string.h>

#include "vcpu_worker/engine/cpu/arm/exceptions.h"
#include "vcpu_worker/engine/cpu/arm/registers.h"
#include "vcpu_worker/engine/guest_memory/access.h"
#include "vcpu_worker/engine/guest_memory/faults.h"
#include "vcpu_worker/engine/guest_memory/maintenance.h"
#include "vcpu_worker/engine/interpose/reading.h"
#include "vcpu_worker/engine/interpose/stops.h"
#include "vcpu_worker/engine/run/wait.h"

enum { CRN_CACHE = 7, CRN_TLB = 8, CRM_INNER_SHAREABLE = 3 };
#define MAINTENANCE_BYTES 4u /* MCR, in both instruction sets */

static bool exits_as(struct vcpu *v, enum exit_kind kind, unsigned count)
{
    cp_count(v->slot, count);
    v->exit.kind = kind;
    return true;
}

/* The IPA that faulted at stage 2, from HPFAR and the virtual address. */
static uint32_t fault_ipa(const struct exit_record *x, uint32_t gva)
{
    return (x->hpfar & ~0xfu) << 8 | (gva & (PAGE_BYTES - 1));
}

static uint32_t swapped(uint32_t value, uint32_t size)
{
    return size == 4 ? __builtin_bswap32(value) : size == 2 ? __builtin_bswap16((uint16_t)value) : value;
}

static uint32_t truncated(uint32_t value, uint32_t size)
{
    return size < 4 ? value & ((1u << 8 * size) - 1) : value;
}

/* An access across a page boundary is described as if it were one of the page that faulted: its tail of 4 bytes at the
 * page's start, where the page before is RAM. Only the instruction tells what it is. */
static bool crosses_pages(struct vcpu *v, const struct exit_record *x, uint32_t size)
{
    uint32_t offset = x->hdfar & (PAGE_BYTES - 1), before;
    if (offset != 0 || size == 1)
        return offset + size > PAGE_BYTES;
    return vcpu_translate(v, x->hdfar - 1, x->is_write, is_privileged(x->cpsr), &before) && is_in_ram(v, before);
}

/* A device is accessed, by an instruction that the syndrome describes. */
static bool latch_access(struct vcpu *v)
{
    struct exit_record *x = &v->exit;
    x->size = x->syndrome.abort.size;
    v->latched = true;
    if (x->is_write) {
        uint32_t value = truncated(vcpu_register(v, vcpu_core_id(x->syndrome.abort.register_number)), x->size);
        x->value = x->cpsr & PSR_E ? swapped(value, x->size) : value;
    }
    return exits_as(v, EXIT_MMIO, x->is_write ? CP_COUNT_MMIO_WRITE : CP_COUNT_MMIO_READ);
}

static bool handle_data_abort(struct vcpu *v)
{
    struct exit_record *x = &v->exit;
    bool walk = x->syndrome.abort.s1ptw, maintenance = x->syndrome.abort.is_cache_maintenance;
    x->hdfar = CP(v, 6, 0, 4, 0);
    x->hpfar = CP(v, 6, 0, 4, 4);
    x->ipa = fault_ipa(x, x->hdfar);
    if (walk || !maintenance)
        interpose_uncount(v->interpose);
    if (stage2_fault(v, x->ipa, false, x->syndrome.abort.writes && !walk && !maintenance))
        return false;
    if (walk) {
        x->kind = EXIT_WALK;
        return true;
    }
    if (maintenance) { /* of a cache, by address: nothing to do */
        vcpu_retire(v, MAINTENANCE_BYTES);
        return false;
    }
    x->is_write = x->syndrome.abort.writes;
    if (x->syndrome.abort.isv && !crosses_pages(v, x, x->syndrome.abort.size))
        return latch_access(v);
    x->length = interpose_executed(v->interpose, x->pc, x->cpsr & PSR_T, &x->instruction);
    return exits_as(v, EXIT_NISV, CP_COUNT_NISV);
}

static bool handle_prefetch_abort(struct vcpu *v)
{
    struct exit_record *x = &v->exit;
    bool walk = x->syndrome.abort.s1ptw;
    x->hifar = CP(v, 6, 0, 4, 2);
    x->hpfar = CP(v, 6, 0, 4, 4);
    x->ipa = fault_ipa(x, x->hifar);
    if (stage2_fault(v, x->ipa, !walk, false))
        return false;
    /* At the guest's own vector outside RAM: it would take this abort forever. */
    bool is_vector = x->hifar - vcpu_vectors(v) < VECTORS_BYTES;
    x->kind = walk ? EXIT_WALK : is_vector ? EXIT_LOST : EXIT_FETCH;
    return true;
}

static void handle_wait(struct vcpu *v)
{
    vcpu_retire(v, v->exit.syndrome.length);
    cp_got_on(v->host, v->slot);
    if (!interpose_budget_is_spent(v->interpose)) /* a single step over WFI comes back at once, as WFI may */
        vcpu_wait_for_interrupt(v);
}

/* TLBIMVA, TLBIMVAA and their inner-shareable forms name a page; the others are taken for all there is. */
static void handle_tlb_maintenance(struct vcpu *v)
{
    const struct syndrome *s = &v->exit.syndrome;
    struct invalidated what = {
        .everywhere = s->coprocessor.crm == CRM_INNER_SHAREABLE,
        .by_page = s->coprocessor.opc1 == 0 && (s->coprocessor.opc2 == 1 || s->coprocessor.opc2 == 3),
    };
    if (what.by_page)
        what.page = vcpu_register(v, vcpu_core_id(s->coprocessor.register_number)) / PAGE_BYTES;
    vcpu_invalidate_tlb(v, &what);
    vcpu_retire(v, MAINTENANCE_BYTES);
}

/* ICIALLU, ICIMVAU, ICIALLUIS: interpose/ lets them trap. */
static void handle_cache_maintenance(struct vcpu *v)
{
    const struct syndrome *s = &v->exit.syndrome;
    bool by_address = s->coprocessor.opc2 == 1;
    cp_count(v->slot, CP_COUNT_ICACHE);
    stage2_sync_code(v, !by_address, by_address ? vcpu_register(v, vcpu_core_id(s->coprocessor.register_number)) : 0);
    vcpu_retire(v, MAINTENANCE_BYTES);
}

/* What the library has left: the syndrome, and the guest's CPSR, which is put back. */
static void read_exception(struct vcpu *v)
{
    struct exit_record *x = &v->exit;
    memset(x, 0, sizeof *x);
    x->hsr = CP(v, 5, 2, 4, 0);
    x->syndrome = syndrome_decode(x->hsr);
    v->cpsr = vcpu_register(v, UC_ARM_REG_SPSR); /* SPSR_hyp */
    vcpu_set_register(v, UC_ARM_REG_CPSR, v->cpsr);
    x->pc = v->pc;
    x->cpsr = v->cpsr;
    x->epoch = v->epoch;
    x->settled = v->settled;
}

bool vcpu_handle(struct vcpu *v)
{
    read_exception(v);
    switch (v->exit.syndrome.exception_class) {
    case CLASS_WFX:
        handle_wait(v);
        return false;
    case CLASS_CP15:
        if (v->exit.syndrome.coprocessor.crn == CRN_TLB) {
            handle_tlb_maintenance(v);
            return false;
        }
        if (v->exit.syndrome.coprocessor.crn == CRN_CACHE) {
            handle_cache_maintenance(v);
            return false;
        }
        return exits_as(v, EXIT_CP15, CP_COUNT_CP15);
    case CLASS_CP15_64: /* no trap of these is asked for */
    case CLASS_CP14:
    case CLASS_CP14_TRANSFER:
    case CLASS_VECTOR:
    case CLASS_CP10:
    case CLASS_CP14_64:
        return exits_as(v, EXIT_CP15, CP_COUNT_CP15);
    case CLASS_HVC:
        return exits_as(v, EXIT_HVC, CP_COUNT_HVC);
    case CLASS_SMC:
        return exits_as(v, EXIT_SMC, CP_COUNT_SMC);
    case CLASS_PREFETCH_ABORT:
        return handle_prefetch_abort(v);
    case CLASS_DATA_ABORT:
        return handle_data_abort(v);
    default:
        return exits_as(v, EXIT_OTHER, CP_COUNT_OTHER);
    }
}

void vcpu_answer(struct vcpu *v, uint64_t answer)
{
    if (!v->latched)
        return;
    v->latched = false;
    const struct exit_record *x = &v->exit;
    if (!x->is_write) {
        uint32_t value = v->cpsr & PSR_E ? swapped((uint32_t)answer, x->size) : (uint32_t)answer;
        value = truncated(value, x->size);
        uint32_t sign = 1u << (8 * x->size - 1);
        if (x->size < 4 && x->syndrome.abort.sign_extends)
            value = (value ^ sign) - sign;
        vcpu_set_register(v, vcpu_core_id(x->syndrome.abort.register_number), value);
    }
    vcpu_retire(v, x->syndrome.length);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Exits: what an exception to EL2 was, what is served of it here, and the answer to an access that Python served. */
#include "vcpu.h"

#include <string.h>

#include <unicorn/arm.h>

#include "architecture.h"

#define WAKES (CP_INTERRUPT | CP_EVENT | CP_QUIT | CP_TICK | CP_PING)

void vcpu_wait_for_interrupt(struct vcpu *v)
{
    cp_count(v->slot, CP_COUNT_WFI);
    cp_activity(&v->slot->process, CP_ACTIVITY_WFI, 0);
    uint64_t start = v->journal ? journal_now_ns() : 0;
    for (;;) {
        vcpu_serve(v);
        if ((atomic_load(&v->slot->line) & 3) || (atomic_load(&v->slot->requests) & (CP_EVENT | CP_QUIT | CP_TICK)))
            break; /* on a tick the run loop looks at the timers: WFI may end early */
        cp_sleep(v->slot, WAKES, SLICE_NS);
        cp_beat(&v->slot->process);
    }
    if (v->journal)
        journal_span(v->journal, JOURNAL_SLEPT, v->number, start, v->pc);
}

/* An abort outside RAM at the guest's own vector: it has none, and would take this abort for ever. */
static bool is_vector(struct vcpu *v, uint32_t address)
{
    uint32_t base = CP(v, 1, 0, 0, 0) & 1u << 13 ? 0xffff0000u : CP(v, 12, 0, 0, 0);
    return address - base < 0x20;
}

/* An access over a page boundary is described as if it were one of the page that faulted: its tail of 4 bytes at the page's
 * start, where the page before is RAM. Only the instruction tells what it is. */
static bool crosses_pages(struct vcpu *v, const struct exit_record *x, uint32_t size)
{
    uint32_t offset = x->hdfar & 0xfff, before;
    if (offset != 0 || size == 1)
        return offset + size > 4096;
    return vcpu_translate(v, x->hdfar - 1, x->is_write, (x->cpsr & 0x1f) != MODE_USR, &before) && stage2_in_ram(v, before);
}

static uint32_t swapped(uint32_t value, uint32_t size)
{
    return size == 4 ? __builtin_bswap32(value) : size == 2 ? __builtin_bswap16((uint16_t)value) : value;
}

static bool data_abort(struct vcpu *v)
{
    struct exit_record *x = &v->exit;
    bool walk = x->hsr >> 7 & 1, maintenance = x->hsr >> 8 & 1;
    if (walk || !maintenance)
        seam_uncount();
    if (stage2_fault(v, x->ipa, false, (x->hsr >> 6 & 1) && !walk && !maintenance))
        return false;
    if (walk) {
        x->kind = EXIT_WALK;
        return true;
    }
    if (maintenance) { /* cache maintenance by address: nothing to do */
        vcpu_retire(v, 4);
        return false;
    }
    x->is_write = x->hsr >> 6 & 1;
    uint32_t size = 1u << (x->hsr >> 22 & 3);
    if (!(x->hsr >> 24 & 1) || crosses_pages(v, x, size)) {
        x->kind = EXIT_NISV;
        x->length = seam_executed(x->pc, x->cpsr & PSR_T, &x->instruction);
        cp_count(v->slot, CP_COUNT_NISV);
        return true;
    }
    x->kind = EXIT_MMIO;
    x->size = size;
    v->latched = true;
    if (x->is_write) {
        uint32_t value = vcpu_register(v, vcpu_core_id(x->hsr >> 16 & 15));
        if (x->size < 4)
            value &= (1u << 8 * x->size) - 1;
        x->value = x->cpsr & PSR_E ? swapped(value, x->size) : value;
    }
    cp_count(v->slot, x->is_write ? CP_COUNT_MMIO_WRITE : CP_COUNT_MMIO_READ);
    return true;
}

bool vcpu_handle(struct vcpu *v)
{
    struct exit_record *x = &v->exit;
    memset(x, 0, sizeof *x);
    x->hsr = CP(v, 5, 2, 4, 0);
    v->cpsr = vcpu_register(v, UC_ARM_REG_SPSR); /* SPSR_hyp */
    vcpu_set_register(v, UC_ARM_REG_CPSR, v->cpsr);
    x->pc = v->pc;
    x->cpsr = v->cpsr;
    x->epoch = v->epoch;
    x->settled = v->settled;
    switch (x->hsr >> 26) {
    case 0x01:
        vcpu_retire(v, x->hsr >> 25 & 1 ? 4 : 2);
        cp_got_on(v->host, v->slot);
        if (!seam_budget_is_spent()) /* a single step over WFI comes back at once, as WFI may */
            vcpu_wait_for_interrupt(v);
        return false;
    case 0x03:
        if ((x->hsr >> 10 & 15) == 8) {
            vcpu_invalidate_tlb(v);
            return false;
        }
        if ((x->hsr >> 10 & 15) == 7) { /* ICIALLU, ICIMVAU, ICIALLUIS: the seam lets them trap */
            cp_count(v->slot, CP_COUNT_ICACHE);
            bool by_address = (x->hsr >> 17 & 7) == 1;
            stage2_sync_code(v, !by_address, by_address ? vcpu_register(v, vcpu_core_id(x->hsr >> 5 & 15)) : 0);
            vcpu_retire(v, 4);
            return false;
        }
        cp_count(v->slot, CP_COUNT_CP15);
        x->kind = EXIT_CP15;
        return true;
    case 0x04: /* no trap of these is asked for: CP15 of 64 bits, */
    case 0x05: /* CP14, */
    case 0x06:
    case 0x07: /* VFP and CP10, */
    case 0x08:
    case 0x0c: /* CP14 of 64 bits */
        cp_count(v->slot, CP_COUNT_CP15);
        x->kind = EXIT_CP15;
        return true;
    case 0x12:
        cp_count(v->slot, CP_COUNT_HVC);
        x->kind = EXIT_HVC;
        return true;
    case 0x13:
        cp_count(v->slot, CP_COUNT_SMC);
        x->kind = EXIT_SMC;
        return true;
    case 0x20:
        x->hifar = CP(v, 6, 0, 4, 2);
        x->hpfar = CP(v, 6, 0, 4, 4);
        x->ipa = (x->hpfar & ~0xfu) << 8 | (x->hifar & 0xfff);
        if (stage2_fault(v, x->ipa, !(x->hsr >> 7 & 1), false))
            return false;
        x->kind = x->hsr >> 7 & 1 ? EXIT_WALK : is_vector(v, x->hifar) ? EXIT_LOST : EXIT_FETCH;
        return true;
    case 0x24:
        x->hdfar = CP(v, 6, 0, 4, 0);
        x->hpfar = CP(v, 6, 0, 4, 4);
        x->ipa = (x->hpfar & ~0xfu) << 8 | (x->hdfar & 0xfff);
        return data_abort(v);
    default:
        cp_count(v->slot, CP_COUNT_OTHER);
        x->kind = EXIT_OTHER;
        return true;
    }
}

/* Complete the access that the last MMIO exit latched: a load's value goes to its register, and the instruction retires. */
void vcpu_answer(struct vcpu *v, uint64_t answer)
{
    if (!v->latched)
        return;
    v->latched = false;
    uint32_t hsr = v->exit.hsr, value = (uint32_t)answer;
    if (!v->exit.is_write) {
        if (v->cpsr & PSR_E)
            value = swapped(value, v->exit.size);
        if (v->exit.size < 4) {
            value &= (1u << 8 * v->exit.size) - 1;
            uint32_t sign = 1u << (8 * v->exit.size - 1);
            if (hsr >> 21 & 1)
                value = (value ^ sign) - sign;
        }
        vcpu_set_register(v, vcpu_core_id(hsr >> 16 & 15), value);
    }
    vcpu_retire(v, hsr >> 25 & 1 ? 4 : 2);
}

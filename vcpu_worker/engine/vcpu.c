/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A vCPU and its run loop.
 *
 * The library is driven as a CPU with Virtualization Extensions whose EL2 is this file. An exception that goes to EL2 is
 * taken by the library itself, so that HSR, HDFAR and HPFAR are its own; then the run is stopped before an instruction of
 * EL2 would be executed, and the guest's CPSR and PC are put back. While a vCPU is outside, `pc` and `cpsr` are the guest's.
 */
#include "vcpu.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include <unicorn/arm.h>

#define HCR_VM (1u << 0)
#define HCR_SWIO (1u << 1)
#define HCR_FMO_IMO_AMO (7u << 3)
#define HCR_VF (1u << 6)
#define HCR_VI (1u << 7)
#define HCR_TWI (1u << 13)
#define HCR_TSC (1u << 19)
#define HCR_TTLB (1u << 25)

#define PSR_T (1u << 5)
#define PSR_I (1u << 7)
#define PSR_A (1u << 8)
#define PSR_E (1u << 9)
#define PSR_IT 0x0600fc00u
#define PSR_J (1u << 24)
#define MODE_USR 0x10u
#define MODE_SVC 0x13u
#define MODE_ABT 0x17u
#define MODE_HYP 0x1au
#define MODE_UND 0x1bu

#define PREFETCH_ABORT 3u     /* the library's EXCP_PREFETCH_ABORT */

#define SLICE_NS 250000000ull /* how long a wait goes on without a beat */
#define WAKES (CP_INTERRUPT | CP_EVENT | CP_QUIT | CP_TICK | CP_PING)

static struct vcpu *the_vcpu; /* one per process: the library calls back without saying for whom */

/* ---- registers ---- */

uint32_t vcpu_register(struct vcpu *v, int id)
{
    uint32_t value = 0;
    uc.reg_read(v->uc, id, &value);
    return value;
}

void vcpu_set_register(struct vcpu *v, int id, uint32_t value)
{
    uc.reg_write(v->uc, id, &value);
}

uint64_t vcpu_cp(struct vcpu *v, uint32_t is64, uint32_t crn, uint32_t crm, uint32_t opc1, uint32_t opc2)
{
    uc_arm_cp_reg reg = { 15, is64, 0, crn, crm, opc1, opc2, 0 };
    uc.reg_read(v->uc, UC_ARM_REG_CP_REG, &reg);
    return reg.val;
}

void vcpu_set_cp(struct vcpu *v, uint32_t is64, uint32_t crn, uint32_t crm, uint32_t opc1, uint32_t opc2,
                 uint64_t value)
{
    uc_arm_cp_reg reg = { 15, is64, 0, crn, crm, opc1, opc2, value };
    uc.reg_write(v->uc, UC_ARM_REG_CP_REG, &reg);
}

/* r0 to r15 as the library numbers them; the caller has checked the range. */
int vcpu_core_id(unsigned n)
{
    return n < 13 ? UC_ARM_REG_R0 + (int)n : n == 13 ? UC_ARM_REG_R13 : n == 14 ? UC_ARM_REG_R14 : UC_ARM_REG_R15;
}

bool vcpu_is_mode(uint32_t mode)
{
    return mode <= 0x1f && 0x888f0000u >> mode & 1;
}

/* A mode that a guest can not have leaves the mode as it is, as an exception return does: the library is less careful when
 * it comes from User mode. */
void vcpu_set_cpsr(struct vcpu *v, uint32_t value)
{
    if (!vcpu_is_mode(value & 0x1f))
        value = (value & ~0x1fu) | (v->cpsr & 0x1f);
    vcpu_set_register(v, UC_ARM_REG_CPSR, value);
    v->cpsr = vcpu_register(v, UC_ARM_REG_CPSR);
}

#define CP(v, crn, crm, opc1, opc2) ((uint32_t)vcpu_cp(v, 0, crn, crm, opc1, opc2))
#define SET_CP(v, crn, crm, opc1, opc2, value) vcpu_set_cp(v, 0, crn, crm, opc1, opc2, value)

/* ---- what the library calls ---- */

static bool on_poll(void)
{
    /* Every request is served outside the guest. */
    return atomic_load(&the_vcpu->slot->requests) & ~the_vcpu->ignored;
}

static void on_hint(bool is_wfe)
{
    cp_count(the_vcpu->slot, is_wfe ? CP_COUNT_WFE : CP_COUNT_YIELD);
    sched_yield(); /* also where there are cores enough for the machine: the host may have more to do */
}

static void on_exception(uc_engine *unused, uint32_t number, void *data)
{
    struct vcpu *v = the_vcpu;
    v->pc = vcpu_register(v, UC_ARM_REG_R15); /* the preferred return address, for every class */
    seam_take_exception();
    uint32_t cpsr = vcpu_register(v, UC_ARM_REG_CPSR);
    if ((cpsr & 0x1f) == MODE_HYP) {
        v->trapped = true;
        uc.emu_stop(v->uc);
        return;
    }
    /* To EL1: the guest's own. A guest whose vectors can not be fetched aborts for ever without starting a block. */
    if (number == PREFETCH_ABORT)
        seam_count();
    if (on_poll() || seam_budget_is_spent())
        uc.emu_stop(v->uc);
}

static bool on_invalid_instruction(uc_engine *unused, void *data)
{
    on_exception(unused, 0, data);
    return true;
}

static const struct seam_events events = { on_poll, on_hint };

/* ---- setting up ---- */

static bool failed(struct vcpu *v, const char *what, uc_err error)
{
    if (error == UC_ERR_OK)
        return false;
    snprintf(v->sentence, sizeof v->sentence, "the engine can not %s: %s", what, uc.strerror(error));
    return true;
}

bool vcpu_open(struct vcpu *v, uint32_t mpidr)
{
    if (the_vcpu != NULL) {
        snprintf(v->sentence, sizeof v->sentence, "a process holds one vCPU, and this one has one already");
        return false;
    }
    uc_hook hook;
    if (failed(v, "be opened", uc.open(UC_ARCH_ARM, UC_MODE_ARM, &v->uc)))
        return false;
    if (failed(v, "be a Cortex-A15", uc.ctl(v->uc, UC_CTL_WRITE(UC_CTL_CPU_MODEL, 1), UC_CPU_ARM_CORTEX_A15))
        || failed(v, "take its translation buffer", uc.ctl(v->uc, UC_CTL_WRITE(UC_CTL_TCG_BUFFER_SIZE, 1), 64u << 20))
        || failed(v, "map the guest's RAM", uc.mem_map_ptr(v->uc, RAM_BASE, v->ram_bytes, UC_PROT_ALL, v->ram))
        || failed(v, "map the stage-2 tables", uc.mem_map_ptr(v->uc, STAGE2_BASE, v->stage2_bytes,
                                                              UC_PROT_READ | UC_PROT_WRITE, (void *)v->stage2))
        || failed(v, "hook exceptions", uc.hook_add(v->uc, &hook, UC_HOOK_INTR, (void *)on_exception, NULL, 1, 0))
        || failed(v, "hook undefined instructions", uc.hook_add(v->uc, &hook, UC_HOOK_INSN_INVALID,
                                                                (void *)on_invalid_instruction, NULL, 1, 0))
        || failed(v, "use exits", uc.ctl(v->uc, UC_CTL_WRITE(UC_CTL_UC_USE_EXITS, 1), 1))) {
        uc.close(v->uc);
        return false;
    }
    v->oversubscribed = v->host->vcpus > v->host->cores;
    v->code_seen = atomic_load(&v->host->code_head);
    v->hcr = HCR_VM | HCR_SWIO | HCR_FMO_IMO_AMO | HCR_TWI | HCR_TSC | (v->as_shipped ? 0 : HCR_TTLB);
    SET_CP(v, 1, 1, 0, 0, 1u | 1u << 8);           /* SCR: NS, HCE (without it HVC is undefined) */
    SET_CP(v, 0, 0, 4, 5, mpidr);                  /* VMPIDR */
    SET_CP(v, 2, 1, 4, 2, 1u << 31 | 1u << 6);     /* VTCR: 32-bit IPA, the walk starts at level 1 */
    vcpu_set_cp(v, 1, 0, 2, 6, 0, STAGE2_BASE);    /* VTTBR */
    SET_CP(v, 1, 1, 4, 0, v->hcr);
    v->cpsr = vcpu_register(v, UC_ARM_REG_CPSR);
    the_vcpu = v;
    seam_enable(!v->as_shipped);
    seam_attach(v->uc, &v->slot->requests, &events);
    if (failed(v, "keep its reset state", uc.context_alloc(v->uc, &v->pristine))
        || failed(v, "keep its reset state", uc.context_save(v->uc, v->pristine))) {
        vcpu_close(v);
        return false;
    }
    return true;
}

void vcpu_close(struct vcpu *v)
{
    if (the_vcpu != v)
        return;
    static const struct seam_events none;
    seam_attach(NULL, NULL, &none);
    if (v->pristine)
        uc.context_free(v->pristine);
    uc.close(v->uc);
    the_vcpu = NULL;
}

bool vcpu_power_on(struct vcpu *v, uint32_t entry, const uint32_t r[3])
{
    if (failed(v, "be reset", uc.context_restore(v->uc, v->pristine)))
        return false;
    vcpu_restored(v);
    seam_set_monitor(UINT64_MAX, 0);
    for (int i = 0; i < 3; i++)
        vcpu_set_register(v, UC_ARM_REG_R0 + i, r[i]);
    v->cpsr = MODE_SVC | 0x1c0u | (entry & 1 ? PSR_T : 0);
    vcpu_set_register(v, UC_ARM_REG_CPSR, v->cpsr);
    v->pc = entry & ~1u;
    return true;
}

/* ---- requests ---- */

/* Drop the translated blocks of the pages that were logged since this vCPU looked last. */
static void flush_code(struct vcpu *v)
{
    uint64_t head = atomic_load(&v->host->code_head);
    if (head - v->code_seen > CP_CODE_LOG) {
        seam_drop_code();
        v->code_seen = head;
        return;
    }
    for (; v->code_seen != head; v->code_seen++) {
        _Atomic uint64_t *slot = &v->host->code_log[v->code_seen % CP_CODE_LOG];
        uint64_t entry = atomic_load(slot);
        for (int patience = 1000; entry >> 32 != (uint32_t)(v->code_seen + 1) && patience; patience--) {
            sched_yield(); /* its writer has taken the place and not filled it yet */
            entry = atomic_load(slot);
        }
        if (entry >> 32 != (uint32_t)(v->code_seen + 1)) { /* overwritten, or its writer died */
            seam_drop_code();
            continue;
        }
        uint32_t page = (uint32_t)entry;
        if (page == CP_CODE_ALL)
            seam_drop_code();
        else if (page <= UINT32_MAX >> 12 && stage2_in_ram(v, page << 12))
            seam_invalidate_code((page << 12) - RAM_BASE, 4096);
    }
}

void vcpu_serve(struct vcpu *v)
{
    uint32_t bits = atomic_load(&v->slot->requests) & (CP_TLB_FLUSH | CP_CODE_FLUSH | CP_INTERRUPT | CP_PING);
    if (bits == 0)
        return;
    /* First take the bit, then look at what it stands for: what is posted after that sets it again. */
    if (v->journal && bits & (CP_TLB_FLUSH | CP_CODE_FLUSH))
        journal_event(v->journal, JOURNAL_FLUSHED, v->number, bits, atomic_load(&v->host->invalidations_begun));
    atomic_fetch_and(&v->slot->requests, ~bits);
    uint32_t posted = atomic_load(&v->slot->flush_posted);
    if (bits & CP_TLB_FLUSH) {
        seam_flush_tlb();
        cp_count(v->slot, CP_COUNT_TLB_FLUSH);
        atomic_store(&v->slot->flush_served, posted);
        if (atomic_load_explicit(&v->host->tlb_discipline, memory_order_relaxed) == CP_TLB_IPI)
            cp_futex_wake(&v->slot->flush_served);
    }
    if (bits & CP_CODE_FLUSH) {
        flush_code(v);
        cp_count(v->slot, CP_COUNT_CODE_FLUSH);
    }
    if (bits & CP_INTERRUPT) {
        uint64_t line = atomic_load(&v->slot->line);
        uint32_t hcr = (v->hcr & ~(HCR_VI | HCR_VF)) | (line & 1 ? HCR_VI : 0) | (line & 2 ? HCR_VF : 0);
        if (hcr != v->hcr) {
            SET_CP(v, 1, 1, 4, 0, v->hcr = hcr);
            if (v->journal)
                journal_event(v->journal, JOURNAL_LINE_TAKEN, v->number, line & 3, v->pc);
        }
        cp_count(v->slot, CP_COUNT_INTERRUPT);
    }
    if (bits & CP_PING) {
        cp_beat(&v->slot->process);
        cp_count(v->slot, CP_COUNT_PING);
    }
}

/* Ask every other vCPU for `bits`, and wait: for those in the guest (broadcast), and with `ipi` also for those that
 * handle an exit. A vCPU that itself waits here, sleeps or is off will flush before it uses a translation again. */
void vcpu_shootdown(struct vcpu *v, uint32_t bits, bool ipi, bool wait)
{
    uint32_t exiting[CP_MAX_VCPUS], ticket[CP_MAX_VCPUS];
    uint32_t n = v->host->vcpus;
    uint64_t start = cp_now_ns();
    uint64_t invalidation = atomic_fetch_add(&v->host->invalidations_begun, 1) + 1;
    if (wait)
        cp_shootdown_begin(v->host);
    for (uint32_t i = 0; i < n; i++) {
        if (i == v->number)
            continue;
        struct cp_vcpu *other = cp_vcpu(v->host, i);
        ticket[i] = atomic_fetch_add(&other->flush_posted, 1) + 1;
        exiting[i] = cp_post(other, bits);
    }
    if (wait) {
        uint32_t mode = atomic_load(&v->slot->mode) & ~(uint32_t)CP_MODE_MASK;
        if (ipi) { /* others may wait for us: we are as good as flushed */
            atomic_store(&v->slot->mode, mode | CP_SLEEPING);
            cp_futex_wake(&v->slot->flush_served);
        }
        for (uint32_t i = 0; i < n; i++) {
            if (i == v->number)
                continue;
            struct cp_vcpu *other = cp_vcpu(v->host, i);
            if (exiting[i] && atomic_load(&other->mode) == exiting[i])
                cp_activity(&v->slot->process, CP_ACTIVITY_SHOOTDOWN, i);
            while (exiting[i] && !cp_wait_left(other, exiting[i], cp_now_ns() + SLICE_NS)) {
                cp_beat(&v->slot->process);
                if (atomic_load(&v->slot->requests) & CP_QUIT)
                    break;
            }
            while (ipi && !(atomic_load(&v->slot->requests) & CP_QUIT)) {
                uint32_t served = atomic_load(&other->flush_served);
                if ((int32_t)(served - ticket[i]) >= 0 || (atomic_load(&other->mode) & CP_MODE_MASK) == CP_SLEEPING
                    || atomic_load(&other->power) != CP_POWER_ON)
                    break;
                cp_activity(&v->slot->process, CP_ACTIVITY_SHOOTDOWN, i);
                cp_futex_wait(&other->flush_served, served, 1000000);
                cp_beat(&v->slot->process);
            }
        }
        if (ipi)
            atomic_store(&v->slot->mode, mode);
        cp_shootdown_end(v->host);
    }
    atomic_fetch_add(&v->host->invalidations_done, 1);
    cp_record(v->slot, CP_HIST_SHOOTDOWN, cp_now_ns() - start);
    if (v->journal)
        journal_span(v->journal, JOURNAL_SHOOTDOWN, v->number, start, bits, ipi, invalidation);
    /* Our own, now. */
    atomic_fetch_or(&v->slot->requests, bits);
    vcpu_serve(v);
}

/* ---- the guest's state moves ---- */

void vcpu_retire(struct vcpu *v, uint32_t length)
{
    v->pc += length;
    uint32_t it = (v->cpsr >> 8 & 0xfc) | (v->cpsr >> 25 & 3);
    if (it == 0)
        return;
    it = it & 7 ? (it & 0xe0) | (it << 1 & 0x1f) : 0;
    v->cpsr = (v->cpsr & ~PSR_IT) | (it & 0xfc) << 8 | (it & 3) << 25;
    vcpu_set_register(v, UC_ARM_REG_CPSR, v->cpsr);
}

static void enter_exception(struct vcpu *v, uint32_t mode, uint32_t vector, uint32_t link)
{
    uint32_t sctlr = CP(v, 1, 0, 0, 0), before = v->cpsr;
    uint32_t cpsr = (before & ~(0x1fu | PSR_IT | PSR_J | PSR_T | PSR_E)) | mode | PSR_I
                  | (sctlr & 1u << 25 ? PSR_E : 0) | (sctlr & 1u << 30 ? PSR_T : 0)
                  | (mode == MODE_ABT ? PSR_A : 0);
    vcpu_set_register(v, UC_ARM_REG_CPSR, cpsr);
    vcpu_set_register(v, UC_ARM_REG_SPSR, before);
    vcpu_set_register(v, UC_ARM_REG_R14, link);
    v->cpsr = cpsr;
    v->pc = (sctlr & 1u << 13 ? 0xffff0000u : CP(v, 12, 0, 0, 0)) + vector;
    v->latched = false;
}

void vcpu_abort(struct vcpu *v, bool prefetch, uint32_t address, bool is_write, uint32_t lpae_status,
                uint32_t short_status)
{
    bool lpae = CP(v, 2, 0, 0, 2) >> 31; /* TTBCR.EAE */
    uint32_t status = (lpae ? 1u << 9 | lpae_status : (short_status & 0xf) | (short_status & 0x10) << 6)
                    | (is_write ? 1u << 11 : 0);
    SET_CP(v, 5, 0, 0, prefetch, status);        /* DFSR or IFSR */
    SET_CP(v, 6, 0, 0, prefetch ? 2 : 0, address); /* DFAR or IFAR */
    cp_count(v->slot, CP_COUNT_ABORT);
    if (v->journal)
        journal_event(v->journal, JOURNAL_ABORTED, v->number, address, is_write, prefetch, v->pc);
    enter_exception(v, MODE_ABT, prefetch ? 0x0c : 0x10, v->pc + (prefetch ? 4 : 8));
}

void vcpu_undefined(struct vcpu *v)
{
    enter_exception(v, MODE_UND, 0x04, v->pc + (v->cpsr & PSR_T ? 2 : 4));
}

/* The engine's context was replaced: what is kept beside it, or comes from outside, has to follow. */
void vcpu_restored(struct vcpu *v)
{
    seam_flush_tlb();
    v->pc = vcpu_register(v, UC_ARM_REG_R15);
    v->cpsr = vcpu_register(v, UC_ARM_REG_CPSR);
    v->latched = false;
    v->hcr &= ~(HCR_VI | HCR_VF);
    SET_CP(v, 1, 1, 4, 0, v->hcr);
    atomic_fetch_or(&v->slot->requests, CP_INTERRUPT); /* look at the line anew */
}

static uint32_t swapped(uint32_t value, uint32_t size)
{
    return size == 4 ? __builtin_bswap32(value) : size == 2 ? __builtin_bswap16((uint16_t)value) : value;
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

/* Translate by the guest's stage 1. Its tables may lie in pages that stage 2 has not seen yet. */
bool vcpu_translate(struct vcpu *v, uint32_t gva, bool write, bool privileged, uint32_t *ipa)
{
    struct seam_translation t;
    while (!seam_translate(gva, write, privileged, &t)) {
        /* A vCPU that was killed while it changed the entry never comes to an end with it. */
        if (t.walk_stopped && !(atomic_load(&v->slot->requests) & CP_QUIT) && stage2_fault(v, t.ipa, false, false))
            continue;
        v->fault_lpae = t.lpae_status;
        v->fault_short = t.short_status;
        return false;
    }
    *ipa = t.ipa;
    return true;
}

bool vcpu_write_ram(struct vcpu *v, uint32_t ipa, const void *data, size_t bytes)
{
    if (!stage2_all_in_ram(v, ipa, bytes))
        return false;
    stage2_bring_in(v, ipa, bytes);
    unsigned char *to = v->ram + (ipa - RAM_BASE);
    if (bytes == 4 && !(ipa & 3))
        atomic_store((_Atomic uint32_t *)to, *(const uint32_t *)data);
    else if (bytes == 8 && !(ipa & 7))
        atomic_store((_Atomic uint64_t *)to, *(const uint64_t *)data);
    else if (bytes == 2 && !(ipa & 1))
        atomic_store((_Atomic uint16_t *)to, *(const uint16_t *)data);
    else
        memcpy(to, data, bytes);
    for (uint32_t page = ipa & ~0xfffu; page <= ((ipa + (uint32_t)bytes - 1) & ~0xfffu); page += 4096)
        stage2_wrote(v, page);
    return true;
}

/* ---- exits ---- */

void vcpu_wait_for_interrupt(struct vcpu *v)
{
    cp_count(v->slot, CP_COUNT_WFI);
    cp_activity(&v->slot->process, CP_ACTIVITY_WFI, 0);
    uint64_t start = v->journal ? journal_now_ns() : 0;
    for (;;) {
        vcpu_serve(v);
        if ((atomic_load(&v->slot->line) & 3) || (atomic_load(&v->slot->requests) & (CP_EVENT | CP_QUIT | CP_TICK)))
            break;
        cp_sleep(v->slot, WAKES, SLICE_NS);
        cp_beat(&v->slot->process);
    }
    if (v->journal)
        journal_span(v->journal, JOURNAL_SLEPT, v->number, start, v->pc);
}

static bool same_stay(uint32_t before, uint32_t now)
{
    bool was_in = (before & CP_MODE_MASK) == CP_IN_GUEST || (before & CP_MODE_MASK) == CP_EXITING;
    bool is_in = (now & CP_MODE_MASK) == CP_IN_GUEST || (now & CP_MODE_MASK) == CP_EXITING;
    return was_in && is_in && before >> 2 == now >> 2;
}

/* A guest's TLB maintenance, and the TLB oracle: a vCPU that is still on the very stay in the guest on which it was
 * before, when the invalidation is done, may use what was invalidated. Flushes are served between stays only. */
static void invalidate_tlb(struct vcpu *v)
{
    uint32_t discipline = atomic_load_explicit(&v->host->tlb_discipline, memory_order_relaxed);
    enum invalidation how = v->next_invalidation;
    v->next_invalidation = INVALIDATION_GOOD;
    if (how == INVALIDATION_LATE || how == INVALIDATION_DROPPED)
        discipline = how == INVALIDATION_LATE ? CP_TLB_EARLY : CP_TLB_LOCAL;
    uint32_t before[CP_MAX_VCPUS], stale = 0;
    uint64_t start = v->journal ? journal_now_ns() : 0;
    cp_count(v->slot, CP_COUNT_TLBI);
    for (uint32_t i = 0; i < v->host->vcpus; i++)
        before[i] = i == v->number ? 0 : atomic_load(&cp_vcpu(v->host, i)->mode);
    if (discipline == CP_TLB_LOCAL) {
        atomic_fetch_add(&v->host->invalidations_begun, 1);
        seam_flush_tlb();
        atomic_fetch_add(&v->host->invalidations_done, 1);
    } else {
        for (int times = how == INVALIDATION_DOUBLED ? 2 : 1; times > 0; times--)
            vcpu_shootdown(v, CP_TLB_FLUSH, discipline == CP_TLB_IPI, discipline != CP_TLB_EARLY);
    }
    for (uint32_t i = 0; i < v->host->vcpus; i++)
        if (same_stay(before[i], atomic_load(&cp_vcpu(v->host, i)->mode))) {
            cp_count(v->slot, CP_COUNT_STALE_TLB);
            stale++;
        }
    if (v->journal)
        journal_span(v->journal, JOURNAL_TLBI, v->number, start, v->pc, discipline, stale,
                     atomic_load(&v->host->invalidations_begun));
    vcpu_retire(v, 4);
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

/* True when Python has to see it. */
static bool handle(struct vcpu *v)
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
        vcpu_wait_for_interrupt(v);
        return false;
    case 0x03:
        if ((x->hsr >> 10 & 15) == 8) {
            invalidate_tlb(v);
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

static bool leave_to_python(struct vcpu *v, enum exit_kind kind)
{
    memset(&v->exit, 0, sizeof v->exit);
    v->exit.kind = kind;
    v->exit.pc = v->pc;
    v->exit.cpsr = v->cpsr;
    return true;
}

/* The world is stopped: stay here until it goes on, or a message waits; the run loop then comes back. */
static void park(struct vcpu *v)
{
    cp_count(v->slot, CP_COUNT_STOPPED);
    cp_activity(&v->slot->process, CP_ACTIVITY_PARKED, 0);
    uint64_t start = v->journal ? journal_now_ns() : 0;
    while ((atomic_load(&v->slot->requests) & (CP_STOP | CP_QUIT | CP_EVENT)) == CP_STOP) {
        cp_park(v->slot, CP_STOP, CP_QUIT | CP_EVENT, SLICE_NS);
        cp_beat(&v->slot->process);
    }
    if (v->journal)
        journal_span(v->journal, JOURNAL_PARKED, v->number, start, v->pc);
    cp_activity(&v->slot->process, CP_ACTIVITY_GUEST, 0);
}

/* We have flushed. Whoever waits for that waits for others too, and those may need this core: with a yield the
 * scheduler would choose between them and us. */
static void keep_out_of_the_way(struct vcpu *v)
{
    uint32_t mode = atomic_load(&v->slot->mode) & ~(uint32_t)CP_MODE_MASK;
    atomic_store(&v->slot->mode, mode | CP_SLEEPING); /* what is posted meanwhile is served before we enter */
    cp_shootdown_park(v->host, PARK_NS);
    atomic_store(&v->slot->mode, mode);
}

static bool run(struct vcpu *v)
{
    struct cp_vcpu *slot = v->slot;
    cp_activity(&slot->process, CP_ACTIVITY_GUEST, 0);
    for (;;) {
        uint32_t requests = atomic_load(&slot->requests) & ~v->ignored;
        if (requests) {
            if (requests & (CP_EVENT | CP_QUIT)) {
                atomic_fetch_and(&slot->requests, ~(uint32_t)CP_EVENT);
                return leave_to_python(v, EXIT_REQUEST);
            }
            if (requests & CP_TICK)
                atomic_fetch_and(&slot->requests, ~(uint32_t)CP_TICK);
            if (requests & CP_STOP)
                park(v);
            vcpu_serve(v);
            if (v->oversubscribed && requests & (CP_TLB_FLUSH | CP_CODE_FLUSH))
                keep_out_of_the_way(v);
            if (atomic_load(&slot->requests) & ~v->ignored)
                continue;
        }
        if (!cp_enter(slot, v->ignored)) {
            cp_leave(slot);
            continue;
        }
        v->trapped = false;
        uc_err error = uc.emu_start(v->uc, v->pc | (v->cpsr & PSR_T ? 1 : 0), 0, 0, 0);
        /* While still counted as in the guest: an invalidation that is done by now was served by us before the instruction
         * that trapped; one that is only begun may be done, and its page reused, as soon as we have left. */
        v->epoch = atomic_load(&v->host->invalidations_begun);
        v->settled = atomic_load(&v->host->invalidations_done) == v->epoch;
        cp_leave(slot);
        if (failed(v, "go on", error))
            return false;
        if (v->trapped) {
            bool leave = handle(v);
            if (v->swap_failed)
                return false;
            if (leave)
                return true;
            cp_activity(&slot->process, CP_ACTIVITY_GUEST, 0);
            atomic_store_explicit(&slot->process.pc, v->pc, memory_order_relaxed);
            continue;
        }
        v->pc = vcpu_register(v, UC_ARM_REG_R15);
        v->cpsr = vcpu_register(v, UC_ARM_REG_CPSR);
        atomic_store_explicit(&slot->process.pc, v->pc, memory_order_relaxed);
        cp_count(slot, CP_COUNT_KICK);
        if (seam_budget_is_spent())
            return leave_to_python(v, EXIT_BUDGET);
    }
}

/* Enter the guest, and go on until Python is needed. The owner of a stopped world may enter it alone. False on an
 * engine error, with `sentence` set. */
bool vcpu_run(struct vcpu *v, uint64_t budget, bool owner)
{
    if (v->swap_failed)
        return false;
    v->ignored = owner ? CP_STOP : 0;
    v->latched = false; /* an exit that was not answered is over: its instruction is executed again, if at all */
    seam_set_budget(budget);
    bool good = run(v);
    v->exit.executed = budget - seam_budget_left();
    return good;
}

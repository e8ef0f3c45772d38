/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A vCPU and its run loop.
 *
 * The library is driven as a CPU with Virtualization Extensions whose EL2 is the engine. An exception that goes to EL2 is
 * taken by the library itself, so that HSR, HDFAR and HPFAR are its own; then the run is stopped before an instruction of
 * EL2 would be executed, and the guest's CPSR and PC are put back. While a vCPU is outside, `pc` and `cpsr` are the guest's.
 */
#include "vcpu.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <unicorn/arm.h>

#include "architecture.h"
#include "seam_walk.h"
#include "seam_coprocessors.h"

#define PREFETCH_ABORT 3u /* the library's EXCP_PREFETCH_ABORT */

static struct vcpu *the_vcpu; /* one per process: the library calls back without saying for whom */

/* ---- what the library calls ---- */

static bool on_poll(void)
{
    /* Every request is served outside the guest, but for HOLD: the second look in one stay comes after an instruction. */
    struct vcpu *v = the_vcpu;
    uint32_t requests = atomic_load(&v->slot->requests);
    if (requests & CP_HOLD) {
        uint32_t stay = atomic_load(&v->slot->mode) | CP_MODE_MASK;
        if (v->held_stay == stay)
            cp_got_on(v->host, v->slot);
        v->held_stay = stay;
    }
    return requests & ~v->ignored;
}

static void on_hint(bool is_wfe)
{
    cp_count(the_vcpu->slot, is_wfe ? CP_COUNT_WFE : CP_COUNT_YIELD);
    turns_give(); /* also where there are cores enough for the machine: the host may have more to do */
}

static void on_exception(uc_engine *unused, uint32_t number, void *data)
{
    struct vcpu *v = the_vcpu;
    v->pc = vcpu_register(v, UC_ARM_REG_R15); /* the preferred return address, for every class */
    if (v->semihosting && vcpu_calls_host(v, number)) {
        v->calls_host = true;
        uc.emu_stop(v->uc);
        return;
    }
    seam_take_exception();
    uint32_t cpsr = vcpu_register(v, UC_ARM_REG_CPSR);
    if ((cpsr & 0x1f) == MODE_HYP) {
        v->trapped = true;
        uc.emu_stop(v->uc);
        return;
    }
    /* To EL1: the guest's own. A guest whose vectors cannot be fetched aborts for ever without starting a block. */
    if (number == PREFETCH_ABORT)
        seam_count();
    if (on_poll() || seam_budget_is_spent())
        uc.emu_stop(v->uc);
}

static bool on_invalid_instruction(uc_engine *unused, void *data)
{
    struct vcpu *v = the_vcpu;
    uint32_t cpsr = vcpu_register(v, UC_ARM_REG_CPSR);
    on_exception(unused, 0, data);
    if (!v->trapped && !v->calls_host)
        vcpu_note_undefined(v, cpsr);
    return true;
}

static const void *memory(uint32_t ipa, int *allowed)
{
    struct vcpu *v = the_vcpu;
    if (!stage2_in_ram(v, ipa))
        return NULL;
    uint64_t entry = atomic_load_explicit(entry_of(v, ipa), memory_order_acquire);
    if (!(entry & VALID))
        return NULL;
    *allowed = (int)(entry >> 6 & 3) | (entry & XN || !(entry & READ_ONLY) ? 0 : SEAM_EXECUTE);
    return v->ram + (ipa - RAM_BASE);
}

static const struct seam_events events = { on_poll, on_hint };

/* ---- setting up ---- */

static bool failed(struct vcpu *v, const char *what, uc_err error)
{
    if (error == UC_ERR_OK)
        return false;
    snprintf(v->sentence, sizeof v->sentence, "the engine cannot %s: %s", what, uc.strerror(error));
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
        /* The library's default is the 1 KiB of ARMv5: blocks that leave one are never chained, and it refills its TLB
         * four times as often. */
        || failed(v, "take pages of 4 KiB", uc.ctl(v->uc, UC_CTL_WRITE(UC_CTL_UC_PAGE_SIZE, 1), 4096u))
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
    v->tlb_seen = atomic_load(&v->host->tlb_head);
    v->hcr = HCR_VM | HCR_SWIO | HCR_FMO_IMO_AMO | HCR_TWI | HCR_TSC | (v->as_shipped ? 0 : HCR_TTLB);
    SET_CP(v, 1, 1, 0, 0, 1u | 1u << 8);           /* SCR: NS, HCE (without it HVC is undefined) */
    SET_CP(v, 0, 0, 4, 5, mpidr);                  /* VMPIDR */
    SET_CP(v, 0, 0, 4, 0, GUEST_MIDR);             /* VPIDR */
    SET_CP(v, 1, 1, 0, 2, 3u << 10);               /* NSACR: VFP and NEON are the guest's to enable */
    SET_CP(v, 1, 1, 4, 1, 6);                      /* HDCR: so are all counters */
    SET_CP(v, 2, 1, 4, 2, 1u << 31 | 1u << 6);     /* VTCR: 32-bit IPA, the walk starts at level 1 */
    vcpu_set_cp(v, 1, 0, 2, 6, 0, STAGE2_BASE);    /* VTTBR */
    SET_CP(v, 1, 1, 4, 0, v->hcr);
    SET_CP(v, 14, 1, 4, 0, 3);                     /* CNTHCTL: the physical counter and timer are the guest's */
    v->cpsr = vcpu_register(v, UC_ARM_REG_CPSR);
    the_vcpu = v;
    timers_open(v);
    seam_enable(!v->as_shipped);
    seam_attach(v->uc, &v->slot->requests, &events);
    coprocessors_describe(v->number, v->host->vcpus);
    if (!v->as_shipped) {
        seam_identify_pmu();
        seam_walk_in(memory);
    }
    if (failed(v, "keep its reset state", uc.context_alloc(v->uc, &v->pristine))
        || failed(v, "keep its reset state", uc.context_save(v->uc, v->pristine))) {
        vcpu_close(v);
        return false;
    }
    if (!turns_open(v)) {
        snprintf(v->sentence, sizeof v->sentence, "the vCPU cannot have a timer for its turns: %s", strerror(errno));
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
    timers_close(v);
    seam_walk_in(NULL);
    turns_close();
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
    timers_reset(v);
    seam_set_monitor(UINT64_MAX, 0);
    for (int i = 0; i < 3; i++)
        vcpu_set_register(v, UC_ARM_REG_R0 + i, r[i]);
    v->cpsr = MODE_SVC | 0x1c0u | (entry & 1 ? PSR_T : 0);
    vcpu_set_register(v, UC_ARM_REG_CPSR, v->cpsr);
    v->pc = entry & ~1u;
    return true;
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

/* ---- running ---- */

static bool exit_to_python(struct vcpu *v, enum exit_kind kind)
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
                return exit_to_python(v, EXIT_REQUEST);
            }
            if (requests & CP_TICK) {
                atomic_fetch_and(&slot->requests, ~(uint32_t)CP_TICK);
                timers_update(v);
            }
            if (requests & CP_STOP)
                park(v);
            vcpu_serve(v);
            if (timers_have_news(v) && requests & CP_TICK)
                return exit_to_python(v, EXIT_TIMER);
            if (v->oversubscribed && requests & (CP_TLB_FLUSH | CP_TLB_PAGES | CP_CODE_FLUSH))
                keep_out_of_the_way(v);
            if (atomic_load(&slot->requests) & ~v->ignored)
                continue;
        }
        if (!cp_enter(slot, v->ignored)) {
            cp_exit(slot);
            continue;
        }
        v->trapped = v->calls_host = false;
        turns_begin();
        uc_err error = uc.emu_start(v->uc, v->pc | (v->cpsr & PSR_T ? 1 : 0), 0, 0, 0);
        /* While still counted as in the guest: an invalidation that is done by now was served by us before the instruction
         * that trapped; one that is only begun may be done, and its page reused, as soon as we have left. */
        v->epoch = atomic_load(&v->host->invalidations_begun);
        v->settled = atomic_load(&v->host->invalidations_done) == v->epoch;
        cp_exit(slot);
        if (failed(v, "go on", error))
            return false;
        if (v->trapped) {
            v->waited_for_page = false;
            bool leave = vcpu_handle(v);
            if (!v->waited_for_page)
                cp_got_on(v->host, slot);
            if (v->swap_failed)
                return false;
            if (leave)
                return true;
            cp_activity(&slot->process, CP_ACTIVITY_GUEST, 0);
            atomic_store_explicit(&slot->process.pc, v->pc, memory_order_relaxed);
            continue;
        }
        if (v->calls_host) {
            cp_count(slot, CP_COUNT_SEMIHOSTING);
            return exit_to_python(v, EXIT_SEMIHOSTING);
        }
        v->pc = vcpu_register(v, UC_ARM_REG_R15);
        v->cpsr = vcpu_register(v, UC_ARM_REG_CPSR);
        atomic_store_explicit(&slot->process.pc, v->pc, memory_order_relaxed);
        cp_count(slot, CP_COUNT_KICK);
        if (seam_is_at_breakpoint())
            return exit_to_python(v, EXIT_BREAKPOINT);
        uint32_t address;
        bool is_write;
        if (seam_is_at_watchpoint(&address, &is_write)) {
            seam_uncount();
            exit_to_python(v, EXIT_WATCHPOINT);
            v->exit.hdfar = address;
            v->exit.is_write = is_write;
            return true;
        }
        if (seam_budget_is_spent())
            return exit_to_python(v, EXIT_BUDGET);
    }
}

/* The run has stopped before an access that is watched: execute that instruction, and no more. One that traps is that exit
 * and no watchpoint; a request that comes first leaves the access for the next run. */
static bool finish_watched(struct vcpu *v)
{
    struct exit_record access = v->exit;
    seam_set_budget(1);
    seam_suspend_stops(true);
    bool good = run(v);
    seam_suspend_stops(false);
    if (good && v->exit.kind == EXIT_BUDGET) {
        v->exit.kind = EXIT_WATCHPOINT;
        v->exit.hdfar = access.hdfar;
        v->exit.is_write = access.is_write;
    }
    return good;
}

/* Enter the guest, and go on until Python is needed. The owner of a stopped world may enter it alone. False on an
 * engine error, with `sentence` set. */
bool vcpu_run(struct vcpu *v, uint64_t budget, bool owner)
{
    if (v->swap_failed)
        return false;
    v->ignored = CP_HOLD | (owner ? CP_STOP : 0);
    v->latched = false; /* an exit that was not answered is over: its instruction is executed again, if at all */
    seam_set_budget(budget);
    bool good = run(v);
    uint64_t left = seam_budget_left();
    if (good && v->exit.kind == EXIT_WATCHPOINT) {
        good = finish_watched(v);
        left -= budget != 0 && seam_budget_left() == 0;
    }
    v->exit.executed = budget - left;
    v->exit.timers = timers_have_news(v);
    return good;
}

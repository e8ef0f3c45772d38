/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The library is driven as a CPU with Virtualization Extensions whose EL2 is the engine. */
#include "vcpu_worker/engine/run/setup.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vcpu_worker/engine/cpu/arm/registers.h"
#include "vcpu_worker/engine/cpu/arm/timer_registers.h"
#include "vcpu_worker/engine/cpu/timers.h"
#include "vcpu_worker/engine/interpose/arm/coprocessors.h"
#include "vcpu_worker/engine/interpose/arm/walk.h"
#include "vcpu_worker/engine/interpose/cpu.h"
#include "vcpu_worker/engine/interpose/interpose.h"
#include "vcpu_worker/engine/run/arm/hypervisor.h"
#include "vcpu_worker/engine/run/hooks.h"
#include "vcpu_worker/engine/run/time_slice.h"

#define TRANSLATION_BUFFER_BYTES (64u << 20)

/* The library's CPU, with the guest's memory. */
static bool open_library_cpu(struct vcpu *v)
{
    if (vcpu_failed(v, "be opened", uc.open(UC_ARCH_ARM, UC_MODE_ARM, &v->uc)))
        return false;
    return !vcpu_failed(v, "be a Cortex-A15", uc.ctl(v->uc, UC_CTL_WRITE(UC_CTL_CPU_MODEL, 1), UC_CPU_ARM_CORTEX_A15))
        /* The library's default is the 1 KiB of ARMv5: blocks that leave one are never chained, and it refills its TLB
         * four times as often. */
        && !vcpu_failed(v, "take pages of 4 KiB", uc.ctl(v->uc, UC_CTL_WRITE(UC_CTL_UC_PAGE_SIZE, 1), PAGE_BYTES))
        && !vcpu_failed(v, "take its translation buffer",
                        uc.ctl(v->uc, UC_CTL_WRITE(UC_CTL_TCG_BUFFER_SIZE, 1), TRANSLATION_BUFFER_BYTES))
        && !vcpu_failed(v, "map the guest's RAM", uc.mem_map_ptr(v->uc, RAM_BASE, v->ram_bytes, UC_PROT_ALL, v->ram))
        && !vcpu_failed(
            v, "map the stage-2 tables",
            uc.mem_map_ptr(v->uc, STAGE2_BASE, v->stage2_bytes, UC_PROT_READ | UC_PROT_WRITE, (void *)v->stage2))
        && hooks_install(v) && !vcpu_failed(v, "use exits", uc.ctl(v->uc, UC_CTL_WRITE(UC_CTL_UC_USE_EXITS, 1), 1));
}

static bool open_rest(struct vcpu *v)
{
    timers_open(v);
    timer_registers_define(v);
    interpose_attach(v->interpose, v->uc, &v->slot->requests, &hooks_events, v);
    interpose_describe_machine(v->interpose, v->number, v->host->vcpus);
    if (!v->as_shipped) {
        interpose_identify_pmu(v->interpose);
        interpose_walk_in(v->interpose, hooks_memory);
    }
    if (vcpu_failed(v, "keep its reset state", uc.context_alloc(v->uc, &v->pristine))
        || vcpu_failed(v, "keep its reset state", uc.context_save(v->uc, v->pristine)))
        return false;
    if (!time_slice_open(v)) {
        snprintf(v->sentence, sizeof v->sentence, "the vCPU cannot have a timer for its time slices: %s",
                 strerror(errno));
        return false;
    }
    return true;
}

bool vcpu_open(struct vcpu *v, uint32_t mpidr)
{
    v->interpose = interpose_new(v->as_shipped);
    if (v->interpose == NULL) {
        snprintf(v->sentence, sizeof v->sentence, "there is no memory for the engine");
        return false;
    }
    interpose_select(v->interpose);
    v->oversubscribed = v->host->vcpus > v->host->cores;
    v->code_seen = atomic_load(&v->host->code_head);
    v->tlb_seen = atomic_load(&v->host->tlb_head);
    if (open_library_cpu(v)) {
        hypervisor_configure(v, mpidr);
        if (open_rest(v))
            return true;
    }
    vcpu_close(v);
    return false;
}

void vcpu_close(struct vcpu *v)
{
    if (v->interpose == NULL)
        return;
    vcpu_select(v);
    static const struct interpose_events none;
    interpose_attach(v->interpose, NULL, NULL, &none, NULL);
    timers_close(v);
    time_slice_close(v);
    if (v->pristine)
        uc.context_free(v->pristine);
    if (v->uc)
        uc.close(v->uc);
    interpose_free(v->interpose);
    v->pristine = NULL;
    v->uc = NULL;
    v->interpose = NULL;
}

void vcpu_select(struct vcpu *v)
{
    interpose_select(v->interpose);
}

bool vcpu_power_on(struct vcpu *v, uint32_t entry, const uint32_t r[3])
{
    if (vcpu_failed(v, "be reset", uc.context_restore(v->uc, v->pristine)))
        return false;
    vcpu_restored(v);
    timers_reset(v);
    interpose_set_monitor(v->interpose, UINT64_MAX, 0);
    hypervisor_enter_at(v, entry, r);
    return true;
}

void vcpu_restored(struct vcpu *v)
{
    interpose_flush_tlb(v->interpose);
    v->pc = vcpu_register(v, UC_ARM_REG_R15);
    v->cpsr = vcpu_register(v, UC_ARM_REG_CPSR);
    v->latched = false;
    hypervisor_restored(v);
    atomic_fetch_or(&v->slot->requests, CP_INTERRUPT); /* look at the line anew */
}

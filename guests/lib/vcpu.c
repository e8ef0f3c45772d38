/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bringing vCPUs up, and handing them work. */
#include "guest.h"
#include "mmu.h"
#include "sync.h"

#define MPIDR_AFFINITY 0x00ffffffu

void secondary_entry(void);

static struct {
    void (*work)(unsigned id);
    uint32_t issued;  /* how often work was handed out */
    uint32_t finished;
} job;
static uint32_t served[MAX_VCPUS]; /* the last job that each vCPU began: it outlives a power cycle */
static uint32_t affinities[MAX_VCPUS];
static bool started;

static void finish(void)
{
    dmb();
    exclusive_add(&job.finished, 1);
    sev();
}

void vcpu_retire(void)
{
    finish();
    for (;;)
        wfi();
}

void vcpu_power_off(void)
{
    finish();
    print("vCPU %u: CPU_OFF returned %d\n", vcpu_id(), psci_cpu_off());
    testdev_exit(1);
}

int32_t vcpu_power_on(unsigned id) { return psci_cpu_on(affinities[id], secondary_entry, id); }

int32_t vcpu_power_state(unsigned id) { return psci_affinity_info(affinities[id]); }

/* A secondary's life: called by start.S. */
void secondary_vcpu_main(unsigned id)
{
    mmu_enable_if_ready();
    for (;;) {
        while (load_acquire(&job.issued) == served[id])
            wfe();
        served[id]++;
        job.work(id);
        finish();
    }
}

/*
 * The machine decides how MPIDR numbers vCPUs (clusters of 4, 8 or 16, or none): offer PSCI one affinity after
 * the other, cluster by cluster; an unknown one is refused.
 */
static void start_secondaries(void)
{
    unsigned next = 1, wanted = vcpu_count();

    affinities[0] = CP15_READ(0, c0, c0, 5) & MPIDR_AFFINITY;
    for (unsigned cluster = 0; next < wanted && cluster < MAX_VCPUS; cluster++)
        for (unsigned core = 0; next < wanted; core++) {
            affinities[next] = cluster << 8 | core;
            int32_t result = vcpu_power_on(next);
            if (result == 0)
                next++;
            else if (result != PSCI_ALREADY_ON)
                break;
        }
    if (next != wanted) {
        print("only %u of %u vCPUs came up\n", next, wanted);
        testdev_exit(1);
    }
    started = true;
}

void on_all_vcpus(void (*work)(unsigned id))
{
    if (!started)
        start_secondaries();
    job.work = work;
    job.finished = 0;
    store_release(&job.issued, job.issued + 1);
    sev();
    work(0);
    finish();
    while (load_acquire(&job.finished) != vcpu_count())
        wfe();
}

/* Called by start.S. */
void boot_vcpu_main(void)
{
    pl011_init();
    if (vcpu_count() > MAX_VCPUS) {
        print("this guest has stacks for %u vCPUs, the machine has %u\n", MAX_VCPUS, vcpu_count());
        testdev_exit(1);
    }
    testdev_exit((uint32_t)main());
}

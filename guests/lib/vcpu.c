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

/* A secondary's life: called by start.S. */
void secondary_vcpu_main(unsigned id)
{
    mmu_enable_if_ready();
    for (uint32_t served = 0;; served++) {
        while (load_acquire(&job.issued) == served)
            wfe();
        job.work(id);
        finish();
    }
}

/*
 * How MPIDR numbers vCPUs is the machine's affair (clusters of 4, 8 or 16, or none): offer PSCI one affinity after
 * the other, cluster by cluster; an unknown one is refused.
 */
static void start_secondaries(void)
{
    unsigned next = 1, wanted = vcpu_count();

    for (unsigned cluster = 0; next < wanted && cluster < MAX_VCPUS; cluster++)
        for (unsigned core = 0; next < wanted; core++) {
            int32_t result = psci_cpu_on(cluster << 8 | core, secondary_entry, next);
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
    testdev_exit((uint32_t)main());
}

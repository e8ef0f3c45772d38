/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A machine's memory files, mapped by a process that is no vCPU's: its device server and its node. */
#ifndef ALLSTOP_MAPPED_MACHINE_H
#define ALLSTOP_MAPPED_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "vm/control/control_page.h"
#include "vm/memory/swap_file.h"

#define MAPPED_SLICE_NS 50000000ull /* how long a wait goes on without a beat */

struct mapped_machine {
    struct cp_host *host;
    size_t host_bytes, stage2_bytes;
    struct guest_pages pages;
};

enum mapped_result { MAPPED, MAPPED_NOT /* errno says why */, MAPPED_OTHERS /* they are not of one machine */ };

static inline void *mapped_file(int fd, size_t *bytes)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return NULL;
    *bytes = (size_t)status.st_size;
    void *at = mmap(NULL, *bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return at == MAP_FAILED ? NULL : at;
}

static inline void mapped_close(struct mapped_machine *m)
{
    if (m->host)
        munmap(m->host, m->host_bytes);
    if (m->pages.ram)
        munmap(m->pages.ram, m->pages.ram_bytes);
    if (m->pages.stage2)
        munmap(m->pages.stage2, m->stage2_bytes);
}

/* Map them into `m`, which is all zeros. To be closed whatever the result. */
static inline enum mapped_result mapped_open(struct mapped_machine *m, int control_fd, int ram_fd, int stage2_fd, int swap_fd)
{
    size_t ram_bytes = 0;
    if ((m->host = mapped_file(control_fd, &m->host_bytes)) != NULL && (m->pages.ram = mapped_file(ram_fd, &ram_bytes)) != NULL)
        m->pages.stage2 = mapped_file(stage2_fd, &m->stage2_bytes);
    m->pages.ram_bytes = ram_bytes;
    m->pages.swap_fd = swap_fd;
    if (m->pages.stage2 == NULL)
        return MAPPED_NOT;
    bool fits = m->host_bytes >= CP_HOST_BYTES && m->host->magic == CP_MAGIC && m->host->vcpus <= CP_MAX_VCPUS
        && m->host_bytes >= CP_HOST_BYTES + (size_t)m->host->vcpus * CP_VCPU_BYTES
        && m->stage2_bytes >= STAGE2_PAGES_OFFSET + ram_bytes / SWAP_PAGE * 8;
    return fits ? MAPPED : MAPPED_OTHERS;
}

/* Whether the launcher or the host's agent has said QUIT to this host's vCPUs. */
static inline bool mapped_run_is_over(const struct mapped_machine *m)
{
    uint32_t vcpu = 0;
    while (vcpu + 1 < m->host->vcpus && cp_is_remote(cp_vcpu(m->host, vcpu)))
        vcpu++;
    return atomic_load(&cp_vcpu(m->host, vcpu)->requests) & CP_QUIT;
}

/* Have this host's vCPUs do what `bits` ask, and wait until all have; `waiter` beats meanwhile, where it is not NULL. */
static inline void mapped_shootdown(const struct mapped_machine *m, uint32_t bits, struct cp_process *waiter)
{
    struct cp_host *host = m->host;
    uint32_t exiting[CP_MAX_VCPUS];
    cp_shootdown_begin(host);
    for (uint32_t i = 0; i < host->vcpus; i++) {
        struct cp_vcpu *v = cp_vcpu(host, i);
        exiting[i] = 0;
        if (cp_is_remote(v))
            continue;
        atomic_fetch_add(&v->flush_posted, 1);
        exiting[i] = cp_post(v, bits);
    }
    for (uint32_t i = 0; i < host->vcpus; i++)
        while (exiting[i] && !cp_wait_exited(cp_vcpu(host, i), exiting[i], cp_now_ns() + MAPPED_SLICE_NS)) {
            if (waiter)
                cp_beat(waiter);
            if (mapped_run_is_over(m))
                break;
        }
    cp_shootdown_end(host);
}

#endif

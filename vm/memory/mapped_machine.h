/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A machine's memory files, mapped by a process that is no vCPU's (its device server, its node), and what such a
 * process does with pages: take one, so that no other process changes it meanwhile, and have this host's vCPUs
 * flush. */
#ifndef ALLSTOP_MAPPED_MACHINE_H
#define ALLSTOP_MAPPED_MACHINE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "vm/control/control_page.h"
#include "vm/memory/swap_file.h"

#define MAPPED_SLICE_NS 50000000ull /* how long a wait goes on without a beat */
#define MAPPED_PARK_NS 200000ull    /* how long to wait for a broken entry before looking again */

struct mapped_machine {
    struct cp_host *host;
    size_t host_bytes, stage2_bytes;
    struct guest_pages pages;
};

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

/* Map them into `m`, which is all zeros. False with an exception set. To be closed whatever the result. */
static inline bool mapped_open(struct mapped_machine *m, int control_fd, int ram_fd, int stage2_fd, int swap_fd)
{
    size_t ram_bytes = 0;
    m->pages.swap_fd = swap_fd;
    if ((m->host = mapped_file(control_fd, &m->host_bytes)) == NULL
        || (m->pages.ram = mapped_file(ram_fd, &ram_bytes)) == NULL
        || (m->pages.stage2 = mapped_file(stage2_fd, &m->stage2_bytes)) == NULL) {
        PyErr_SetFromErrno(PyExc_OSError);
        return false;
    }
    m->pages.ram_bytes = ram_bytes;
    bool fits = m->host_bytes >= CP_HOST_BYTES && m->host->magic == CP_MAGIC && m->host->vcpus <= CP_MAX_VCPUS
        && m->host_bytes >= CP_HOST_BYTES + (size_t)m->host->vcpus * CP_VCPU_BYTES
        && m->stage2_bytes >= STAGE2_PAGES_OFFSET + ram_bytes / SWAP_PAGE * 8;
    if (!fits)
        PyErr_SetString(PyExc_ValueError,
                        "these are not the control page, the RAM and the stage-2 tables of one machine");
    return fits;
}

/* Whether the launcher or the host's agent has said QUIT to this host's vCPUs. */
static inline bool mapped_run_is_over(const struct mapped_machine *m)
{
    uint32_t vcpu = 0;
    while (vcpu + 1 < m->host->vcpus && cp_is_remote(cp_vcpu(m->host, vcpu)))
        vcpu++;
    return atomic_load(&cp_vcpu(m->host, vcpu)->requests) & CP_QUIT;
}

enum taken {
    TAKEN,
    TAKEN_AWAY,   /* the page is another host's */
    TAKEN_OVER,   /* the run is over */
    TAKEN_FAILED, /* the swap file failed: `sentence` says why */
};

struct taken_page {
    uint64_t was;                 /* the entry before it was broken */
    unsigned swapped_in, written; /* 1: it was brought in from the swap file; its frame was written to meanwhile */
    char sentence[SENTENCE_BYTES];
};

/* Take the page that begins at `ipa`: break its entry, so that it is ours to change or copy until we make the entry
 * good again. A page that is swapped out is brought in first. `waiter` beats meanwhile, where it is not NULL. */
static inline enum taken mapped_take(const struct mapped_machine *m, uint32_t ipa, bool write,
                                     struct cp_process *waiter, struct taken_page *page)
{
    _Atomic uint64_t *entry = page_entry(&m->pages, ipa);
    bool hosts = m->host->doorbell != 0;
    page->swapped_in = page->written = 0;
    for (;;) {
        uint64_t old = atomic_load(entry);
        if (hosts && page_is_away(old, write))
            return TAKEN_AWAY;
        if (page_is_fresh(old, hosts) || old & VALID) {
            if (!atomic_compare_exchange_strong(entry, &old, (old & ~VALID) | BROKEN))
                continue;
            page->was = old;
            return TAKEN;
        }
        if (old & SWAPPED) {
            bool written;
            enum swap_result result = swap_page_in(&m->pages, ipa, &written, page->sentence);
            if (result == SWAP_FAILED)
                return TAKEN_FAILED;
            page->swapped_in |= result == SWAP_DONE;
            page->written |= written;
            continue;
        }
        if (old & BROKEN)
            atomic_compare_exchange_strong(entry, &old, old | WANTED);
        if (mapped_run_is_over(m))
            return TAKEN_OVER;
        if (waiter)
            cp_beat(waiter);
        cp_shootdown_park(m->host, MAPPED_PARK_NS);
        sched_yield();
    }
}

/* Have this host's vCPUs do what `bits` ask, and wait until all have; `waiter` beats meanwhile, where it is not
 * NULL. */
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

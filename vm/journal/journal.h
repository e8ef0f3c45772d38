/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The writer's side of a journal: what a process did, readable after it was killed. The reader is
 * allstop.vm.journal.format, the kinds of records are in kinds.h.
 *
 * A file of a header and records of 64 bytes, little-endian, written through a shared mapping: what was stored is in
 * the page cache, and survives a process that is killed. The file grows by WINDOW bytes, whose blocks are allocated
 * first, since a store to a page for which the disk has no room is a SIGBUS. On close it is cut to what it holds.
 *
 * A record counts when its `sequence` is its place in the file, from 1. The sequence is stored last, so a writer killed
 * in the middle of a record leaves one that does not count.
 */
#ifndef ALLSTOP_JOURNAL_H
#define ALLSTOP_JOURNAL_H

#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "kinds.h"

#define JOURNAL_MAGIC 0x0a314c4e524a5341ull /* "ASJRNL1\n" as bytes */
#define JOURNAL_VERSION 1u
#define JOURNAL_WINDOW_BYTES (1u << 20)
#define JOURNAL_CAPSULE "allstop.vm.journal.recorder.journal"

struct journal_header {
    uint64_t magic;
    uint32_t version, record_bytes;
    uint32_t role, vcpu, pid;
    _Atomic uint32_t closed;
    uint64_t began_ns;        /* CLOCK_MONOTONIC, as the records have it */
    uint64_t began_unix_ns;   /* the same moment by the calendar */
    _Atomic uint64_t records; /* once closed */
    _Atomic uint64_t dropped; /* records for which there was no room */
    char process[32];
    /* Zeros, but in a journal that came from another host: the launcher writes them when it takes the journal in. */
    int64_t clock_offset_ns; /* to be added to all times, for the first host's CLOCK_MONOTONIC */
    uint64_t clock_error_ns; /* by which that may be off; 0: not measured */
    char host[64];
    char pad[256 - 176];
};
_Static_assert(sizeof(struct journal_header) == 256, "a journal's header");

struct journal_record {
    uint64_t t_ns; /* CLOCK_MONOTONIC; the end of what took time */
    _Atomic uint32_t sequence;
    uint16_t kind, vcpu;
    uint64_t operands[6]; /* the last one of a span is its duration */
};
_Static_assert(sizeof(struct journal_record) == 64, "a journal's record");

struct journal {
    int fd;
    struct journal_header *header;
    unsigned char *window;  /* JOURNAL_WINDOW_BYTES of the file, at a multiple of that */
    uint64_t window_offset; /* of the next window */
    struct journal_record *next, *end;
    uint64_t written;
};

static inline uint64_t journal_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Map the next window. False when the file system has no room for it, or had none before. */
static bool journal_grow(struct journal *j)
{
    if (j->fd < 0)
        return false;
    if (posix_fallocate(j->fd, (off_t)j->window_offset, JOURNAL_WINDOW_BYTES) != 0)
        return false;
    void *at = mmap(NULL, JOURNAL_WINDOW_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, j->fd, (off_t)j->window_offset);
    if (at == MAP_FAILED)
        return false;
    if (j->window != NULL)
        munmap(j->window, JOURNAL_WINDOW_BYTES);
    j->window = at;
    j->next = (struct journal_record *)(j->window + (j->window_offset ? 0 : sizeof(struct journal_header)));
    j->end = (struct journal_record *)(j->window + JOURNAL_WINDOW_BYTES);
    j->window_offset += JOURNAL_WINDOW_BYTES;
    return true;
}

static inline void journal_put(struct journal *j, uint64_t t_ns, uint32_t kind, uint32_t vcpu,
                               const uint64_t operands[6])
{
    if (j->next == j->end && !journal_grow(j)) {
        if (j->header != NULL)
            atomic_fetch_add_explicit(&j->header->dropped, 1, memory_order_relaxed);
        return;
    }
    struct journal_record *r = j->next++;
    r->t_ns = t_ns;
    r->kind = (uint16_t)kind;
    r->vcpu = (uint16_t)vcpu;
    memcpy(r->operands, operands, sizeof r->operands);
    atomic_store_explicit(&r->sequence, (uint32_t)++j->written, memory_order_release);
}

/* A record of now. */
#define journal_event(j, kind, vcpu, ...)                                                                              \
    journal_put(j, journal_now_ns(), kind, vcpu, (const uint64_t[6]){ __VA_ARGS__ })

/* A span that began at `began_ns` ends now; at most five operands. */
static inline void journal_span_(struct journal *j, uint32_t kind, uint32_t vcpu, uint64_t began_ns,
                                 const uint64_t operands[6])
{
    uint64_t all[6], now_ns = journal_now_ns();
    memcpy(all, operands, sizeof all);
    all[5] = now_ns - began_ns;
    journal_put(j, now_ns, kind, vcpu, all);
}
#define journal_span(j, kind, vcpu, began_ns, ...)                                                                     \
    journal_span_(j, kind, vcpu, began_ns, (const uint64_t[6]){ __VA_ARGS__ })

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* clang-format off: tables */
/* The layout of the control page: one part for the host, one for each vCPU. What its words mean is said where they are
 * used: requests.h, remote_slot.h, shootdown.h, invalidation_log.h, wx_pages.h, telemetry.h.
 */
#ifndef ALLSTOP_LAYOUT_H
#define ALLSTOP_LAYOUT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "access_ledger.h"
#include "rows.h"

#define CP_MAGIC 0x31504f54534c4c41ull /* "ALLSTOP1" as bytes */
#define CP_VERSION 2u
#define CP_HOST_BYTES 8192u
#define CP_VCPU_BYTES 32768u
#define CP_MAX_VCPUS 128u
#define CP_MAX_EVENTS 64u
#define CP_MAX_COUNTERS 64u
#define CP_BUCKETS 1024u /* of a histogram: 64 powers of two, 16 steps each, so a bucket is 6 % wide */
#define CP_UNDEFINED 16u
#define CP_CODE_LOG 256u
#define CP_TLB_LOG 128u
#define CP_WX_PAGES 32u

/* The low two bits of the mode word. */
enum { CP_OUTSIDE = 0, CP_IN_GUEST = 1, CP_EXITING = 2, CP_SLEEPING = 3, CP_MODE_MASK = 3 };
/* Of a vCPU on another host, which is never seen asleep here: its guest entry may be about to end. */
#define CP_ENDING CP_SLEEPING

enum { CP_POWER_OFF = 0, CP_POWER_PENDING = 1, CP_POWER_ON = 2 };

enum { CP_TLB_BROADCAST = 0, CP_TLB_IPI = 1, CP_TLB_LOCAL = 2, CP_TLB_EARLY = 3 };

/* What a process tells of itself, so that others can explain its death. */
struct cp_process {
    _Atomic uint32_t pid;
    _Atomic uint32_t activity;
    _Atomic uint64_t detail;
    _Atomic uint64_t since_ns;
    _Atomic uint64_t heartbeat;
    _Atomic uint32_t pc;
};

/* An access to CP14 or CP15 that the guest took as UNDEFINED: MCR, MRC, MCRR or MRRC without condition and
 * registers. */
struct cp_undefined {
    _Atomic uint32_t access; /* 0: none */
    _Atomic uint32_t times;
};

struct cp_vcpu {
    /* The protocol, on a cache line of its own. */
    _Atomic uint32_t mode;
    _Atomic uint32_t requests;
    _Atomic uint64_t line; /* version << 2 | FIQ << 1 | IRQ */
    _Atomic uint32_t power;
    _Atomic uint32_t flush_posted; /* tickets of TLB_FLUSH: with `ipi`, a vCPU waits for its own ticket to be served */
    _Atomic uint32_t flush_served;
    _Atomic uint32_t doorbell; /* 1 + the node's doorbell: the vCPU is on another host */
    _Atomic uint32_t outbox;   /* ... and these requests have yet to be sent there */
    _Atomic uint32_t want;     /* another host's page that this vCPU needs: cp_want; 0 none */
    _Atomic uint32_t progress; /* grows when the vCPU has retired an instruction since it was last given a page */
    char pad0[64 - 48];
    struct cp_process process;
    char pad1[128 - 64 - sizeof(struct cp_process)];
    _Atomic uint64_t counters[CP_MAX_COUNTERS];
    struct al_ledger performed; /* written by the device server */
    struct al_ledger completed; /* written by the worker, and so is: */
    _Atomic uint64_t issued;    /* accesses begun */
    struct cp_undefined undefined[CP_UNDEFINED];
    char pad2[4096 - 128 - CP_MAX_COUNTERS * 8 - 2 * sizeof(struct al_ledger) - 8
              - CP_UNDEFINED * sizeof(struct cp_undefined)];
    _Atomic uint32_t histogram[CP_HIST_COUNT][CP_BUCKETS];
    char pad3[CP_VCPU_BYTES - 4096 - CP_HIST_COUNT * CP_BUCKETS * 4];
};
_Static_assert(sizeof(struct cp_vcpu) == CP_VCPU_BYTES, "a vCPU's part of the control page");
_Static_assert(CP_COUNTER_COUNT <= CP_MAX_COUNTERS, "counters");

struct cp_host {
    uint64_t magic;
    uint32_t version;
    uint32_t vcpus;
    uint32_t cores;
    _Atomic uint32_t tlb_discipline;
    _Atomic uint32_t wx_pages; /* how many pages are writable and executable now */
    uint32_t time_dilation;    /* how many times slower than the host's the guest's clock is; 1 or more */
    uint64_t clock_base_ns;    /* when the guest's counters were 0, of CLOCK_MONOTONIC */
    uint64_t clock_error_ns;   /* how far off from the first host's; 0: this is the first, or not measured */
    char pad0[64 - 48];
    _Atomic uint64_t invalidations_begun; /* of any kind; grows before any vCPU is asked to flush */
    char pad1[64 - 8];
    _Atomic uint64_t invalidations_done; /* grows when all that have to be waited for have flushed */
    char pad2[64 - 8];
    _Atomic uint64_t stop_epoch;
    char pad3[64 - 8];
    _Atomic uint64_t code_head;   /* entries ever added to the code log */
    _Atomic uint32_t shootdowns;  /* shootdowns that wait for others to flush, and CP_SHOOTDOWN_PARKED */
    _Atomic uint64_t code_writes; /* by devices, into executable pages; grows before each, after invalidations_begun */
    char pad4[64 - 24];
    struct cp_process coordinator;
    char pad5[64 - sizeof(struct cp_process)];
    struct cp_process devices;
    char pad6[64 - sizeof(struct cp_process)];
    struct cp_process debugger;
    char pad8[64 - sizeof(struct cp_process)];
    _Atomic uint64_t code_log[CP_CODE_LOG];      /* (index + 1) << 32 | IPA page number, or CP_CODE_ALL */
    _Atomic uint32_t events_done[CP_MAX_EVENTS]; /* of a scenario, by its events */
    _Atomic uint32_t events_refused[CP_MAX_EVENTS];
    _Atomic uint64_t wx[CP_WX_PAGES];     /* W+X pages: wx_pages.h; 0 is a free place */
    _Atomic uint32_t wx_beyond;           /* W+X pages that found no place */
    _Atomic uint64_t tlb_head;            /* entries ever added to the TLB log */
    _Atomic uint64_t tlb_log[CP_TLB_LOG]; /* (index + 1) << 32 | virtual page number */
    uint32_t doorbell;                    /* 1 + the descriptor that wakes the host's node; 0: there is one host */
    _Atomic uint32_t devices_want;        /* as a vCPU's `want` */
    struct cp_process node;
    uint32_t has_coordinator;              /* of several hosts: a vCPU is PENDING here before it can be ON */
    _Atomic uint32_t coordinator_want;     /* as a vCPU's `want`, for operators; only to read */
    _Atomic uint64_t arrivals;             /* pages that other hosts sent; grows before one is put into its frame */
    _Atomic uint32_t coordinator_progress; /* as a vCPU's: it has read the page, or wants it no more */
    char pad7[CP_HOST_BYTES - 64 * 8 - CP_CODE_LOG * 8 - CP_MAX_EVENTS * 8 - CP_WX_PAGES * 8 - 16 - CP_TLB_LOG * 8 - 32
              - sizeof(struct cp_process)];
};
_Static_assert(sizeof(struct cp_host) == CP_HOST_BYTES, "the host's part of the control page");

static inline struct cp_vcpu *cp_vcpu(struct cp_host *host, uint32_t vcpu)
{
    return (struct cp_vcpu *)((char *)host + CP_HOST_BYTES) + vcpu;
}

#endif

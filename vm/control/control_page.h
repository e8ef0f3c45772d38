/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The control page: how the processes of one host ask each other to leave the guest.
 *
 * The protocol is that of KVM (Linux, Documentation/virt/kvm/vcpu-requests). Named actors:
 *
 *   vCPU V enters the guest               Asker A wants something of V
 *   ------------------------------        ----------------------------------------
 *   mode[V] = IN_GUEST                    requests[V] |= bit
 *   full fence                            full fence
 *   requests[V] != 0 ?                    mode[V] == IN_GUEST ?
 *     yes: mode[V] = OUTSIDE, serve         yes: mode[V] = EXITING; V polls requests[V]
 *     no:  run                              no:  V will see the bit before it enters
 *
 * One of the two fences comes first, so either V sees A's bit or A sees V in the guest: a request is never lost.
 * `mode` also carries a count of entries in its upper 30 bits, so that A, which waits for "V has left the guest",
 * is not fooled by a V that left and came back: A waits until the word differs from the EXITING one that it saw.
 * Waiting is by futex on that word; V wakes it when it leaves a guest that somebody wanted it to leave.
 *
 * V sleeps (WFI, parked by STOP, switched off) on a futex too: on its own `requests` word.
 *
 * A vCPU on another host has a slot here, too: what is posted there goes into its `outbox`, and the host's node, whose
 * doorbell is rung, carries it over. To whoever waits the vCPU is always in the guest, on a stay that ends when its own host's
 * node has said that it has left, or is outside (cp_post_remote).
 */
#ifndef ALLSTOP_CONTROL_PAGE_H
#define ALLSTOP_CONTROL_PAGE_H

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "access_ledger.h"

#define CP_MAGIC 0x31504f54534c4c41ull /* "ALLSTOP1" as bytes */
#define CP_VERSION 2u
#define CP_HOST_BYTES 8192u
#define CP_VCPU_BYTES 32768u
#define CP_MAX_VCPUS 128u
#define CP_MAX_EVENTS 64u

/* mode, in the low two bits of the mode word */
enum { CP_OUTSIDE = 0, CP_IN_GUEST = 1, CP_EXITING = 2, CP_SLEEPING = 3, CP_MODE_MASK = 3 };
#define CP_ENDING CP_SLEEPING /* of a vCPU on another host, which is never seen asleep: its stay may be about to end */

/* request bits */
enum {
    CP_STOP = 1u << 0,       /* stay outside until the bit is cleared */
    CP_TLB_FLUSH = 1u << 1,  /* forget every translation */
    CP_CODE_FLUSH = 1u << 2, /* read the code log, drop the translated blocks of those pages */
    CP_INTERRUPT = 1u << 3,  /* the interrupt line word has changed */
    CP_EVENT = 1u << 4,      /* leave to Python: a message waits */
    CP_PING = 1u << 5,       /* beat */
    CP_QUIT = 1u << 6,       /* leave to Python: the run is over */
    CP_TICK = 1u << 7,       /* look at the timers */
    CP_TLB_PAGES = 1u << 8,  /* read the TLB log, forget these pages' translations */
    CP_HOLD = 1u << 9,       /* say when an instruction has retired: somebody waits for a page that this vCPU was given */
};

enum { CP_POWER_OFF = 0, CP_POWER_PENDING = 1, CP_POWER_ON = 2 };

enum { CP_TLB_BROADCAST = 0, CP_TLB_IPI = 1, CP_TLB_LOCAL = 2, CP_TLB_EARLY = 3 };

#define CP_COUNTERS(X)                                                                                       \
    X(MMIO_READ, "mmio_read") X(MMIO_WRITE, "mmio_write") X(NISV, "nisv") X(HVC, "hvc") X(SMC, "smc")        \
    X(WFI, "wfi") X(WFE, "wfe") X(YIELD, "yield") X(TLBI, "tlbi") X(CP15, "cp15") X(STAGE2_FAULT, "stage2")  \
    X(TOGGLE_EXEC, "flip_to_exec") X(TOGGLE_WRITE, "flip_to_write") X(SHARED_CODE, "write_exec_pages")           \
    X(TLB_FLUSH, "tlb_flush") X(CODE_FLUSH, "code_flush") X(INTERRUPT, "interrupt") X(KICK, "kick")          \
    X(STOPPED, "stopped") X(ICACHE, "icache") X(PING, "ping") X(UNASSIGNED, "unassigned")                    \
    X(ABORT, "abort_injected")                                                                               \
    X(FETCH_RETRY, "fetch_retry") X(FETCH_REFUSED, "fetch_refused") X(FETCH_DISAGREED, "fetch_disagreed")    \
    X(FETCH_WRONG, "fetch_wrong") X(STALE_TLB, "stale_tlb") X(RESENT, "mmio_resent")                         \
    X(STALE, "mmio_stale_reply") X(SWAP_OUT, "swap_out") X(SWAP_IN, "swap_in")                               \
    X(SWAP_WRITTEN, "swap_written") X(OTHER, "other") X(MMIO_WRONG, "mmio_wrong")                         \
    X(UNDEFINED, "undefined_access") X(SEMIHOSTING, "semihosting") X(SEMIHOSTING_BAD, "semihosting_refused") \
    X(PAGE_READ, "page_reads") X(PAGE_WRITE, "page_writes")

enum {
#define X(name, text) CP_COUNT_##name,
    CP_COUNTERS(X)
#undef X
    CP_COUNTER_COUNT
};

enum { CP_HIST_MMIO, CP_HIST_STOP, CP_HIST_SHOOTDOWN, CP_HIST_FETCH, CP_HIST_PAGE, CP_HIST_COUNT };
#define CP_BUCKETS 1024u /* 64 powers of two, 16 steps each: 6 % wide */

#define CP_ACTIVITIES(X)                                                                                     \
    X(NONE, "starting") X(OFF, "switched off") X(GUEST, "in the guest") X(WFI, "asleep in WFI")              \
    X(MMIO, "waiting for the device at") X(WAIT_WORLD, "waiting for the world to stop")                      \
    X(OWN_WORLD, "holding the stopped world") X(PARKED, "parked by a stop") X(PSCI, "in a PSCI call")        \
    X(FETCH, "fetching the instruction at") X(SHOOTDOWN, "waiting for a TLB invalidation by vCPU")           \
    X(DEVICE, "in the device at") X(STOPPING, "stopping the world, vCPUs missing:") X(IDLE, "idle") \
    X(SEMIHOSTING, "calling the host, operation") X(PAGE, "waiting for another host's page at")

enum {
#define X(name, text) CP_ACTIVITY_##name,
    CP_ACTIVITIES(X)
#undef X
    CP_ACTIVITY_COUNT
};

/* What a process tells of itself, for whoever has to explain its death. */
struct cp_process {
    _Atomic uint32_t pid;
    _Atomic uint32_t activity;
    _Atomic uint64_t detail;
    _Atomic uint64_t since_ns;
    _Atomic uint64_t heartbeat;
    _Atomic uint32_t pc;
};

/* An access to CP14 or CP15 that the guest took as UNDEFINED: MCR, MRC, MCRR or MRRC without condition and registers. */
struct cp_undefined {
    _Atomic uint32_t access; /* 0: none */
    _Atomic uint32_t times;
};
#define CP_UNDEFINED 16u

struct cp_vcpu {
    /* The protocol, on a cache line of its own. */
    _Atomic uint32_t mode;
    _Atomic uint32_t requests;
    _Atomic uint64_t line;         /* version << 2 | FIQ << 1 | IRQ */
    _Atomic uint32_t power;
    _Atomic uint32_t flush_posted; /* tickets of TLB_FLUSH: the ipi discipline waits for its own to be served */
    _Atomic uint32_t flush_served;
    _Atomic uint32_t doorbell;     /* 1 + the node's doorbell: the vCPU is on another host */
    _Atomic uint32_t outbox;       /* ... and what was posted there and has to be carried over */
    _Atomic uint32_t want;         /* a page of another host's that this vCPU needs: cp_want; 0 none */
    _Atomic uint32_t progress;     /* grows when the vCPU got on since it was last given a page */
    char pad0[64 - 48];
    struct cp_process process;
    char pad1[128 - 64 - sizeof(struct cp_process)];
    _Atomic uint64_t counters[64];
    struct al_ledger performed;    /* the device server's */
    struct al_ledger completed;    /* the worker's, as is: */
    _Atomic uint64_t issued;       /* accesses begun */
    struct cp_undefined undefined[CP_UNDEFINED];
    char pad2[4096 - 128 - 64 * 8 - 2 * sizeof(struct al_ledger) - 8 - CP_UNDEFINED * sizeof(struct cp_undefined)];
    _Atomic uint32_t histogram[CP_HIST_COUNT][CP_BUCKETS];
    char pad3[CP_VCPU_BYTES - 4096 - CP_HIST_COUNT * CP_BUCKETS * 4];
};
_Static_assert(sizeof(struct cp_vcpu) == CP_VCPU_BYTES, "a vCPU's part of the control page");
_Static_assert(CP_COUNTER_COUNT <= 64, "counters");

#define CP_SHOOTDOWN_PARKED (1u << 31) /* in `shootdowns`: somebody sleeps until they are over */
#define CP_CODE_LOG 256u
#define CP_WX_PAGES 32u
#define CP_CODE_ALL 0xffffffffu /* in the code log: every page */
#define CP_TLB_LOG 128u

struct cp_host {
    uint64_t magic;
    uint32_t version;
    uint32_t vcpus;
    uint32_t cores;
    _Atomic uint32_t tlb_discipline;
    _Atomic uint32_t wx_pages;  /* how many pages are writable and executable at a time */
    uint32_t time_dilation;        /* how many times slower than the host's the guest's clock is; 1 or more */
    uint64_t clock_base_ns;        /* when the guest's counters were 0, of CLOCK_MONOTONIC */
    uint64_t clock_error_ns;       /* by which that may differ from the first host's; 0: this is it, or nobody has asked */
    char pad0[64 - 48];
    _Atomic uint64_t invalidations_begun; /* of any kind; grows before anybody is asked to flush */
    char pad1[64 - 8];
    _Atomic uint64_t invalidations_done;  /* grows when those that have to be waited for have flushed */
    char pad2[64 - 8];
    _Atomic uint64_t stop_epoch;
    char pad3[64 - 8];
    _Atomic uint64_t code_head;    /* entries ever added to the code log */
    _Atomic uint32_t shootdowns;   /* vCPUs that wait for others to flush, and CP_SHOOTDOWN_PARKED */
    _Atomic uint64_t code_writes;  /* by devices, into executable pages; grows before each, after invalidations_begun */
    char pad4[64 - 24];
    struct cp_process coordinator;
    char pad5[64 - sizeof(struct cp_process)];
    struct cp_process devices;
    char pad6[64 - sizeof(struct cp_process)];
    struct cp_process debugger;
    char pad8[64 - sizeof(struct cp_process)];
    /* Pages whose translated blocks must go: (index + 1) << 32 | IPA page number. */
    _Atomic uint64_t code_log[CP_CODE_LOG];
    _Atomic uint32_t events_done[CP_MAX_EVENTS];    /* of a scenario, by its events */
    _Atomic uint32_t events_refused[CP_MAX_EVENTS];
    /* Mixed pages: number << 32 | milliseconds of CLOCK_MONOTONIC at which one may be tried as an ordinary page again.
     * 0 is a free place. Those that find no place are counted in `wx_beyond`, and stay mixed. */
    _Atomic uint64_t wx[CP_WX_PAGES];
    _Atomic uint32_t wx_beyond;
    /* Virtual pages whose translations must go: (index + 1) << 32 | page number. */
    _Atomic uint64_t tlb_head; /* entries ever added to the log */
    _Atomic uint64_t tlb_log[CP_TLB_LOG];
    uint32_t doorbell;              /* 1 + the descriptor by which the host's node is called; 0: the only host */
    _Atomic uint32_t devices_want;  /* as a vCPU's */
    struct cp_process node;
    uint32_t has_coordinator;       /* of several hosts: a vCPU is PENDING here before it can be on */
    _Atomic uint32_t coordinator_want;     /* as a vCPU's, for operators, who only read */
    _Atomic uint64_t arrivals;             /* pages that other hosts sent; grows before one is put into its frame */
    _Atomic uint32_t coordinator_progress; /* as a vCPU's: it has read the page that it was given, or wants it no more */
    char pad7[CP_HOST_BYTES - 64 * 8 - CP_CODE_LOG * 8 - CP_MAX_EVENTS * 8 - CP_WX_PAGES * 8 - 16 - CP_TLB_LOG * 8 - 32 - sizeof(struct cp_process)];
};
_Static_assert(sizeof(struct cp_host) == CP_HOST_BYTES, "the host's part of the control page");

static inline struct cp_vcpu *cp_vcpu(struct cp_host *host, uint32_t vcpu)
{
    return (struct cp_vcpu *)((char *)host + CP_HOST_BYTES) + vcpu;
}

static inline uint64_t cp_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Sleep while *word == seen, at most timeout_ns. Returns 0 when woken or changed, ETIMEDOUT or EINTR. */
static inline int cp_futex_wait(_Atomic uint32_t *word, uint32_t seen, uint64_t timeout_ns)
{
    struct timespec t = { (time_t)(timeout_ns / 1000000000u), (long)(timeout_ns % 1000000000u) };
    if (syscall(SYS_futex, word, FUTEX_WAIT, seen, &t, NULL, 0) == 0 || errno == EAGAIN)
        return 0;
    return errno;
}

static inline void cp_futex_wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static inline void cp_ring(uint32_t doorbell)
{
    uint64_t one = 1;
    while (doorbell && write((int)doorbell - 1, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

static inline bool cp_is_remote(struct cp_vcpu *v)
{
    return atomic_load_explicit(&v->doorbell, memory_order_relaxed) != 0;
}

#define CP_CHANGED (1u << 31) /* in an outbox, of an own vCPU: its power has changed */

/* cp_post for a vCPU on another host. The node takes the outbox, and begins a new stay when all that it took was
 * acknowledged and nothing came meanwhile.
 *
 *   asker A                                  node
 *   outbox |= bits                           taken = outbox, outbox = 0; sends it, one more under way
 *   mode = EXITING (this stay)               an acknowledgement: one less under way; when there is none any more:
 *   outbox |= bits                             mode = ENDING (this stay)
 *                                              outbox == 0 ? and mode still ENDING: a new stay, by compare and swap
 *
 * The node looks at two words, so it says first that it is about to. If A's first |= comes after the node's look, A's mark
 * comes after ENDING and undoes it, or comes after the new stay and marks that. So a stay never ends before what was posted
 * before its mark was acknowledged. If the new stay begins before A marks one, A's second |= has it end, too. The marks of a
 * stay come and go: who waits looks at its count alone (cp_wait_exited). docs/model/stop.pml checks all this.
 *
 * STOP does not go this way. It is the coordinator's to set and to take back, which says so to each host's node itself
 * (StopHost, ResumeHost); were it told by both ways, the later of two messages would not be the newer. */
static inline uint32_t cp_post_remote(struct cp_vcpu *v, uint32_t bits)
{
    uint32_t mode, exiting;
    atomic_fetch_or(&v->requests, bits & CP_QUIT); /* for whoever looks here whether the run is over */
    atomic_fetch_or(&v->outbox, bits);
    do {
        mode = atomic_load(&v->mode);
        exiting = (mode & ~CP_MODE_MASK) | CP_EXITING;
    } while (mode != exiting && !atomic_compare_exchange_strong(&v->mode, &mode, exiting));
    atomic_fetch_or(&v->outbox, bits);
    cp_ring(atomic_load(&v->doorbell));
    return exiting;
}

/* Switch V on or off, as those of its host see it; its node tells the other hosts. */
static inline void cp_set_power(struct cp_host *host, struct cp_vcpu *v, uint32_t power)
{
    atomic_store(&v->power, power);
    if (host->doorbell && !cp_is_remote(v)) {
        atomic_fetch_or(&v->outbox, CP_CHANGED);
        cp_ring(host->doorbell);
    }
}

/* Ask vCPU v for `bits`. Returns the mode word to wait on when v is in the guest (low bits EXITING), else 0.
 *
 * V may leave, serve the request and be in again before A looks at `mode`: that later stay has nothing that would end
 * it, and who waits for its end waits for ever. So A marks a stay only while the request is pending. If it is pending
 * when A looks, and the stay is still the one that A saw before that, then V has to leave that stay to serve it. */
static inline uint32_t cp_post(struct cp_vcpu *v, uint32_t bits)
{
    if (cp_is_remote(v))
        return cp_post_remote(v, bits);
    atomic_fetch_or(&v->requests, bits);
    for (;;) {
        uint32_t mode = atomic_load(&v->mode), exiting = (mode & ~CP_MODE_MASK) | CP_EXITING;
        switch (mode & CP_MODE_MASK) {
        case CP_IN_GUEST:
        case CP_EXITING:
            if (!(atomic_load(&v->requests) & bits))
                return 0; /* served */
            if (mode != exiting && !atomic_compare_exchange_strong(&v->mode, &mode, exiting))
                continue;
            return exiting;
        case CP_SLEEPING:
            if (bits & ~(uint32_t)CP_STOP) /* a sleeper is outside, and will see STOP before it enters */
                cp_futex_wake(&v->requests);
            return 0;
        default:
            return 0;
        }
    }
}

static inline void cp_clear(struct cp_vcpu *v, uint32_t bits)
{
    atomic_fetch_and(&v->requests, ~bits);
    if ((atomic_load(&v->mode) & CP_MODE_MASK) == CP_SLEEPING) /* else V has yet to look at its requests */
        cp_futex_wake(&v->requests);
}

/* V is about to ask the coordinator for a stopped world: it need not wait for that message to arrive to have the others
 * leave the guest. Nothing is granted by this. The stop that V asks for posts STOP again and waits for everybody, and its
 * end takes STOP back from everybody; an earlier stop that ends in between takes this back too, which costs time only. */
static inline void cp_head_start(struct cp_host *host, uint32_t asker)
{
    for (uint32_t i = 0; i < host->vcpus; i++)
        if (i != asker && !cp_is_remote(cp_vcpu(host, i))) /* whose stops are the coordinator's to say */
            cp_post(cp_vcpu(host, i), CP_STOP);
}

/* Whether this host has a core for each vCPU that computes, not counting `vcpu`, and `needed` more. */
static inline bool cp_is_a_core_free(struct cp_host *host, uint32_t vcpu, uint32_t needed)
{
    for (uint32_t i = 0; i < host->vcpus; i++) {
        struct cp_vcpu *v = cp_vcpu(host, i);
        if (i != vcpu && !cp_is_remote(v) && atomic_load_explicit(&v->power, memory_order_relaxed) == CP_POWER_ON
            && (atomic_load_explicit(&v->mode, memory_order_relaxed) & CP_MODE_MASK) != CP_SLEEPING
            && !(atomic_load_explicit(&v->requests, memory_order_relaxed) & CP_STOP) && ++needed > host->cores)
            return false;
    }
    return needed <= host->cores;
}

/* Whether V, which waits for an answer, may poll for it: there is a core for V, one for who answers, and one for each
 * other vCPU that computes. (KVM polls before it halts a vCPU for the same reason: waking a sleeper costs more than many
 * an answer. But it has a core of its own to waste.) */
static inline bool cp_may_poll(struct cp_host *host, uint32_t vcpu)
{
    return cp_is_a_core_free(host, vcpu, 2);
}

/* Wait until v has left the entry that `exiting` names. False when `deadline_ns` has passed. */
static inline bool cp_wait_exited(struct cp_vcpu *v, uint32_t exiting, uint64_t deadline_ns)
{
    uint32_t ignored = cp_is_remote(v) ? CP_MODE_MASK : 0, mode;
    while (((mode = atomic_load(&v->mode)) | ignored) == (exiting | ignored)) {
        uint64_t now = cp_now_ns();
        if (now >= deadline_ns)
            return false;
        cp_futex_wait(&v->mode, mode, deadline_ns - now);
    }
    return true;
}

/* V goes in. False when a request, other than `ignored`, came first: the vCPU leaves again and serves it. */
static inline bool cp_enter(struct cp_vcpu *v, uint32_t ignored)
{
    uint32_t entry = (atomic_load_explicit(&v->mode, memory_order_relaxed) | CP_MODE_MASK) + 1;
    atomic_store(&v->mode, entry | CP_IN_GUEST); /* seq_cst: the full fence */
    return (atomic_load(&v->requests) & ~ignored) == 0;
}

/* V leaves, or wakes up; whoever waits for that is told. */
static inline void cp_exit(struct cp_vcpu *v)
{
    uint32_t mode = atomic_load_explicit(&v->mode, memory_order_relaxed);
    uint32_t was = atomic_exchange(&v->mode, mode & ~CP_MODE_MASK);
    if ((was & CP_MODE_MASK) == CP_EXITING)
        cp_futex_wake(&v->mode);
}

/* V sleeps until one of `wake` is requested. Returns 0 when one is, else ETIMEDOUT or EINTR. */
static inline int cp_sleep(struct cp_vcpu *v, uint32_t wake, uint64_t timeout_ns)
{
    uint32_t mode = atomic_load_explicit(&v->mode, memory_order_relaxed) & ~CP_MODE_MASK;
    uint64_t deadline = cp_now_ns() + timeout_ns;
    int result = 0;
    atomic_store(&v->mode, mode | CP_SLEEPING);
    for (;;) {
        uint32_t seen = atomic_load(&v->requests);
        if (seen & wake)
            break;
        uint64_t now = cp_now_ns();
        if (now >= deadline) {
            result = ETIMEDOUT;
            break;
        }
        result = cp_futex_wait(&v->requests, seen, deadline - now);
        if (result == EINTR)
            break;
    }
    atomic_store(&v->mode, mode);
    return result;
}

/* V is parked until none of `bits` is requested, or one of `unless`; as a sleeper, so that a post wakes it. */
static inline int cp_park(struct cp_vcpu *v, uint32_t bits, uint32_t unless, uint64_t timeout_ns)
{
    uint32_t mode = atomic_load_explicit(&v->mode, memory_order_relaxed) & ~CP_MODE_MASK;
    uint64_t deadline = cp_now_ns() + timeout_ns;
    int result = 0;
    atomic_store(&v->mode, mode | CP_SLEEPING);
    for (;;) {
        uint32_t seen = atomic_load(&v->requests);
        if (!(seen & bits) || (seen & unless))
            break;
        uint64_t now = cp_now_ns();
        if (now >= deadline) {
            result = ETIMEDOUT;
            break;
        }
        result = cp_futex_wait(&v->requests, seen, deadline - now);
        if (result == EINTR)
            break;
    }
    atomic_store(&v->mode, mode);
    return result;
}

/* A vCPU waits for others to flush. Before it posts: whoever serves its post has to see it. */
static inline void cp_shootdown_begin(struct cp_host *host)
{
    atomic_fetch_add(&host->shootdowns, 1);
}

static inline void cp_shootdown_end(struct cp_host *host)
{
    if (atomic_fetch_sub(&host->shootdowns, 1) == (CP_SHOOTDOWN_PARKED | 1)) {
        atomic_fetch_and(&host->shootdowns, ~CP_SHOOTDOWN_PARKED);
        cp_futex_wake(&host->shootdowns);
    }
}

/* Sleep until nobody waits for others to flush, at most timeout_ns. */
static inline void cp_shootdown_park(struct cp_host *host, uint64_t timeout_ns)
{
    uint64_t deadline = cp_now_ns() + timeout_ns;
    for (;;) {
        uint32_t seen = atomic_load(&host->shootdowns);
        uint64_t now = cp_now_ns();
        if ((seen & ~CP_SHOOTDOWN_PARKED) == 0 || now >= deadline)
            return;
        if (!(seen & CP_SHOOTDOWN_PARKED)
            && !atomic_compare_exchange_strong(&host->shootdowns, &seen, seen | CP_SHOOTDOWN_PARKED))
            continue;
        cp_futex_wait(&host->shootdowns, seen | CP_SHOOTDOWN_PARKED, deadline - now);
    }
}

/* The newest version of the line word wins, whichever way it came. True when `line` was news. */
static inline bool cp_set_line(struct cp_vcpu *v, uint64_t line)
{
    uint64_t old = atomic_load(&v->line);
    do {
        if ((line >> 2) <= (old >> 2))
            return false;
    } while (!atomic_compare_exchange_weak(&v->line, &old, line));
    return ((old ^ line) & 3) != 0;
}

/* A page that somebody on this host needs of another host's, never 0: offset in it / 8, number + 1, for execution, to write. */
static inline uint32_t cp_want(uint32_t ipa, bool write, bool execute)
{
    return (ipa >> 3 & 511) << 23 | ((ipa >> 12) + 1) << 2 | (uint32_t)execute << 1 | (uint32_t)write;
}

static inline uint32_t cp_wanted_page(uint32_t want)
{
    return (want >> 2 & 0x1fffff) - 1;
}

/* V got on: pages that it was given to get there may be taken back. */
static inline void cp_got_on(struct cp_host *host, struct cp_vcpu *v)
{
    atomic_fetch_add(&v->progress, 1);
    if (atomic_load(&v->requests) & CP_HOLD) {
        atomic_fetch_and(&v->requests, ~(uint32_t)CP_HOLD);
        cp_ring(host->doorbell);
    }
}

static inline void cp_count(struct cp_vcpu *v, unsigned counter)
{
    /* One writer: a plain increment that readers see whole. */
    atomic_store_explicit(&v->counters[counter],
                          atomic_load_explicit(&v->counters[counter], memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

/* One writer. What comes when the table is full is counted, but not named. */
static inline void cp_note_undefined(struct cp_vcpu *v, uint32_t access)
{
    for (struct cp_undefined *u = v->undefined; u < v->undefined + CP_UNDEFINED; u++) {
        uint32_t known = atomic_load_explicit(&u->access, memory_order_relaxed);
        if (known != 0 && known != access)
            continue;
        atomic_fetch_add_explicit(&u->times, 1, memory_order_relaxed);
        atomic_store_explicit(&u->access, access, memory_order_release);
        return;
    }
}

static inline unsigned cp_bucket(uint64_t ns)
{
    if (ns < 16)
        return (unsigned)ns;
    unsigned top = 63u - (unsigned)__builtin_clzll(ns);
    return (top - 3) * 16 + (unsigned)(ns >> (top - 4) & 15);
}

static inline void cp_record(struct cp_vcpu *v, unsigned histogram, uint64_t ns)
{
    atomic_fetch_add_explicit(&v->histogram[histogram][cp_bucket(ns)], 1, memory_order_relaxed);
}

static inline void cp_activity(struct cp_process *p, uint32_t activity, uint64_t detail)
{
    atomic_store_explicit(&p->detail, detail, memory_order_relaxed);
    atomic_store_explicit(&p->activity, activity, memory_order_release);
}

static inline void cp_beat(struct cp_process *p)
{
    atomic_fetch_add_explicit(&p->heartbeat, 1, memory_order_relaxed);
}

/* A page is mixed from now on, `ms` at least. */
static inline void cp_add_wx(struct cp_host *host, uint32_t page, uint32_t ms)
{
    uint64_t mine = (uint64_t)page << 32 | (uint32_t)(cp_now_ns() / 1000000 + ms);
    atomic_fetch_add(&host->wx_pages, 1);
    for (uint32_t i = 0; i < CP_WX_PAGES; i++) {
        uint64_t free = 0;
        if (atomic_compare_exchange_strong(&host->wx[i], &free, mine))
            return;
    }
    atomic_fetch_add(&host->wx_beyond, 1);
}

/* Add a page to the code log. */
static inline void cp_log_code(struct cp_host *host, uint32_t page)
{
    uint64_t index = atomic_fetch_add(&host->code_head, 1);
    atomic_store(&host->code_log[index % CP_CODE_LOG], (index + 1) << 32 | page);
}

/* Add a virtual page to the TLB log. */
static inline void cp_log_tlb(struct cp_host *host, uint32_t page)
{
    uint64_t index = atomic_fetch_add(&host->tlb_head, 1);
    atomic_store(&host->tlb_log[index % CP_TLB_LOG], (index + 1) << 32 | page);
}

#endif

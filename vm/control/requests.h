/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests to vCPUs: how the processes of one host ask a vCPU to exit from the guest.
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
 * One of the two fences comes first, so either V sees A's bit or A sees V in the guest: a request is never lost. `mode`
 * also counts guest entries in its upper 30 bits, so that A, which waits for "V has exited", is not fooled by a V that
 * exited and entered again: A waits until the word differs from the EXITING one that it saw. A waits by futex on that
 * word; V wakes it when it exits and finds itself EXITING.
 *
 * V sleeps (WFI, parked by STOP, switched off) on a futex too: on its own `requests` word.
 */
#ifndef ALLSTOP_REQUESTS_H
#define ALLSTOP_REQUESTS_H

#include "futex.h"
#include "layout.h"
#include "remote_slot.h"

/* Ask vCPU v for `bits`. Returns the mode word to wait on when v is in the guest (low bits EXITING), else 0.
 *
 * V may exit, serve the request and enter again before A looks at `mode`. Nothing would end that later guest entry,
 * and A would wait forever. So A marks a guest entry only while the request is pending. If it is pending when A
 * looks, and the guest entry is still the one that A saw before, then V has to exit from it to serve the request. */
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
            if (bits & ~(uint32_t)CP_STOP) /* a sleeper is outside, and sees STOP before it enters */
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

/* V is about to ask the coordinator for a stopped world, and posts STOP to the others before that message arrives.
 * This grants nothing. The stop that V asks for posts STOP again and waits for all vCPUs, and its end takes STOP
 * back from all; an earlier stop that ends in between takes this one back too, which costs only time. */
static inline void cp_head_start(struct cp_host *host, uint32_t asker)
{
    for (uint32_t i = 0; i < host->vcpus; i++)
        if (i != asker && !cp_is_remote(cp_vcpu(host, i))) /* the coordinator alone stops a remote vCPU */
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

/* Whether V, which waits for an answer, may poll for it: there is a core for V, one for the process that answers,
 * and one for each other vCPU that computes. (KVM polls before it halts a vCPU for the same reason: waking a sleeper
 * often costs more than the answer. But KVM has a core of its own to poll on.) */
static inline bool cp_may_poll(struct cp_host *host, uint32_t vcpu)
{
    return cp_is_a_core_free(host, vcpu, 2);
}

/* Wait until v has exited from the guest entry that `exiting` names. False when `deadline_ns` has passed. */
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

/* V enters the guest. False when a request other than `ignored` came first: the vCPU exits again and serves it. */
static inline bool cp_enter(struct cp_vcpu *v, uint32_t ignored)
{
    uint32_t entry = (atomic_load_explicit(&v->mode, memory_order_relaxed) | CP_MODE_MASK) + 1;
    atomic_store(&v->mode, entry | CP_IN_GUEST); /* seq_cst: the full fence */
    return (atomic_load(&v->requests) & ~ignored) == 0;
}

/* V exits from the guest, or wakes up: wake those that wait for this. */
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

/* V is parked until none of `bits` is requested, or one of `unless`; its mode is SLEEPING, so that a post wakes it. */
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

/* The newest version of the line word wins, whichever way it came. True when `line` changed the level. */
static inline bool cp_set_line(struct cp_vcpu *v, uint64_t line)
{
    uint64_t old = atomic_load(&v->line);
    do {
        if ((line >> 2) <= (old >> 2))
            return false;
    } while (!atomic_compare_exchange_weak(&v->line, &old, line));
    return ((old ^ line) & 3) != 0;
}

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The slot of a vCPU that is on another host, and what this host's processes ask of this host's node.
 *
 * A request that is posted to such a slot goes into its outbox. The node, whose doorbell is rung, sends it to the
 * vCPU's own host. To a waiter on this host the vCPU is always in the guest or outside: in the guest, in a guest entry
 * that ends when its own host's node has said that the vCPU has exited.
 *
 *   asker A                                   node
 *   outbox |= bits                            taken = outbox, outbox = 0; sends it, one more is under way
 *   mode = EXITING (this guest entry)         an acknowledgement: one less is under way; when none is any more:
 *   outbox |= bits                              mode = ENDING (this guest entry)
 *                                               outbox == 0, mode still ENDING: a new guest entry, by compare and swap
 *
 * The node looks at two words, so it announces its intent first. If A's first |= comes after the node's look, A's mark
 * comes after ENDING and overwrites it, or comes after the new guest entry and marks that one. So a guest entry never
 * ends before everything that was posted before its mark is acknowledged. If the new guest entry begins before A marks
 * one, A's second |= makes that one end, too. The marks of a guest entry come and go: a waiter looks at its count alone
 * (cp_wait_exited). docs/model/stop.pml checks all this.
 *
 * STOP does not go this way. The coordinator alone sets it and takes it back, and tells each host's node by messages of
 * its own (StopHost, ResumeHost). If STOP went both ways, the later of two messages would not be the newer one.
 */
#ifndef ALLSTOP_REMOTE_SLOT_H
#define ALLSTOP_REMOTE_SLOT_H

#include "futex.h"
#include "layout.h"

#define CP_CHANGED (1u << 31) /* in an outbox, of a vCPU of this host: its power has changed */

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

/* cp_post (requests.h) for a vCPU on another host. */
static inline uint32_t cp_post_remote(struct cp_vcpu *v, uint32_t bits)
{
    uint32_t mode, exiting;
    atomic_fetch_or(&v->requests, bits & CP_QUIT); /* this host's processes look here whether the run is over */
    atomic_fetch_or(&v->outbox, bits);
    do {
        mode = atomic_load(&v->mode);
        exiting = (mode & ~CP_MODE_MASK) | CP_EXITING;
    } while (mode != exiting && !atomic_compare_exchange_strong(&v->mode, &mode, exiting));
    atomic_fetch_or(&v->outbox, bits);
    cp_ring(atomic_load(&v->doorbell));
    return exiting;
}

/* Set V's power as this host's processes see it; its node tells the other hosts. */
static inline void cp_set_power(struct cp_host *host, struct cp_vcpu *v, uint32_t power)
{
    atomic_store(&v->power, power);
    if (host->doorbell && !cp_is_remote(v)) {
        atomic_fetch_or(&v->outbox, CP_CHANGED);
        cp_ring(host->doorbell);
    }
}

/* A page of another host's that a process of this one needs, never 0: offset in the page / 8, page number + 1, to
 * execute, to write. */
static inline uint32_t cp_want(uint32_t ipa, bool write, bool execute)
{
    return (ipa >> 3 & 511) << 23 | ((ipa >> 12) + 1) << 2 | (uint32_t)execute << 1 | (uint32_t)write;
}

static inline uint32_t cp_wanted_page(uint32_t want)
{
    return (want >> 2 & 0x1fffff) - 1;
}

/* Ask this host's node for the page, by the word of the process that needs it; the node sets the word to 0 when the
 * page is here. Asking again for the same page costs nothing. */
static inline void cp_want_page(struct cp_host *host, _Atomic uint32_t *word, uint32_t want)
{
    if (atomic_exchange(word, want) != want)
        cp_ring(host->doorbell);
}

/* V has retired an instruction: the pages that it was given for that may be taken back. */
static inline void cp_got_on(struct cp_host *host, struct cp_vcpu *v)
{
    atomic_fetch_add(&v->progress, 1);
    if (atomic_load(&v->requests) & CP_HOLD) {
        atomic_fetch_and(&v->requests, ~(uint32_t)CP_HOLD);
        cp_ring(host->doorbell);
    }
}

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A short cut for the walk that fills the library's TLB.
 *
 * The library reads each descriptor of stage 1 through a walk of stage 2, and each of those through its model of a bus. Here
 * both are memory of this process. What the short cut knows are the ordinary cases of the short-descriptor format (ARM DDI
 * 0406C, B3.5), allowed accesses to pages that stage 2 has; all else is left to the library, above all every fault.
 */
#include "seam_walk.h"

#include <stdatomic.h>
#include <string.h>

#include "seam_library.h"
#include "seam_registers.h"

#define INTERPOSED __attribute__((visibility("default")))

#define GUEST_USER 0x10       /* ARMMMUIdx_E10_0 and _E10_1: arm_cpu_tlb_fill_arm */
#define GUEST_PRIVILEGED 0x12
#define ATTRIBUTE_USER 4u     /* MemTxAttrs.user */
#define PAGE 4096u
#define LARGEST 0x40000000u   /* a block at level 1 of the long-descriptor format */

#define SCTLR_M 1u
#define SCTLR_XP (1u << 23)
#define SCTLR_EE (1u << 25)
#define SCTLR_AFE (1u << 29)
#define TTBCR_EAE (1u << 31)
#define TTBCR_PD0 (1u << 4)
#define TTBCR_PD1 (1u << 5)

static seam_memory *memory_of;
static intptr_t sctlr_at, ttbr0_at, ttbr1_at, ttbcr_at, dacr_at, fcse_at; /* in CPUARMState */

void seam_walk_by(void *table, seam_memory *memory)
{
    const struct { intptr_t *at; uint32_t key; } fields[] = {
        { &sctlr_at, SEAM_REGISTER(1, 0, 0, 0) }, { &ttbr0_at, SEAM_REGISTER(2, 0, 0, 0) },
        { &ttbr1_at, SEAM_REGISTER(2, 0, 0, 1) }, { &ttbcr_at, SEAM_REGISTER(2, 0, 0, 2) },
        { &dacr_at, SEAM_REGISTER(3, 0, 0, 0) }, { &fcse_at, SEAM_REGISTER(13, 0, 0, 0) },
    };
    memory_of = NULL;
    if (table == NULL || memory == NULL)
        return;
    for (unsigned i = 0; i < sizeof fields / sizeof *fields; i++) {
        *fields[i].at = seam_register_field(table, fields[i].key);
        if (*fields[i].at == 0)
            return; /* no short cut then */
    }
    memory_of = memory;
}

static uint32_t field(const void *env, intptr_t at)
{
    return *(const uint32_t *)((const char *)env + at);
}

/* A word of a table at `ipa`; false where stage 2 does not have it. */
static bool read_word(uint32_t ipa, uint32_t *word)
{
    int allowed;
    const void *at = memory_of(ipa, &allowed);
    if (at == NULL || !(allowed & SEAM_READ))
        return false;
    *word = atomic_load_explicit((const _Atomic uint32_t *)at, memory_order_relaxed);
    return true;
}

/* Table B3-8, and with SCTLR.AFE table B3-9: what AP[2:0] allows. */
static int allowed_by(uint32_t ap, bool simple, bool user)
{
    static const int privileged[8] = { 0, 3, 3, 3, 0, 1, 1, 1 }, unprivileged[8] = { 0, 0, 1, 3, 0, 0, 1, 1 };
    static const int simple_privileged[4] = { 3, 3, 1, 1 }, simple_user[4] = { 0, 3, 0, 1 };
    return simple ? (user ? simple_user : simple_privileged)[ap >> 1] : (user ? unprivileged : privileged)[ap];
}

/* Stage 1 for an allowed access. False: let the library find out. */
static bool stage1(const void *env, uint32_t gva, int access, bool user, uint32_t *ipa, int *allowed, uint32_t *bytes)
{
    uint32_t sctlr = field(env, sctlr_at);
    if (!(sctlr & SCTLR_M)) {
        *ipa = gva;
        *allowed = SEAM_READ | SEAM_WRITE | SEAM_EXECUTE;
        *bytes = PAGE;
        return true;
    }
    uint32_t ttbcr = field(env, ttbcr_at), n = ttbcr & 7, table, entry;
    if (ttbcr & TTBCR_EAE || !(sctlr & SCTLR_XP) || sctlr & SCTLR_EE)
        return false;
    if (n && gva >> (32 - n)) {
        if (ttbcr & TTBCR_PD1)
            return false;
        table = field(env, ttbr1_at) & ~0x3fffu;
    } else {
        if (ttbcr & TTBCR_PD0)
            return false;
        table = field(env, ttbr0_at) & ~(0x3fffu >> n);
    }
    if (!read_word(table | (gva >> 18 & 0x3ffc), &entry))
        return false;
    uint32_t kind = entry & 3, domain = field(env, dacr_at) >> (entry >> 5 & 15) * 2 & 3, ap;
    bool never, privileged_never;
    bool supersection = kind != 1 && entry & 1u << 18;
    if (supersection && (entry & 0x00f001e0))
        return false; /* beyond 32 bits */
    if (kind == 0 || !(domain & 1)) /* of a supersection it is domain 0, and bits 8:5 are 0 */
        return false;
    if (kind == 1) {
        privileged_never = entry >> 2 & 1;
        if (!read_word((entry & ~0x3ffu) | (gva >> 10 & 0x3fc), &entry) || (entry & 3) == 0)
            return false;
        ap = (entry >> 4 & 3) | (entry >> 7 & 4);
        *bytes = entry & 2 ? PAGE : 16 * PAGE;
        never = entry & 2 ? entry & 1 : entry >> 15 & 1;
    } else {
        privileged_never = entry & 1;
        ap = (entry >> 10 & 3) | (entry >> 13 & 4);
        never = entry >> 4 & 1;
        *bytes = supersection ? 4096 * PAGE : 256 * PAGE;
    }
    *ipa = (entry & ~(*bytes - 1)) | (gva & (*bytes - 1));
    if (domain == 3) { /* manager: nothing is checked */
        *allowed = SEAM_READ | SEAM_WRITE | SEAM_EXECUTE;
        return true;
    }
    bool simple = sctlr & SCTLR_AFE;
    if (simple && !(ap & 1))
        return false;
    *allowed = allowed_by(ap, simple, user);
    if (*allowed && !never && !(privileged_never && !user))
        *allowed |= SEAM_EXECUTE;
    return *allowed >> access & 1;
}

INTERPOSED bool get_phys_addr_arm(void *env, uint32_t gva, int access, int index, uint64_t *physical, uint32_t *attributes,
                                  int *allowed, uint32_t *bytes, struct fault *fault, void *cacheability)
{
    bool user = index == GUEST_USER;
    if (memory_of != NULL && (user || index == GUEST_PRIVILEGED) && cacheability == NULL
        && (gva >= 0x02000000 || field(env, fcse_at) == 0)) {
        uint32_t ipa, stage1_bytes;
        int stage1_allowed, stage2_allowed;
        if (stage1(env, gva, access, user, &ipa, &stage1_allowed, &stage1_bytes)
            && memory_of(ipa, &stage2_allowed) != NULL && stage2_allowed >> access & 1) {
            *physical = ipa; /* stage 2 moves nothing */
            *attributes = user ? ATTRIBUTE_USER : 0;
            *allowed = stage1_allowed & stage2_allowed;
            *bytes = stage1_bytes;
            return false;
        }
    }
    bool faults = real.get_phys_addr(env, gva, access, index, physical, attributes, allowed, bytes, fault, cacheability);
    /* The library tells of stage 2's pages only. It would flush one of these where a larger page of stage 1 is invalidated;
     * where it is told of the largest that there are, it flushes all of it. */
    if (!faults && memory_of != NULL && (user || index == GUEST_PRIVILEGED))
        *bytes = LARGEST;
    return faults;
}

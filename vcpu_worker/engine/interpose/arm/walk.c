/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A short cut for the walk that fills the library's TLB.
 *
 * The library reads each descriptor of stage 1 through a walk of stage 2, and each of those through its model of a
 * bus. Here both are memory of this process. The short cut knows the ordinary cases of the short-descriptor format
 * (ARM DDI 0406C, B3.5): allowed accesses to pages that stage 2 maps. It leaves all else to the library, above all
 * every fault.
 */
#include "vcpu_worker/engine/interpose/arm/walk.h"

#include <stdatomic.h>
#include <string.h>

#include "vcpu_worker/engine/arm/architecture.h"
#include "vcpu_worker/engine/interpose/arm/registers.h"
#include "vcpu_worker/engine/interpose/state.h"

#define GUEST_USER 0x10 /* ARMMMUIdx_E10_0 and _E10_1: arm_cpu_tlb_fill_arm */
#define GUEST_PRIVILEGED 0x12
#define ATTRIBUTE_USER 4u /* MemTxAttrs.user */
#define PAGE 4096u
#define FCSE_BYTES 0x02000000u /* of addresses that FCSEIDR moves */
#define LARGEST 0x40000000u    /* a block at level 1 of the long-descriptor format */

void interpose_walk_in(struct interpose *s, interpose_memory *memory)
{
    struct walk *w = &s->walk;
    const struct {
        intptr_t *at;
        uint32_t key;
    } fields[] = {
        { &w->sctlr, CP15_REGISTER(1, 0, 0, 0) }, { &w->ttbr0, CP15_REGISTER(2, 0, 0, 0) },
        { &w->ttbr1, CP15_REGISTER(2, 0, 0, 1) }, { &w->ttbcr, CP15_REGISTER(2, 0, 0, 2) },
        { &w->dacr, CP15_REGISTER(3, 0, 0, 0) },  { &w->fcse, CP15_REGISTER(13, 0, 0, 0) },
    };
    w->memory = NULL;
    if (s->registers_table == NULL)
        return;
    for (unsigned i = 0; i < sizeof fields / sizeof *fields; i++) {
        *fields[i].at = registers_field(s, fields[i].key);
        if (*fields[i].at == 0)
            return; /* no short cut then */
    }
    w->memory = memory;
}

static uint32_t field(const void *env, intptr_t at)
{
    return *(const uint32_t *)((const char *)env + at);
}

/* A word of a table at `ipa`; false where stage 2 does not have it. */
static bool read_word(const struct interpose *s, uint32_t ipa, uint32_t *word)
{
    int allowed;
    const void *at = s->walk.memory(s->context, ipa, &allowed);
    if (at == NULL || !(allowed & INTERPOSE_READ))
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

/* A descriptor that maps memory: a section, supersection, large or small page. */
struct descriptor {
    uint32_t base, bytes, access, domain;
    bool never, privileged_never; /* executed */
};

static bool is_page_table(uint32_t entry)
{
    return (entry & 3) == 1;
}

static struct descriptor decode_section(uint32_t entry)
{
    uint32_t bytes = entry & 1u << 18 ? 4096 * PAGE : 256 * PAGE;
    return (struct descriptor){
        .base = entry & ~(bytes - 1),
        .bytes = bytes,
        .access = (entry >> 10 & 3) | (entry >> 13 & 4),
        .never = entry >> 4 & 1,
        .privileged_never = entry & 1,
    };
}

static struct descriptor decode_page(uint32_t table, uint32_t entry)
{
    bool small = entry & 2;
    uint32_t bytes = small ? PAGE : 16 * PAGE;
    return (struct descriptor){
        .base = entry & ~(bytes - 1),
        .bytes = bytes,
        .access = (entry >> 4 & 3) | (entry >> 7 & 4),
        .never = small ? entry & 1 : entry >> 15 & 1,
        .privileged_never = table >> 2 & 1,
    };
}

/* The first-level table for `gva`. False where there is none, or its format is not this one. */
static bool find_table(const struct walk *w, const void *env, uint32_t gva, uint32_t *table)
{
    uint32_t ttbcr = field(env, w->ttbcr), n = ttbcr & TTBCR_N;
    if (ttbcr & TTBCR_EAE)
        return false;
    bool upper = n && gva >> (32 - n);
    *table = upper ? field(env, w->ttbr1) & ~0x3fffu : field(env, w->ttbr0) & ~(0x3fffu >> n);
    return !(ttbcr & (upper ? TTBCR_PD1 : TTBCR_PD0));
}

/* Stage 1 for an allowed access. False: let the library find out. */
static bool stage1(const struct interpose *s, const void *env, uint32_t gva, int access, bool user, uint32_t *ipa,
                   int *allowed, uint32_t *bytes)
{
    uint32_t sctlr = field(env, s->walk.sctlr), table, first, second;
    if (!(sctlr & SCTLR_M)) {
        *ipa = gva;
        *allowed = INTERPOSE_READ | INTERPOSE_WRITE | INTERPOSE_EXECUTE;
        *bytes = PAGE;
        return true;
    }
    if (!(sctlr & SCTLR_XP) || sctlr & SCTLR_EE || !find_table(&s->walk, env, gva, &table)
        || !read_word(s, table | (gva >> 18 & 0x3ffc), &first) || (first & 3) == 0)
        return false;
    if (!is_page_table(first) && first & 1u << 18 && first & 0x00f001e0)
        return false; /* a supersection beyond 32 bits */
    uint32_t domain = field(env, s->walk.dacr) >> (first >> 5 & 15) * 2 & 3;
    if (!(domain & 1)) /* of a supersection it is domain 0, and bits 8:5 are 0 */
        return false;
    struct descriptor d;
    if (is_page_table(first)) {
        if (!read_word(s, (first & ~0x3ffu) | (gva >> 10 & 0x3fc), &second) || (second & 3) == 0)
            return false;
        d = decode_page(first, second);
    } else {
        d = decode_section(first);
    }
    *bytes = d.bytes;
    *ipa = d.base | (gva & (d.bytes - 1));
    if (domain == 3) { /* manager: nothing is checked */
        *allowed = INTERPOSE_READ | INTERPOSE_WRITE | INTERPOSE_EXECUTE;
        return true;
    }
    bool simple = sctlr & SCTLR_AFE;
    if (simple && !(d.access & 1))
        return false;
    *allowed = allowed_by(d.access, simple, user);
    if (*allowed && !d.never && !(d.privileged_never && !user))
        *allowed |= INTERPOSE_EXECUTE;
    return *allowed >> access & 1;
}

INTERPOSED bool get_phys_addr_arm(void *env, uint32_t gva, int access, int index, uint64_t *physical,
                                  uint32_t *attributes, int *allowed, uint32_t *bytes, struct fault *fault,
                                  void *cacheability)
{
    const struct interpose *s = interpose_current;
    bool user = index == GUEST_USER, ours = s->walk.memory != NULL && (user || index == GUEST_PRIVILEGED);
    if (ours && cacheability == NULL && (gva >= FCSE_BYTES || field(env, s->walk.fcse) == 0)) {
        uint32_t ipa, stage1_bytes;
        int stage1_allowed, stage2_allowed;
        if (stage1(s, env, gva, access, user, &ipa, &stage1_allowed, &stage1_bytes)
            && s->walk.memory(s->context, ipa, &stage2_allowed) != NULL && stage2_allowed >> access & 1) {
            *physical = ipa; /* stage 2 moves nothing */
            *attributes = user ? ATTRIBUTE_USER : 0;
            *allowed = stage1_allowed & stage2_allowed;
            *bytes = stage1_bytes;
            return false;
        }
    }
    bool faults = real.get_phys_addr(env, gva, access, index, physical, attributes, allowed, bytes, fault,
                                     cacheability);
    /* The library reports pages of stage 2 only. It would flush one of these where a larger page of stage 1 is
     * invalidated; where it is told of the largest that there are, it flushes all of the TLB. */
    if (!faults && ours)
        *bytes = LARGEST;
    return faults;
}

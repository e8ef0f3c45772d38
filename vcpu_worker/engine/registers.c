/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Registers of CP14 and CP15 that are not what the library makes of them.
 *
 * The library's Cortex-A15 differs from QEMU's in little. It shows a guest that it has EL2 and EL3, which are ours; it has
 * no GIC and no second CPU to tell of; its PMU is of another CPU; and the barriers of ARMv6 do nothing. Whether an access is
 * allowed, where it traps, and everything else stays the library's matter. A register that nobody has is UNDEFINED, and noted.
 */
#include "registers.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "architecture.h"
#include "vcpu.h"

/* ARMCPRegInfo of the library: helper_get_cp_reg_arm() and helper_set_cp_reg_arm() show `read` and `write`,
 * helper_access_check_cp_reg_arm() `check`, read_raw_cp_reg_arm() the type, the reset value and the field. */
struct description {
    const char *name;
    uint8_t cp, crn, crm, opc0, opc1, opc2;
    int32_t state, type, access, secure;
    void *opaque;
    uint64_t reset_value;
    intptr_t field, fields[2];
    void *check;
    uint64_t (*read)(void *env, const struct description *);
    void (*write)(void *env, const struct description *, uint64_t value);
    void *rest[6];
};
_Static_assert(sizeof(struct description) == 144, "ARMCPRegInfo");

enum { CONSTANT = 0x02, GOES_ON = 0x08 };                        /* types: GOES_ON, the block does not end */
enum { PL1_R = 0xa8, PL1_RW = 0xfc, PL0_W = 0x55 };              /* access */
#define NON_SECURE (1u << 29)
#define KEY(cp, crn, crm, opc1, opc2) ((uint32_t)(cp) << 16 | (crn) << 11 | (crm) << 7 | (opc1) << 3 | (opc2))

#define PMCR_ID 0x410f3000u     /* Cortex-A15, six counters */
#define PMCR_ID_MASK 0xfffff840u  /* and LC, which ARMv7 has not */

static uint64_t read_value(void *env, const struct description *d)
{
    return d->reset_value;
}

static void ignore(void *env, const struct description *d, uint64_t value)
{
}

static void fence(void *env, const struct description *d, uint64_t value)
{
    atomic_thread_fence(memory_order_seq_cst);
}

#define ID_REGISTER(value) { .type = CONSTANT, .access = PL1_R, .reset_value = (value) }
#define BARRIER { .type = GOES_ON, .access = PL0_W, .write = fence }

static struct {
    uint32_t key;
    struct description description;
} ours[] = {
    { KEY(15, 0, 1, 0, 1), ID_REGISTER(0x00010001) },            /* ID_PFR1: generic timer; no EL2, no EL3 */
    { KEY(15, 0, 1, 0, 2), ID_REGISTER(0x02010505) },            /* ID_DFR0: no secure debug */
    { KEY(15, 0, 0, 0, 6), ID_REGISTER(0) },                     /* REVIDR: no minor revision */
    { KEY(15, 15, 0, 4, 0), ID_REGISTER(0x08000000) },           /* CBAR: where the GIC is */
#define L2CTLR 4
    { KEY(15, 9, 0, 1, 2), { .access = PL1_RW, .read = read_value, .write = ignore } },
    { KEY(15, 7, 10, 0, 4), BARRIER },                           /* CP15DSB */
    { KEY(15, 7, 10, 0, 5), BARRIER },                           /* CP15DMB */
    { KEY(14, 7, 2, 0, 7), ID_REGISTER(0x01110f13) },            /* DBGDEVID */
    { KEY(14, 7, 1, 0, 7), ID_REGISTER(0) },                     /* DBGDEVID1 */
    { KEY(14, 7, 0, 0, 7), ID_REGISTER(0) },                     /* DBGDEVID2 */
};

void registers_describe(uint32_t vcpu, uint32_t vcpus)
{
    uint32_t in_cluster = vcpus - vcpu / 8 * 8;
    if (in_cluster > 8)
        in_cluster = 8;
    ours[L2CTLR].description.reset_value = (in_cluster - 1) << 24 | 1u << 23; /* bit 23: there is a GIC */
}

const void *registers_reginfo(uint32_t key, const void *found)
{
    uint32_t name = key & ~NON_SECURE;
    if (name == KEY(15, 1, 1, 0, 2)) /* NSACR belongs to an EL3 that ID_PFR1 does not tell of */
        return NULL;
    for (unsigned i = 0; i < sizeof ours / sizeof *ours; i++)
        if (ours[i].key == name)
            return &ours[i].description;
    return found;
}

void registers_set_pmcr(void *env, const void *found)
{
    const struct description *pmcr = found;
    uint32_t *field = (uint32_t *)((char *)env + pmcr->field);
    *field = (*field & ~PMCR_ID_MASK) | PMCR_ID;
}

void registers_note_undefined(struct vcpu *v, uint32_t cpsr)
{
    uint32_t word;
    bool thumb = cpsr & PSR_T;
    if (vcpu_peek(v, v->pc, thumb, (cpsr & 0x1f) != MODE_USR, &word) != 4 || (thumb ? word >> 28 != 14 : word >> 28 == 15))
        return;
    uint32_t access;
    if ((word & 0x0f000e10) == 0x0e000e10)      /* MCR, MRC of cp14 or cp15; without condition and register */
        access = word & 0x0fff0fff;
    else if ((word & 0x0fe00e00) == 0x0c400e00) /* MCRR, MRRC */
        access = word & 0x0ff00fff;
    else
        return;
    cp_count(v->slot, CP_COUNT_UNDEFINED);
    cp_note_undefined(v->slot, access);
}

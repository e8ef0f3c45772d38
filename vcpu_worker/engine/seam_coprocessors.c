/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Registers of CP14 and CP15 that are not what the library makes of them.
 *
 * The library's Cortex-A15 differs from QEMU's in little. It shows a guest that it has EL2 and EL3, which are ours; it has
 * no GIC and no second CPU to tell of; its PMU is of another CPU; a read of DBGOSDLR gives nothing, and a kernel that finds bit 0
 * of what it had in its hands takes debug for powered down; and the barriers of ARMv6 do nothing. Whether an access is
 * allowed, where it traps, and everything else stays the library's matter.
 */
#include "seam_coprocessors.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "vm/control/control_page.h"
#include "seam_description.h"

enum { CONSTANT = 0x02, GOES_ON = 0x08 };                        /* types: GOES_ON, the block does not end */
enum { PL1_R = 0xa8, PL1_RW = 0xfc, PL0_W = 0x55 };              /* access */
#define KEY(cp, crn, crm, opc1, opc2) ((uint32_t)(cp) << 16 | (crn) << 11 | (crm) << 7 | (opc1) << 3 | (opc2))

#define PMCR_ID 0x410f3000u     /* Cortex-A15, six counters */
#define PMCR_ID_MASK 0xfffff840u  /* and LC, which ARMv7 has not */

static uint64_t read_value(void *env, const struct seam_description *d)
{
    return d->reset_value;
}

static void ignore(void *env, const struct seam_description *d, uint64_t value)
{
}

static void fence(void *env, const struct seam_description *d, uint64_t value)
{
    atomic_thread_fence(memory_order_seq_cst);
}

#define ID_REGISTER(value) { .type = CONSTANT, .access = PL1_R, .reset_value = (value) }
#define BARRIER { .type = GOES_ON, .access = PL0_W, .write = fence }

static struct {
    uint32_t key;
    struct seam_description description;
} ours[] = {
    { KEY(15, 0, 1, 0, 1), ID_REGISTER(0x00010001) },            /* ID_PFR1: generic timer; no EL2, no EL3 */
    { KEY(15, 0, 1, 0, 2), ID_REGISTER(0x02010505) },            /* ID_DFR0: no secure debug */
    { KEY(15, 0, 0, 0, 6), ID_REGISTER(0) },                     /* REVIDR: no minor revision */
    { KEY(15, 15, 0, 4, 0), ID_REGISTER(0x08000000) },           /* CBAR: where the GIC is */
#define L2CTLR 4
    { KEY(15, 9, 0, 1, 2), { .access = PL1_RW, .read = read_value, .write = ignore } },
    { KEY(15, 7, 10, 0, 4), BARRIER },                           /* CP15DSB */
    { KEY(15, 7, 10, 0, 5), BARRIER },                           /* CP15DMB */
    { KEY(14, 1, 3, 0, 4), { .access = PL1_RW, .read = read_value, .write = ignore } }, /* DBGOSDLR: never locked */
    { KEY(14, 7, 2, 0, 7), ID_REGISTER(0x01110f13) },            /* DBGDEVID */
    { KEY(14, 7, 1, 0, 7), ID_REGISTER(0) },                     /* DBGDEVID1 */
    { KEY(14, 7, 0, 0, 7), ID_REGISTER(0) },                     /* DBGDEVID2 */
};

void coprocessors_describe(uint32_t vcpu, uint32_t vcpus)
{
    uint32_t in_cluster = vcpus - vcpu / 8 * 8;
    if (in_cluster > 8)
        in_cluster = 8;
    ours[L2CTLR].description.reset_value = (in_cluster - 1) << 24 | 1u << 23; /* bit 23: there is a GIC */
}

/* ---- the cycle counter ----
 *
 * Of the library's PMU the half is missing that would let it go on counting after it was looked at (pmu_op_finish_arm is
 * empty). So the cycle counter is ours: nanoseconds, as in QEMU, while PMCR.E and its bit in PMCNTENSET are set, whatever
 * PMCCFILTR says. It lies in the library's CPU, to be reset and saved with it: where events would be counted that are
 * beyond the six that there are. */
#define CYCLES 0x900              /* c14_pmevcntr[29]: the count when it was looked at last */
#define CYCLES_SINCE 0x908        /* c14_pmevcntr[30]: when that was; 0 while it stands still */
#define CYCLE_BIT (1u << 31)
enum { PMCR_E = 1, PMCR_C = 4, PMCR_D = 8 };
#define AT(env, offset, type) (*(type *)((char *)(env) + (offset)))

enum pmu_register { PMCR, PMCNTENSET, PMCNTENCLR, PMOVSR, PMCCNTR, PMU_REGISTERS };
static const uint32_t pmu_keys[PMU_REGISTERS] = { KEY(15, 9, 12, 0, 0), KEY(15, 9, 12, 0, 1), KEY(15, 9, 12, 0, 2),
                                                  KEY(15, 9, 12, 0, 3), KEY(15, 9, 13, 0, 0) };
static struct seam_description pmu_theirs[PMU_REGISTERS], pmu_ours[PMU_REGISTERS];

static uint32_t pmu_field(void *env, enum pmu_register which)
{
    return AT(env, pmu_theirs[which].field, uint32_t);
}

static void count_cycles(void *env)
{
    uint64_t now = cp_now_ns(), since = AT(env, CYCLES_SINCE, uint64_t), before = AT(env, CYCLES, uint64_t);
    uint64_t unit = pmu_field(env, PMCR) & PMCR_D ? 64 : 1;
    if (since != 0 && now > since) {
        uint64_t more = (now - since) / unit;
        AT(env, CYCLES, uint64_t) = (uint32_t)(before + more);
        if ((before + more) >> 32)
            AT(env, pmu_theirs[PMOVSR].field, uint32_t) |= CYCLE_BIT;
        now = since + more * unit;
    }
    bool counts = pmu_field(env, PMCR) & PMCR_E && pmu_field(env, PMCNTENSET) & CYCLE_BIT;
    AT(env, CYCLES_SINCE, uint64_t) = counts ? now : 0;
}

static uint64_t read_cycles(void *env, const struct seam_description *d)
{
    count_cycles(env);
    return AT(env, CYCLES, uint64_t);
}

static void write_cycles(void *env, const struct seam_description *d, uint64_t value)
{
    count_cycles(env);
    AT(env, CYCLES, uint64_t) = (uint32_t)value;
}

/* PMOVSR: what has overflowed is known when somebody looks. */
static uint64_t read_overflows(void *env, const struct seam_description *d)
{
    count_cycles(env);
    return pmu_field(env, PMOVSR);
}

/* PMCR, PMCNTENSET, PMCNTENCLR and PMOVSR. */
static void write_control(void *env, const struct seam_description *d, uint64_t value)
{
    enum pmu_register which = (enum pmu_register)(d - pmu_ours);
    count_cycles(env);
    pmu_theirs[which].write(env, &pmu_theirs[which], value);
    if (which == PMCR && value & PMCR_C)
        AT(env, CYCLES, uint64_t) = 0;
    count_cycles(env);
}

void coprocessors_know_pmu(const void *(*find)(void *table, uint32_t key), void *table)
{
    for (unsigned i = 0; i < PMU_REGISTERS; i++) {
        memcpy(&pmu_theirs[i], find(table, NON_SECURE | pmu_keys[i]), sizeof pmu_theirs[i]);
        pmu_ours[i] = pmu_theirs[i];
        pmu_ours[i].write = i == PMCCNTR ? write_cycles : write_control;
    }
    pmu_ours[PMCCNTR].read = read_cycles;
    pmu_ours[PMOVSR].read = read_overflows;
}

const void *coprocessors_reginfo(uint32_t key, const void *found)
{
    uint32_t name = key & ~NON_SECURE;
    if (name == KEY(15, 1, 1, 0, 2)) /* NSACR belongs to an EL3 that ID_PFR1 does not tell of */
        return NULL;
    for (unsigned i = 0; i < sizeof ours / sizeof *ours; i++)
        if (ours[i].key == name)
            return &ours[i].description;
    for (unsigned i = 0; i < PMU_REGISTERS; i++)
        if (pmu_keys[i] == name && pmu_theirs[i].name != NULL)
            return &pmu_ours[i];
    return found;
}

void coprocessors_set_pmcr(void *env, const void *found)
{
    const struct seam_description *pmcr = found;
    uint32_t *field = &AT(env, pmcr->field, uint32_t);
    *field = (*field & ~PMCR_ID_MASK) | PMCR_ID;
}

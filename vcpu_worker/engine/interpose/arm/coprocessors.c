/* SPDX-License-Identifier: GPL-2.0-or-later */
/* clang-format off: tables */
/* The library's Cortex-A15 differs from QEMU's in little. It shows a guest that it has EL2 and EL3, which are ours; it
 * has no GIC and no second CPU; its PMU is of another CPU; a read of DBGOSDLR leaves the destination as it was, and a
 * kernel that finds bit 0 set there takes debug for powered down; and the barriers of ARMv6 do nothing. The library
 * still decides whether an access is allowed and where it traps, and everything else.
 */
#include "vcpu_worker/engine/interpose/arm/coprocessors.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "vcpu_worker/engine/interpose/cpu.h"
#include "vcpu_worker/engine/interpose/state.h"
#include "vm/control/control_page.h"

enum { CONSTANT = 0x02, GOES_ON = 0x08 };           /* types: GOES_ON, the block does not end */
enum { PL1_R = 0xa8, PL1_RW = 0xfc, PL0_W = 0x55 }; /* access */

#define L2CTLR_HAS_GIC (1u << 23)
#define PMCR_ID 0x410f3000u      /* Cortex-A15, six counters */
#define PMCR_ID_MASK 0xfffff840u /* and LC, which ARMv7 has not */

static uint64_t read_value(void *env, const struct register_description *d)
{
    return d->reset_value;
}

static void ignore(void *env, const struct register_description *d, uint64_t value)
{
}

static void fence(void *env, const struct register_description *d, uint64_t value)
{
    atomic_thread_fence(memory_order_seq_cst);
}

#define ID_REGISTER(value)                                                                                             \
    {                                                                                                                  \
        .type = CONSTANT, .access = PL1_R, .reset_value = (value)                                                      \
    }
#define BARRIER                                                                                                        \
    {                                                                                                                  \
        .type = GOES_ON, .access = PL0_W, .write = fence                                                               \
    }

struct constant_register {
    uint32_t key;
    struct register_description description;
};

/* As one engine has them first. */
static const struct constant_register constant_registers[] = {
    { REGISTER_KEY(15, 0, 1, 0, 1), ID_REGISTER(0x00010001) },  /* ID_PFR1: generic timer; no EL2, no EL3 */
    { REGISTER_KEY(15, 0, 1, 0, 2), ID_REGISTER(0x02010505) },  /* ID_DFR0: no secure debug */
    { REGISTER_KEY(15, 0, 0, 0, 6), ID_REGISTER(0) },           /* REVIDR: no minor revision */
    { REGISTER_KEY(15, 15, 0, 4, 0), ID_REGISTER(0x08000000) }, /* CBAR: where the GIC is */
#define L2CTLR 4
    { REGISTER_KEY(15, 9, 0, 1, 2), { .access = PL1_RW, .read = read_value, .write = ignore } },
    { REGISTER_KEY(15, 7, 10, 0, 4), BARRIER }, /* CP15DSB */
    { REGISTER_KEY(15, 7, 10, 0, 5), BARRIER }, /* CP15DMB */
    /* DBGOSDLR: never locked */
    { REGISTER_KEY(14, 1, 3, 0, 4), { .access = PL1_RW, .read = read_value, .write = ignore } },
    { REGISTER_KEY(14, 7, 2, 0, 7), ID_REGISTER(0x01110f13) }, /* DBGDEVID */
    { REGISTER_KEY(14, 7, 1, 0, 7), ID_REGISTER(0) },          /* DBGDEVID1 */
    { REGISTER_KEY(14, 7, 0, 0, 7), ID_REGISTER(0) },          /* DBGDEVID2 */
};

enum { CONSTANT_REGISTERS = sizeof constant_registers / sizeof *constant_registers };
enum pmu_register { PMCR, PMCNTENSET, PMCNTENCLR, PMOVSR, PMCCNTR, PMU_REGISTERS };

struct coprocessors {
    struct constant_register constant[CONSTANT_REGISTERS];
    struct register_description pmu_theirs[PMU_REGISTERS], pmu_ours[PMU_REGISTERS];
};

struct coprocessors *coprocessors_new(void)
{
    struct coprocessors *c = calloc(1, sizeof *c);
    if (c != NULL)
        memcpy(c->constant, constant_registers, sizeof constant_registers);
    return c;
}

void coprocessors_free(struct coprocessors *c)
{
    free(c);
}

void interpose_describe_machine(struct interpose *s, uint32_t vcpu, uint32_t vcpus)
{
    uint32_t in_cluster = vcpus - vcpu / 8 * 8;
    if (in_cluster > 8)
        in_cluster = 8;
    s->coprocessors->constant[L2CTLR].description.reset_value = (in_cluster - 1) << 24 | L2CTLR_HAS_GIC;
}

/* ---- the cycle counter ----
 *
 * The library's PMU lacks the half that would let it go on counting after it was looked at (pmu_op_finish_arm is
 * empty). So the cycle counter is ours: nanoseconds, as in QEMU, while PMCR.E and its bit in PMCNTENSET are set,
 * whatever PMCCFILTR says. It lies in the library's CPU, to be reset and saved with it: in the place of event counters
 * beyond the six that there are. */
#define CYCLES 0x900       /* c14_pmevcntr[29]: the count when it was looked at last */
#define CYCLES_SINCE 0x908 /* c14_pmevcntr[30]: when that was; 0 while it stands still */
#define CYCLE_BIT (1u << 31)
enum { PMCR_E = 1, PMCR_C = 4, PMCR_D = 8 };

static const uint32_t pmu_keys[PMU_REGISTERS] = { CP15_REGISTER(9, 12, 0, 0), CP15_REGISTER(9, 12, 0, 1),
                                                  CP15_REGISTER(9, 12, 0, 2), CP15_REGISTER(9, 12, 0, 3),
                                                  CP15_REGISTER(9, 13, 0, 0) };

static uint32_t *pmu_field(const struct coprocessors *c, void *env, enum pmu_register which)
{
    return &AT(env, c->pmu_theirs[which].field, uint32_t);
}

static void count_cycles(const struct coprocessors *c, void *env)
{
    uint64_t now = cp_now_ns(), since = AT(env, CYCLES_SINCE, uint64_t), before = AT(env, CYCLES, uint64_t);
    uint64_t unit = *pmu_field(c, env, PMCR) & PMCR_D ? 64 : 1;
    if (since != 0 && now > since) {
        uint64_t more = (now - since) / unit;
        AT(env, CYCLES, uint64_t) = (uint32_t)(before + more);
        if ((before + more) >> 32)
            *pmu_field(c, env, PMOVSR) |= CYCLE_BIT;
        now = since + more * unit;
    }
    bool counts = *pmu_field(c, env, PMCR) & PMCR_E && *pmu_field(c, env, PMCNTENSET) & CYCLE_BIT;
    AT(env, CYCLES_SINCE, uint64_t) = counts ? now : 0;
}

static uint64_t read_cycles(void *env, const struct register_description *d)
{
    count_cycles(d->opaque, env);
    return AT(env, CYCLES, uint64_t);
}

static void write_cycles(void *env, const struct register_description *d, uint64_t value)
{
    count_cycles(d->opaque, env);
    AT(env, CYCLES, uint64_t) = (uint32_t)value;
}

/* PMOVSR: an overflow is noticed when the guest looks. */
static uint64_t read_overflows(void *env, const struct register_description *d)
{
    count_cycles(d->opaque, env);
    return *pmu_field(d->opaque, env, PMOVSR);
}

/* PMCR, PMCNTENSET, PMCNTENCLR and PMOVSR. */
static void write_control(void *env, const struct register_description *d, uint64_t value)
{
    struct coprocessors *c = d->opaque;
    enum pmu_register which = (enum pmu_register)(d - c->pmu_ours);
    count_cycles(c, env);
    c->pmu_theirs[which].write(env, &c->pmu_theirs[which], value);
    if (which == PMCR && value & PMCR_C)
        AT(env, CYCLES, uint64_t) = 0;
    count_cycles(c, env);
}

void interpose_identify_pmu(struct interpose *s)
{
    struct coprocessors *c = s->coprocessors;
    for (unsigned i = 0; i < PMU_REGISTERS; i++) {
        memcpy(&c->pmu_theirs[i], real.reginfo(s->registers_table, KEY_NON_SECURE | pmu_keys[i]),
               sizeof c->pmu_theirs[i]);
        c->pmu_ours[i] = c->pmu_theirs[i];
        c->pmu_ours[i].opaque = c;
        c->pmu_ours[i].write = i == PMCCNTR ? write_cycles : write_control;
    }
    c->pmu_ours[PMCCNTR].read = read_cycles;
    c->pmu_ours[PMOVSR].read = read_overflows;
    uint32_t *pmcr = pmu_field(c, interpose_env(s), PMCR);
    *pmcr = (*pmcr & ~PMCR_ID_MASK) | PMCR_ID;
}

const void *coprocessors_find(struct coprocessors *c, uint32_t key, const void *theirs)
{
    uint32_t name = key & ~KEY_NON_SECURE;
    if (name == CP15_REGISTER(1, 1, 0, 2)) /* NSACR belongs to an EL3, and ID_PFR1 shows none */
        return NULL;
    for (unsigned i = 0; i < CONSTANT_REGISTERS; i++)
        if (c->constant[i].key == name)
            return &c->constant[i].description;
    for (unsigned i = 0; i < PMU_REGISTERS; i++)
        if (pmu_keys[i] == name && c->pmu_theirs[i].name != NULL)
            return &c->pmu_ours[i];
    return theirs;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Registers of CP14 and CP15 that a guest finds here otherwise than in the library. */
#ifndef ALLSTOP_SEAM_COPROCESSORS_H
#define ALLSTOP_SEAM_COPROCESSORS_H

#include <stdbool.h>
#include <stdint.h>

/* What a guest's identification registers say: those of QEMU's cortex-a15. For VPIDR. */
#define GUEST_MIDR 0x414fc0f0u

/* The machine that the registers tell of; before the first instruction is translated. */
void coprocessors_describe(uint32_t vcpu, uint32_t vcpus);

/* For the seam: the description (ARMCPRegInfo) by which an access with this key is translated, in place of the library's
 * own, `found`. NULL: the access is UNDEFINED. */
const void *coprocessors_reginfo(uint32_t key, const void *found);

/* Make the library's PMU one of `PMCR`'s identification and number of counters, where its description is `found`. */
void coprocessors_set_pmcr(void *env, const void *found);
#define COPROCESSORS_PMCR_KEY (1u << 29 | 15u << 16 | 9u << 11 | 12u << 7)

/* Before that: what the library has of it, to be called through. */
void coprocessors_know_pmu(const void *(*find)(void *table, uint32_t key), void *table);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Registers of CP14 and CP15 that a guest finds different from the library's. */
#ifndef ALLSTOP_ENGINE_INTERPOSE_ARM_COPROCESSORS_H
#define ALLSTOP_ENGINE_INTERPOSE_ARM_COPROCESSORS_H

#include <stdint.h>

struct interpose;
struct coprocessors;

/* What a guest's identification registers say: those of QEMU's cortex-a15. For VPIDR. */
#define GUEST_MIDR 0x414fc0f0u

/* The machine that the registers describe; before the first instruction is translated. */
void interpose_describe_machine(struct interpose *s, uint32_t vcpu, uint32_t vcpus);

/* The PMU is a Cortex-A15's from now on: its identification, six counters, and a cycle counter of ours. */
void interpose_identify_pmu(struct interpose *s);

/* For interpose/: NULL when there is no memory. */
struct coprocessors *coprocessors_new(void);
void coprocessors_free(struct coprocessors *c);

/* For interpose/: the description (ARMCPRegInfo) by which an access with this key is translated, in place of the
 * library's own, `theirs`. NULL: the access is UNDEFINED. */
const void *coprocessors_find(struct coprocessors *c, uint32_t key, const void *theirs);

#endif

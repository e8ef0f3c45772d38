/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's registers while it is outside. */
#ifndef ALLSTOP_ENGINE_CPU_ARM_REGISTERS_H
#define ALLSTOP_ENGINE_CPU_ARM_REGISTERS_H

#include <stdint.h>

#include <unicorn/arm.h>

#include "vcpu_worker/engine/arm/architecture.h"
#include "vcpu_worker/engine/vcpu.h"

/* By the library's numbers. */
uint32_t vcpu_register(struct vcpu *v, int id);
void vcpu_set_register(struct vcpu *v, int id, uint32_t value);
int vcpu_core_id(unsigned n); /* of r0 to r15; the caller has checked the range */

uint64_t vcpu_cp(struct vcpu *v, uint32_t is64, uint32_t crn, uint32_t crm, uint32_t opc1, uint32_t opc2);
void vcpu_set_cp(struct vcpu *v, uint32_t is64, uint32_t crn, uint32_t crm, uint32_t opc1, uint32_t opc2,
                 uint64_t value);
#define CP(v, crn, crm, opc1, opc2) ((uint32_t)vcpu_cp(v, 0, crn, crm, opc1, opc2))
#define SET_CP(v, crn, crm, opc1, opc2, value) vcpu_set_cp(v, 0, crn, crm, opc1, opc2, value)

bool vcpu_is_mode(uint32_t mode); /* of a guest: neither Monitor nor Hyp */
void vcpu_set_cpsr(struct vcpu *v, uint32_t value);

/* PC and ITSTATE go on over an instruction of `length` bytes. */
void vcpu_retire(struct vcpu *v, uint32_t length);

static inline bool is_privileged(uint32_t cpsr)
{
    return (cpsr & PSR_MODE) != MODE_USR;
}

#endif

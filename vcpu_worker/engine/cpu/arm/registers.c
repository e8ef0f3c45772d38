/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vcpu_worker/engine/cpu/arm/registers.h"

uint32_t vcpu_register(struct vcpu *v, int id)
{
    uint32_t value = 0;
    uc.reg_read(v->uc, id, &value);
    return value;
}

void vcpu_set_register(struct vcpu *v, int id, uint32_t value)
{
    uc.reg_write(v->uc, id, &value);
}

uint64_t vcpu_cp(struct vcpu *v, uint32_t is64, uint32_t crn, uint32_t crm, uint32_t opc1, uint32_t opc2)
{
    uc_arm_cp_reg reg = { 15, is64, 0, crn, crm, opc1, opc2, 0 };
    uc.reg_read(v->uc, UC_ARM_REG_CP_REG, &reg);
    return reg.val;
}

void vcpu_set_cp(struct vcpu *v, uint32_t is64, uint32_t crn, uint32_t crm, uint32_t opc1, uint32_t opc2,
                 uint64_t value)
{
    uc_arm_cp_reg reg = { 15, is64, 0, crn, crm, opc1, opc2, value };
    uc.reg_write(v->uc, UC_ARM_REG_CP_REG, &reg);
}

int vcpu_core_id(unsigned n)
{
    return n < 13 ? UC_ARM_REG_R0 + (int)n : n == 13 ? UC_ARM_REG_R13 : n == 14 ? UC_ARM_REG_R14 : UC_ARM_REG_R15;
}

bool vcpu_is_mode(uint32_t mode)
{
    return mode <= PSR_MODE && 0x888f0000u >> mode & 1;
}

/* A mode that a guest cannot have leaves the mode as it is, as an exception return does: the library checks less when
 * the CPU is in User mode. */
void vcpu_set_cpsr(struct vcpu *v, uint32_t value)
{
    if (!vcpu_is_mode(value & PSR_MODE))
        value = (value & ~PSR_MODE) | (v->cpsr & PSR_MODE);
    vcpu_set_register(v, UC_ARM_REG_CPSR, value);
    v->cpsr = vcpu_register(v, UC_ARM_REG_CPSR);
}

void vcpu_retire(struct vcpu *v, uint32_t length)
{
    v->pc += length;
    uint32_t it = (v->cpsr >> 8 & 0xfc) | (v->cpsr >> 25 & 3);
    if (it == 0)
        return;
    it = it & 7 ? (it & 0xe0) | (it << 1 & 0x1f) : 0;
    v->cpsr = (v->cpsr & ~PSR_IT) | (it & 0xfc) << 8 | (it & 3) << 25;
    vcpu_set_register(v, UC_ARM_REG_CPSR, v->cpsr);
}

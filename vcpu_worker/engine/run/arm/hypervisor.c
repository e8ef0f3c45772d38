/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vcpu_worker/engine/run/arm/hypervisor.h"

#include "vcpu_worker/engine/cpu/arm/registers.h"
#include "vcpu_worker/engine/interpose/arm/coprocessors.h"

void hypervisor_configure(struct vcpu *v, uint32_t mpidr)
{
    v->hcr = HCR_VM | HCR_SWIO | HCR_FMO_IMO_AMO | HCR_TWI | HCR_TSC | (v->as_shipped ? 0 : HCR_TTLB);
    SET_CP(v, 1, 1, 0, 0, SCR_NS | SCR_HCE); /* without HCE, HVC is undefined */
    SET_CP(v, 0, 0, 4, 5, mpidr);            /* VMPIDR */
    SET_CP(v, 0, 0, 4, 0, GUEST_MIDR);       /* VPIDR */
    SET_CP(v, 1, 1, 0, 2, NSACR_CP10_CP11);  /* VFP and NEON are the guest's to enable */
    SET_CP(v, 1, 1, 4, 1, HDCR_HPMN_ALL);
    SET_CP(v, 2, 1, 4, 2, VTCR_RES1 | VTCR_START_AT_LEVEL_1); /* 32-bit IPA */
    vcpu_set_cp(v, 1, 0, 2, 6, 0, STAGE2_BASE);               /* VTTBR */
    SET_CP(v, 1, 1, 4, 0, v->hcr);
    SET_CP(v, 14, 1, 4, 0, CNTHCTL_PL1PCTEN | CNTHCTL_PL1PCEN); /* the physical counter and timer are the guest's */
    v->cpsr = vcpu_register(v, UC_ARM_REG_CPSR);
}

void hypervisor_enter_at(struct vcpu *v, uint32_t entry, const uint32_t r[3])
{
    for (int i = 0; i < 3; i++)
        vcpu_set_register(v, UC_ARM_REG_R0 + i, r[i]);
    v->cpsr = MODE_SVC | PSR_A | PSR_I | PSR_F | (entry & 1 ? PSR_T : 0);
    vcpu_set_register(v, UC_ARM_REG_CPSR, v->cpsr);
    v->pc = entry & ~1u;
}

void hypervisor_restored(struct vcpu *v)
{
    v->hcr &= ~(HCR_VI | HCR_VF);
    SET_CP(v, 1, 1, 4, 0, v->hcr);
}

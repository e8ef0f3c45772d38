/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vcpu_worker/engine/cpu/arm/exceptions.h"

#include "vcpu_worker/engine/cpu/arm/registers.h"
#include "vcpu_worker/engine/step.h"

enum { VECTOR_UNDEFINED = 0x04, VECTOR_PREFETCH_ABORT = 0x0c, VECTOR_DATA_ABORT = 0x10 };

uint32_t vcpu_vectors(struct vcpu *v)
{
    return CP(v, 1, 0, 0, 0) & SCTLR_V ? HIGH_VECTORS : CP(v, 12, 0, 0, 0) /* VBAR */;
}

static void enter_exception(struct vcpu *v, uint32_t mode, uint32_t vector, uint32_t link)
{
    uint32_t sctlr = CP(v, 1, 0, 0, 0), before = v->cpsr;
    uint32_t cpsr = (before & ~(PSR_MODE | PSR_IT | PSR_J | PSR_T | PSR_E)) | mode | PSR_I
        | (sctlr & SCTLR_EE ? PSR_E : 0) | (sctlr & SCTLR_TE ? PSR_T : 0) | (mode == MODE_ABT ? PSR_A : 0);
    vcpu_set_register(v, UC_ARM_REG_CPSR, cpsr);
    vcpu_set_register(v, UC_ARM_REG_SPSR, before);
    vcpu_set_register(v, UC_ARM_REG_R14, link);
    v->cpsr = cpsr;
    v->pc = vcpu_vectors(v) + vector;
    v->latched = false;
}

/* DFSR or IFSR (B4.1.51, B4.1.96): the status in the format of the guest's translation tables. */
static uint32_t fault_status(struct vcpu *v, bool is_write, uint32_t lpae_status, uint32_t short_status)
{
    bool lpae = CP(v, 2, 0, 0, 2) & TTBCR_EAE;
    uint32_t status = lpae ? FSR_LPAE | lpae_status : (short_status & 0xf) | (short_status & 0x10) << 6;
    return status | (is_write ? DFSR_WNR : 0);
}

void vcpu_abort(struct vcpu *v, bool prefetch, uint32_t address, bool is_write, uint32_t lpae_status,
                uint32_t short_status)
{
    SET_CP(v, 5, 0, 0, prefetch, fault_status(v, is_write, lpae_status, short_status));
    SET_CP(v, 6, 0, 0, prefetch ? 2 : 0, address); /* DFAR or IFAR */
    cp_count(v->slot, CP_COUNT_ABORT);
    step_now(v, JOURNAL_ABORTED, address, is_write, prefetch, v->pc);
    enter_exception(v, MODE_ABT, prefetch ? VECTOR_PREFETCH_ABORT : VECTOR_DATA_ABORT, v->pc + (prefetch ? 4 : 8));
}

void vcpu_undefined(struct vcpu *v)
{
    enter_exception(v, MODE_UND, VECTOR_UNDEFINED, v->pc + (v->cpsr & PSR_T ? 2 : 4));
}

bool vcpu_set_interrupt_lines(struct vcpu *v, uint64_t lines)
{
    uint32_t hcr = (v->hcr & ~(HCR_VI | HCR_VF)) | (lines & 1 ? HCR_VI : 0) | (lines & 2 ? HCR_VF : 0);
    if (hcr == v->hcr)
        return false;
    v->hcr = hcr;
    SET_CP(v, 1, 1, 4, 0, hcr);
    return true;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vcpu_worker/engine/interpose/arm/translate.h"

#include <string.h>

#include "vcpu_worker/engine/interpose/cpu.h"
#include "vcpu_worker/engine/interpose/state.h"

#define STAGE1_USER 0x20 /* ARMMMUIdx_Stage1_E0 and _E1: do_ats_write */
#define STAGE1_PRIVILEGED 0x21

/* ARMMMUFaultInfo, filled in by get_phys_addr_arm for arm_cpu_tlb_fill_arm. */
struct fault {
    uint32_t type;
    uint32_t walk_ipa;
    int32_t level, domain;
    bool stage2, on_walk, external;
};
enum {
    FAULT_ACCESS_FLAG = 1,
    FAULT_DOMAIN = 4,
    FAULT_PERMISSION,
    FAULT_TRANSLATION,
    FAULT_ADDRESS_SIZE,
    FAULT_EXTERNAL_ON_WALK = 9
};

/* The fault status of B3.13.3 (ARM DDI 0406C): long-descriptor and short-descriptor format. */
static void describe_fault(const struct fault *f, struct translation *t)
{
    uint32_t level = (uint32_t)f->level & 3;
    bool first = f->level == 1;
    switch (f->on_walk ? FAULT_EXTERNAL_ON_WALK : f->type) {
    case FAULT_ACCESS_FLAG:
        t->lpae_status = 0x08 | level;
        t->short_status = first ? 0x03 : 0x06;
        break;
    case FAULT_DOMAIN:
        t->lpae_status = 0x3c | level;
        t->short_status = first ? 0x09 : 0x0b;
        break;
    case FAULT_PERMISSION:
        t->lpae_status = 0x0c | level;
        t->short_status = first ? 0x0d : 0x0f;
        break;
    case FAULT_ADDRESS_SIZE:
        t->lpae_status = level;
        t->short_status = first ? 0x05 : 0x07;
        break;
    case FAULT_EXTERNAL_ON_WALK:
        t->lpae_status = 0x14 | level;
        t->short_status = first ? 0x0c : 0x0e;
        break;
    default: /* FAULT_TRANSLATION */
        t->lpae_status = 0x04 | level;
        t->short_status = first ? 0x05 : 0x07;
    }
}

bool interpose_translate(struct interpose *s, uint32_t gva, bool write, bool privileged, struct translation *result)
{
    uint64_t ipa = 0;
    uint32_t attributes = 0, page_bytes = 0;
    int access = 0;
    struct fault fault = { 0 };
    memset(result, 0, sizeof *result);
    /* Not by ATS1C: that one leaves by longjmp where a walk fails at stage 2, and outside a run there is no target. */
    if (real.get_phys_addr(interpose_env(s), gva, write, privileged ? STAGE1_PRIVILEGED : STAGE1_USER, &ipa,
                           &attributes, &access, &page_bytes, &fault, NULL)) {
        result->walk_stopped = fault.on_walk;
        result->ipa = fault.walk_ipa;
        describe_fault(&fault, result);
        return false;
    }
    result->ipa = (uint32_t)ipa; /* the library, too, keeps 32 bits of what stage 1 says */
    return true;
}

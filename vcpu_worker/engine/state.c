/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's state while it is outside: registers, the exceptions that it takes, its addresses and its RAM. */
#include "vcpu.h"

#include <string.h>

#include <unicorn/arm.h>

#include "architecture.h"

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

/* r0 to r15 as the library numbers them; the caller has checked the range. */
int vcpu_core_id(unsigned n)
{
    return n < 13 ? UC_ARM_REG_R0 + (int)n : n == 13 ? UC_ARM_REG_R13 : n == 14 ? UC_ARM_REG_R14 : UC_ARM_REG_R15;
}

bool vcpu_is_mode(uint32_t mode)
{
    return mode <= 0x1f && 0x888f0000u >> mode & 1;
}

/* A mode that a guest cannot have leaves the mode as it is, as an exception return does: the library is less careful when
 * it comes from User mode. */
void vcpu_set_cpsr(struct vcpu *v, uint32_t value)
{
    if (!vcpu_is_mode(value & 0x1f))
        value = (value & ~0x1fu) | (v->cpsr & 0x1f);
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

static void enter_exception(struct vcpu *v, uint32_t mode, uint32_t vector, uint32_t link)
{
    uint32_t sctlr = CP(v, 1, 0, 0, 0), before = v->cpsr;
    uint32_t cpsr = (before & ~(0x1fu | PSR_IT | PSR_J | PSR_T | PSR_E)) | mode | PSR_I
                  | (sctlr & 1u << 25 ? PSR_E : 0) | (sctlr & 1u << 30 ? PSR_T : 0)
                  | (mode == MODE_ABT ? PSR_A : 0);
    vcpu_set_register(v, UC_ARM_REG_CPSR, cpsr);
    vcpu_set_register(v, UC_ARM_REG_SPSR, before);
    vcpu_set_register(v, UC_ARM_REG_R14, link);
    v->cpsr = cpsr;
    v->pc = (sctlr & 1u << 13 ? 0xffff0000u : CP(v, 12, 0, 0, 0)) + vector;
    v->latched = false;
}

void vcpu_abort(struct vcpu *v, bool prefetch, uint32_t address, bool is_write, uint32_t lpae_status,
                uint32_t short_status)
{
    bool lpae = CP(v, 2, 0, 0, 2) >> 31; /* TTBCR.EAE */
    uint32_t status = (lpae ? 1u << 9 | lpae_status : (short_status & 0xf) | (short_status & 0x10) << 6)
                    | (is_write ? 1u << 11 : 0);
    SET_CP(v, 5, 0, 0, prefetch, status);        /* DFSR or IFSR */
    SET_CP(v, 6, 0, 0, prefetch ? 2 : 0, address); /* DFAR or IFAR */
    cp_count(v->slot, CP_COUNT_ABORT);
    if (v->journal)
        journal_event(v->journal, JOURNAL_ABORTED, v->number, address, is_write, prefetch, v->pc);
    enter_exception(v, MODE_ABT, prefetch ? 0x0c : 0x10, v->pc + (prefetch ? 4 : 8));
}

void vcpu_undefined(struct vcpu *v)
{
    enter_exception(v, MODE_UND, 0x04, v->pc + (v->cpsr & PSR_T ? 2 : 4));
}

/* Translate by the guest's stage 1. Its tables may lie in pages that stage 2 has not seen yet. */
bool vcpu_translate(struct vcpu *v, uint32_t gva, bool write, bool privileged, uint32_t *ipa)
{
    struct seam_translation t;
    while (!seam_translate(gva, write, privileged, &t)) {
        /* A vCPU that was killed while it changed the entry never comes to an end with it. */
        if (t.walk_stopped && !(atomic_load(&v->slot->requests) & CP_QUIT) && stage2_fault(v, t.ipa, false, false))
            continue;
        v->fault_lpae = t.lpae_status;
        v->fault_short = t.short_status;
        return false;
    }
    *ipa = t.ipa;
    return true;
}

/* Not by vcpu_translate: in a run, stage 2 stays as it is. */
static bool peek_halfword(struct vcpu *v, uint32_t gva, bool privileged, uint16_t *halfword)
{
    struct seam_translation t;
    if (!seam_translate(gva, false, privileged, &t) || !stage2_in_ram(v, t.ipa))
        return false;
    memcpy(halfword, v->ram + (t.ipa - RAM_BASE), sizeof *halfword);
    return true;
}

unsigned vcpu_peek(struct vcpu *v, uint32_t gva, bool thumb, bool privileged, uint32_t *word)
{
    uint16_t first, second;
    if (!peek_halfword(v, gva, privileged, &first))
        return 0;
    *word = first;
    if (thumb && first >> 11 < 0x1d)
        return 2;
    if (!peek_halfword(v, gva + 2, privileged, &second))
        return 0;
    *word = thumb ? (uint32_t)first << 16 | second : (uint32_t)second << 16 | first;
    return 4;
}

bool vcpu_write_ram(struct vcpu *v, uint32_t ipa, const void *data, size_t bytes)
{
    if (!stage2_all_in_ram(v, ipa, bytes))
        return false;
    stage2_bring_in(v, ipa, bytes);
    uint64_t taken = 0;
    if (v->host->doorbell) { /* another host may ask for the page at any time: keep it while it is written to */
        if (((ipa & 0xfff) + bytes) > 4096) {
            size_t piece = 4096 - (ipa & 0xfff);
            return vcpu_write_ram(v, ipa, data, piece)
                && vcpu_write_ram(v, ipa + (uint32_t)piece, (const unsigned char *)data + piece, bytes - piece);
        }
        taken = stage2_take(v, ipa);
        if (taken == 0)
            return true; /* the run is over */
    }
    unsigned char *to = v->ram + (ipa - RAM_BASE);
    if (bytes == 4 && !(ipa & 3))
        atomic_store((_Atomic uint32_t *)to, *(const uint32_t *)data);
    else if (bytes == 8 && !(ipa & 7))
        atomic_store((_Atomic uint64_t *)to, *(const uint64_t *)data);
    else if (bytes == 2 && !(ipa & 1))
        atomic_store((_Atomic uint16_t *)to, *(const uint16_t *)data);
    else
        memcpy(to, data, bytes);
    if (taken)
        stage2_put_back(v, ipa & ~0xfffu, taken);
    for (uint32_t page = ipa & ~0xfffu; page <= ((ipa + (uint32_t)bytes - 1) & ~0xfffu); page += 4096)
        stage2_wrote(v, page);
    return true;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Load the library, check it, and find what interpose/ calls.
 *
 * Offsets into private structures are facts about one build. `facts` holds a hash of the machine code of every function
 * that was read for an offset or that is replaced; any other build is refused.
 */
#define _GNU_SOURCE
#include "vcpu_worker/engine/interpose/library.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <string.h>

#include "vcpu_worker/engine/interpose/internals.h"

struct library_functions uc;
struct library_calls real;

static void *library;

/* Machine code that the engine relies on: FNV-1a of each function's bytes, as in the wheel of unicorn 2.1.4, x86-64. */
static const struct {
    const char *name;
    uint64_t hash;
} facts[] = {
#include "vcpu_worker/engine/interpose/facts.h"
};

static uint64_t hash_of(const char *name)
{
    void *code = dlsym(library, name);
    Dl_info info;
    ElfW(Sym) *symbol = NULL;
    if (code == NULL || !dladdr1(code, &info, (void **)&symbol, RTLD_DL_SYMENT) || symbol == NULL)
        return 0;
    uint64_t hash = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < symbol->st_size; i++)
        hash = (hash ^ ((const unsigned char *)code)[i]) * 0x100000001b3ull;
    return hash;
}

size_t library_fact_count(void)
{
    return sizeof facts / sizeof *facts;
}

bool library_fact(size_t index, const char **name, uint64_t *expected, uint64_t *found)
{
    if (library == NULL || index >= library_fact_count())
        return false;
    *name = facts[index].name;
    *expected = facts[index].hash;
    *found = hash_of(facts[index].name);
    return true;
}

static const char *load(const char *path)
{
    static char sentence[512];
    if (dlopen(path, RTLD_LAZY | RTLD_NOLOAD) != NULL)
        return "unicorn was loaded before the engine, which must come first: import allstop.vcpu_worker.engine before "
               "unicorn";
    library = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    if (library == NULL) {
        snprintf(sentence, sizeof sentence, "unicorn's library cannot be loaded (%s): reinstall unicorn==2.1.4",
                 dlerror());
        return sentence;
    }
    unsigned (*version)(unsigned *, unsigned *) = dlsym(library, "uc_version");
    unsigned major = 0, minor = 0;
    unsigned all = version ? version(&major, &minor) : 0;
    if (all >> 8 != 0x020104) {
        snprintf(sentence, sizeof sentence,
                 "this is unicorn %u.%u.%u and the engine knows 2.1.4 only: install unicorn==2.1.4", all >> 24,
                 all >> 16 & 255, all >> 8 & 255);
        return sentence;
    }
    for (size_t i = 0; i < library_fact_count(); i++)
        if (hash_of(facts[i].name) != facts[i].hash) {
            snprintf(sentence, sizeof sentence,
                     "the library calls itself unicorn 2.1.4 but its function %s is not the one that the engine knows: "
                     "install the x86-64 Linux wheel of unicorn==2.1.4 from PyPI",
                     facts[i].name);
            return sentence;
        }
    const struct {
        void *slot;
        const char *name;
    } symbols[] = {
        { &uc.open, "uc_open" },
        { &uc.close, "uc_close" },
        { &uc.ctl, "uc_ctl" },
        { &uc.mem_map_ptr, "uc_mem_map_ptr" },
        { &uc.emu_start, "uc_emu_start" },
        { &uc.emu_stop, "uc_emu_stop" },
        { &uc.reg_read, "uc_reg_read" },
        { &uc.reg_write, "uc_reg_write" },
        { &uc.hook_add, "uc_hook_add" },
        { &uc.context_alloc, "uc_context_alloc" },
        { &uc.context_save, "uc_context_save" },
        { &uc.context_restore, "uc_context_restore" },
        { &uc.context_size, "uc_context_size" },
        { &uc.context_free, "uc_context_free" },
        { &uc.strerror, "uc_strerror" },
        { &real.tcg_func_start, "tcg_func_start_arm" },
        { &real.check_exit_request, "helper_check_exit_request_arm" },
        { &real.loop_exit_restore, "cpu_loop_exit_restore_arm" },
        { &real.loop_exit_noexc, "cpu_loop_exit_noexc_arm" },
        { &real.translator_loop, "translator_loop_arm" },
        { &real.ld_i32, "tcg_gen_qemu_ld_i32_arm" },
        { &real.st_i32, "tcg_gen_qemu_st_i32_arm" },
        { &real.ld_i64, "tcg_gen_qemu_ld_i64_arm" },
        { &real.st_i64, "tcg_gen_qemu_st_i64_arm" },
        { &real.addi_i32, "tcg_gen_addi_i32_arm" },
        { &real.ldl_code, "cpu_ldl_code_arm" },
        { &real.lduw_code, "cpu_lduw_code_arm" },
        { &real.call, "tcg_gen_callN_arm" },
        { &real.new_label, "gen_new_label_arm" },
        { &real.new_temporary, "tcg_temp_new_internal_arm" },
        { &real.free_temporary, "tcg_temp_free_internal_arm" },
        { &real.const_i32, "tcg_const_i32_arm" },
        { &real.const_i64, "tcg_const_i64_arm" },
        { &real.op1, "tcg_gen_op1_arm" },
        { &real.op3, "tcg_gen_op3_arm" },
        { &real.brcondi_i32, "tcg_gen_brcondi_i32_arm" },
        { &real.gen_code, "tb_gen_code_arm" },
        { &real.lookup, "tcg_tb_lookup_arm" },
        { &real.flush_blocks, "tb_flush_arm" },
        { &real.do_interrupt, "arm_cpu_do_interrupt_arm" },
        { &real.flush_tlb, "tlb_flush_arm" },
        { &real.flush_page, "tlb_flush_page_arm" },
        { &real.invalidate_range, "tb_invalidate_phys_range_arm" },
        { &real.get_phys_addr, "get_phys_addr_arm" },
        { &real.wfe, "helper_wfe_arm" },
        { &real.yield, "helper_yield_arm" },
        { &real.reginfo, "get_arm_cp_reginfo_arm" },
        { &real.exchange_b, "helper_atomic_cmpxchgb_mmu_arm" },
        { &real.exchange_w_le, "helper_atomic_cmpxchgw_le_mmu_arm" },
        { &real.exchange_w_be, "helper_atomic_cmpxchgw_be_mmu_arm" },
        { &real.exchange_l_le, "helper_atomic_cmpxchgl_le_mmu_arm" },
        { &real.exchange_l_be, "helper_atomic_cmpxchgl_be_mmu_arm" },
        { &real.exchange_q_le, "helper_atomic_cmpxchgq_le_mmu_arm" },
        { &real.exchange_q_be, "helper_atomic_cmpxchgq_be_mmu_arm" },
    };
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *address = dlsym(library, symbols[i].name);
        if (address == NULL) {
            snprintf(sentence, sizeof sentence, "unicorn's library lacks %s: reinstall unicorn==2.1.4",
                     symbols[i].name);
            return sentence;
        }
        memcpy(symbols[i].slot, &address, sizeof address);
    }
    return NULL;
}

/* A refused library stays loaded, so that library_fact() can show its hashes, and stays refused. */
const char *library_open(const char *path)
{
    static const char *refusal = "the engine's library is not loaded";
    if (library == NULL && path != NULL)
        refusal = load(path);
    return refusal;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The seam over an unmodified libunicorn 2.1.4.
 *
 * The library calls between its own source files through its procedure linkage table, with default visibility. This
 * file is loaded first and globally, so that the functions that it defines under the library's names are called
 * instead, and call through. What that buys:
 *
 *   tcg_func_start              every block is translated for a parallel machine: exclusives are host atomics, barriers are
 *                               host fences (QEMU's CF_PARALLEL, which the library never sets)
 *   helper_check_exit_request   called at each block start anyway: here it polls the vCPU's request word, so a stop is
 *                               exact, at a block start, and costs nothing more
 *   translator_loop             under an instruction budget a block is one instruction, so that the polling counts them. The
 *                               library's own counter lets an IT block pass as one, does not count in blocks that it has
 *                               translated before, and starts again with each run
 *   tcg_gen_qemu_ld/st          the library also checks for a stop after each load and store; such a stop rewinds PC to an
 *                               access that has been done already. These checks are left out: exact, and faster.
 *                               An LDRD into its own base also tries the second word first: where only that one faults,
 *                               the library would start again from a base that the first has overwritten
 *   helper_wfe, helper_yield    a place to give the host's core away, without leaving the run
 *   get_arm_cp_reginfo          instruction cache maintenance, a no-op in the library, is translated as TLB maintenance is:
 *                               HCR.TTLB makes it trap, with the syndrome of the instruction that it is
 *   cpu_ldl_code, cpu_lduw_code, tb_gen_code, tcg_tb_lookup
 *                               what the translator read, kept by block: the instruction as it was executed
 *
 * Offsets into private structures are facts about one build. `facts` pins the machine code of every function that
 * they were read from or that is replaced; another build is refused, never guessed at.
 */
#define _GNU_SOURCE
#include "seam.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Offsets, with the function of the library in which each can be seen. */
#define TCG_CFLAGS 0x64          /* TCGContext.tb_cflags: tcg_gen_mb_arm tests bit 19 at 0x66 */
#define CF_PARALLEL 0x80000u
#define UC_NO_EXIT_REQUEST 0x7f2 /* uc_struct.no_exit_request: check_exit_request_arm */
#define UC_CPU 0x1b8             /* uc_struct.cpu: helper_check_exit_request_arm */
#define CPU_ENV 0xa2f0           /* ARMCPU.env: get_page_addr_code_arm's callers; arm_cpu_do_interrupt_arm */
#define ENV_EXCLUSIVE_ADDR 0xec0 /* CPUARMState.exclusive_addr, exclusive_val */
#define ENV_EXCLUSIVE_VAL 0xec8
#define CONTEXT_BYTES 0          /* uc_context.context_size, of the data at its end: uc_context_alloc */
#define STAGE1_USER 0x20         /* ARMMMUIdx_Stage1_E0 and _E1: do_ats_write */
#define STAGE1_PRIVILEGED 0x21

/* ARMMMUFaultInfo, filled in by get_phys_addr_arm for arm_cpu_tlb_fill_arm. */
struct fault {
    uint32_t type;
    uint32_t walk_ipa;
    int32_t level, domain;
    bool stage2, on_walk, external;
};
enum { FAULT_ACCESS_FLAG = 1, FAULT_DOMAIN = 4, FAULT_PERMISSION, FAULT_TRANSLATION, FAULT_ADDRESS_SIZE,
       FAULT_EXTERNAL_ON_WALK = 9 };

#define AT(base, offset, type) (*(type *)((char *)(base) + (offset)))

typedef struct TCGContext TCGContext;
typedef struct TranslationBlock TranslationBlock;

struct seam_calls uc;

static void *library;
static uc_engine *engine;
static _Atomic uint32_t *request_word;
static struct seam_events on;
static bool parallel = true;
static bool counting;
static uint64_t budget_left;

static struct {
    void (*tcg_func_start)(TCGContext *);
    void (*check_exit_request)(void *, uint32_t);
    void (*loop_exit_restore)(void *, uintptr_t);
    void (*translator_loop)(const void *, void *, void *, TranslationBlock *, int);
    void (*loop_exit_noexc)(void *);
    void (*ld_i32)(TCGContext *, void *, void *, uintptr_t, int);
    void (*st_i32)(TCGContext *, void *, void *, uintptr_t, int);
    void (*ld_i64)(TCGContext *, void *, void *, uintptr_t, int);
    void (*st_i64)(TCGContext *, void *, void *, uintptr_t, int);
    void (*addi_i32)(TCGContext *, void *, void *, int32_t);
    uint32_t (*ldl_code)(void *, uint32_t);
    uint32_t (*lduw_code)(void *, uint32_t);
    TranslationBlock *(*gen_code)(void *, uint32_t, uint32_t, uint32_t, int);
    TranslationBlock *(*lookup)(TCGContext *, uintptr_t);
    void (*flush_blocks)(void *);
    void (*do_interrupt)(void *);
    void (*flush_tlb)(void *);
    void (*invalidate_range)(uc_engine *, uintptr_t, uintptr_t);
    bool (*get_phys_addr)(void *, uint32_t, int, int, uint64_t *, uint32_t *, int *, uint32_t *, struct fault *, void *);
    void (*wfe)(void *);
    void (*yield)(void *);
    const void *(*reginfo)(void *, uint32_t);
} real;

/* Machine code that is relied on: FNV-1a of each function's bytes, as in the wheel of unicorn 2.1.4, x86-64. */
static const struct {
    const char *name;
    uint64_t hash;
} facts[] = {
#include "facts.h"
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

size_t seam_fact_count(void)
{
    return sizeof facts / sizeof *facts;
}

bool seam_fact(size_t index, const char **name, uint64_t *expected, uint64_t *found)
{
    if (library == NULL || index >= seam_fact_count())
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
        return "unicorn was loaded before the engine, which must come first: import vcpu_worker.engine before unicorn";
    library = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    if (library == NULL) {
        snprintf(sentence, sizeof sentence, "unicorn's library can not be loaded (%s): reinstall unicorn==2.1.4", dlerror());
        return sentence;
    }
    unsigned (*version)(unsigned *, unsigned *) = dlsym(library, "uc_version");
    unsigned major = 0, minor = 0;
    unsigned all = version ? version(&major, &minor) : 0;
    if (all >> 8 != 0x020104) {
        snprintf(sentence, sizeof sentence, "this is unicorn %u.%u.%u and the engine knows 2.1.4 only: install unicorn==2.1.4",
                 all >> 24, all >> 16 & 255, all >> 8 & 255);
        return sentence;
    }
    for (size_t i = 0; i < seam_fact_count(); i++)
        if (hash_of(facts[i].name) != facts[i].hash) {
            snprintf(sentence, sizeof sentence,
                     "the library calls itself unicorn 2.1.4 but its function %s is not the one that the engine knows: "
                     "install the x86-64 Linux wheel of unicorn==2.1.4 from PyPI", facts[i].name);
            return sentence;
        }
    const struct { void *slot; const char *name; } symbols[] = {
        { &uc.open, "uc_open" }, { &uc.close, "uc_close" }, { &uc.ctl, "uc_ctl" }, { &uc.mem_map_ptr, "uc_mem_map_ptr" },
        { &uc.emu_start, "uc_emu_start" }, { &uc.emu_stop, "uc_emu_stop" }, { &uc.reg_read, "uc_reg_read" },
        { &uc.reg_write, "uc_reg_write" }, { &uc.hook_add, "uc_hook_add" }, { &uc.context_alloc, "uc_context_alloc" },
        { &uc.context_save, "uc_context_save" }, { &uc.context_restore, "uc_context_restore" },
        { &uc.context_size, "uc_context_size" }, { &uc.context_free, "uc_context_free" }, { &uc.strerror, "uc_strerror" },
        { &real.tcg_func_start, "tcg_func_start_arm" }, { &real.check_exit_request, "helper_check_exit_request_arm" },
        { &real.loop_exit_restore, "cpu_loop_exit_restore_arm" }, { &real.loop_exit_noexc, "cpu_loop_exit_noexc_arm" },
        { &real.translator_loop, "translator_loop_arm" }, { &real.ld_i32, "tcg_gen_qemu_ld_i32_arm" }, { &real.st_i32, "tcg_gen_qemu_st_i32_arm" },
        { &real.ld_i64, "tcg_gen_qemu_ld_i64_arm" }, { &real.st_i64, "tcg_gen_qemu_st_i64_arm" },
        { &real.addi_i32, "tcg_gen_addi_i32_arm" }, { &real.ldl_code, "cpu_ldl_code_arm" }, { &real.lduw_code, "cpu_lduw_code_arm" },
        { &real.gen_code, "tb_gen_code_arm" }, { &real.lookup, "tcg_tb_lookup_arm" },
        { &real.flush_blocks, "tb_flush_arm" }, { &real.do_interrupt, "arm_cpu_do_interrupt_arm" },
        { &real.flush_tlb, "tlb_flush_arm" }, { &real.invalidate_range, "tb_invalidate_phys_range_arm" },
        { &real.get_phys_addr, "get_phys_addr_arm" }, { &real.wfe, "helper_wfe_arm" }, { &real.yield, "helper_yield_arm" },
        { &real.reginfo, "get_arm_cp_reginfo_arm" },
    };
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *address = dlsym(library, symbols[i].name);
        if (address == NULL) {
            snprintf(sentence, sizeof sentence, "unicorn's library lacks %s: reinstall unicorn==2.1.4", symbols[i].name);
            return sentence;
        }
        memcpy(symbols[i].slot, &address, sizeof address);
    }
    return NULL;
}

/* A library that was refused stays loaded, so that its facts can be looked at, and stays refused. */
const char *seam_open(const char *path)
{
    static const char *refusal = "the engine's library is not loaded";
    if (library == NULL && path != NULL)
        refusal = load(path);
    return refusal;
}

void seam_enable(bool enabled)
{
    parallel = enabled;
}

void seam_attach(uc_engine *of, _Atomic uint32_t *requests, const struct seam_events *events)
{
    engine = of;
    request_word = requests;
    on = *events;
    counting = false;
    budget_left = 0;
    seam_forget_executed();
}

static void *cpu(void)
{
    return AT(engine, UC_CPU, void *);
}

static void *env(void)
{
    return (char *)cpu() + CPU_ENV;
}

void seam_take_exception(void)
{
    real.do_interrupt(cpu());
}

void seam_flush_tlb(void)
{
    real.flush_tlb(cpu());
}

void seam_invalidate_code(uint64_t ram_offset, uint64_t bytes)
{
    real.invalidate_range(engine, ram_offset, ram_offset + bytes);
}

void seam_drop_code(void)
{
    real.flush_blocks(cpu());
    seam_forget_executed();
}

void seam_set_budget(uint64_t instructions)
{
    if (counting != (instructions != 0)) {
        counting = instructions != 0;
        seam_drop_code();
    }
    budget_left = instructions;
}

uint64_t seam_budget_left(void)
{
    return budget_left;
}

bool seam_budget_is_spent(void)
{
    return counting && budget_left == 0;
}

void seam_count(void)
{
    budget_left -= counting && budget_left > 0;
}

void seam_uncount(void)
{
    budget_left += counting;
}

/* The fault status of B3.13.3 (ARM DDI 0406C): long-descriptor and short-descriptor format. */
static void describe_fault(const struct fault *f, struct seam_translation *t)
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

bool seam_translate(uint32_t gva, bool write, bool privileged, struct seam_translation *result)
{
    uint64_t ipa = 0;
    uint32_t attributes = 0, page_bytes = 0;
    int access = 0;
    struct fault fault = { 0 };
    memset(result, 0, sizeof *result);
    /* Not by ATS1C: that one leaves by longjmp where a walk fails at stage 2, and outside a run there is nowhere to go. */
    if (real.get_phys_addr(env(), gva, write, privileged ? STAGE1_PRIVILEGED : STAGE1_USER, &ipa, &attributes, &access,
                           &page_bytes, &fault, NULL)) {
        result->walk_stopped = fault.on_walk;
        result->ipa = fault.walk_ipa;
        describe_fault(&fault, result);
        return false;
    }
    result->ipa = (uint32_t)ipa; /* the library, too, keeps 32 bits of what stage 1 says */
    return true;
}

void *seam_context_state(uc_context *context, size_t *bytes)
{
    *bytes = AT(context, CONTEXT_BYTES, size_t);
    return (char *)context + uc.context_size(engine) - *bytes;
}

void seam_monitor(uint64_t *address, uint64_t *value)
{
    *address = AT(env(), ENV_EXCLUSIVE_ADDR, uint64_t);
    *value = AT(env(), ENV_EXCLUSIVE_VAL, uint64_t);
}

void seam_set_monitor(uint64_t address, uint64_t value)
{
    AT(env(), ENV_EXCLUSIVE_ADDR, uint64_t) = address;
    AT(env(), ENV_EXCLUSIVE_VAL, uint64_t) = value;
}

/* ---- what the translator read, by block ---- */

struct block {
    TranslationBlock *key;
    uint32_t start;
    uint32_t halfwords;
    uint16_t *words;
};

static struct block *blocks; /* open addressing, a power of two */
static size_t block_slots, block_count;
static uint16_t reading[4096];
static uint32_t reading_start, reading_halfwords;
static bool is_reading;
static TranslationBlock *restored;

static struct block *block_slot(struct block *table, size_t slots, TranslationBlock *key)
{
    size_t i = ((uintptr_t)key >> 5) * 0x9e3779b97f4a7c15ull & (slots - 1);
    while (table[i].key != NULL && table[i].key != key)
        i = (i + 1) & (slots - 1);
    return &table[i];
}

void seam_forget_executed(void)
{
    for (size_t i = 0; i < block_slots; i++)
        free(blocks[i].words);
    free(blocks);
    blocks = NULL;
    block_slots = block_count = 0;
    restored = NULL;
}

static void keep_block(TranslationBlock *key)
{
    if (2 * (block_count + 1) > block_slots) {
        size_t slots = block_slots ? 2 * block_slots : 1024;
        struct block *table = calloc(slots, sizeof *table);
        if (table == NULL)
            return;
        for (size_t i = 0; i < block_slots; i++)
            if (blocks[i].key != NULL)
                *block_slot(table, slots, blocks[i].key) = blocks[i];
        free(blocks);
        blocks = table;
        block_slots = slots;
    }
    struct block *b = block_slot(blocks, block_slots, key);
    if (b->key == NULL)
        block_count++;
    free(b->words);
    b->key = key;
    b->start = reading_start;
    b->words = malloc(2 * reading_halfwords);
    b->halfwords = b->words ? reading_halfwords : 0;
    if (b->words)
        memcpy(b->words, reading, 2 * reading_halfwords);
}

static struct {
    uint32_t word, at; /* the instruction that is being translated, and where its last halfword stood */
    bool thumb, may_grow, fresh;
} translated;

static bool is_wide(uint32_t first_halfword)
{
    return first_halfword >> 11 >= 0x1d;
}

static void note(uint32_t address, uint32_t value, unsigned halfwords)
{
    if (!is_reading)
        return;
    bool second = halfwords == 1 && translated.may_grow && address == translated.at + 2;
    translated.word = second ? translated.word << 16 | value : value;
    translated.at = address;
    translated.thumb = halfwords == 1;
    translated.may_grow = halfwords == 1 && !second && is_wide(value);
    translated.fresh = true;
    uint32_t index = (address - reading_start) / 2;
    if (index + halfwords > sizeof reading / sizeof *reading)
        return;
    reading[index] = (uint16_t)value;
    if (halfwords == 2)
        reading[index + 1] = (uint16_t)(value >> 16);
    if (index + halfwords > reading_halfwords)
        reading_halfwords = index + halfwords;
}

unsigned seam_executed(uint32_t pc, bool thumb, uint32_t *word)
{
    if (restored == NULL || block_slots == 0)
        return 0;
    const struct block *b = block_slot(blocks, block_slots, restored);
    uint32_t index = (pc - b->start) / 2;
    if (b->key == NULL || pc < b->start || index >= b->halfwords)
        return 0;
    bool wide = !thumb || is_wide(b->words[index]);
    if (wide && index + 1 >= b->halfwords)
        return 0;
    if (!wide)
        *word = b->words[index];
    else if (thumb)
        *word = (uint32_t)b->words[index] << 16 | b->words[index + 1];
    else
        *word = (uint32_t)b->words[index + 1] << 16 | b->words[index];
    return wide ? 4 : 2;
}

/* ---- the library's own names ---- */

#define INTERPOSED __attribute__((visibility("default")))

INTERPOSED uint32_t cpu_ldl_code_arm(void *env, uint32_t address)
{
    uint32_t value = real.ldl_code(env, address);
    note(address, value, 2);
    return value;
}

INTERPOSED uint32_t cpu_lduw_code_arm(void *env, uint32_t address)
{
    uint32_t value = real.lduw_code(env, address);
    note(address, value, 1);
    return value;
}

INTERPOSED TranslationBlock *tb_gen_code_arm(void *cpu, uint32_t pc, uint32_t cs_base, uint32_t flags, int cflags)
{
    is_reading = true; /* a fetch that faults leaves by longjmp: the next translation starts over */
    reading_start = pc;
    reading_halfwords = 0;
    TranslationBlock *block = real.gen_code(cpu, pc, cs_base, flags, cflags);
    is_reading = false;
    if (engine != NULL)
        keep_block(block);
    return block;
}

INTERPOSED TranslationBlock *tcg_tb_lookup_arm(TCGContext *tcg, uintptr_t host_pc)
{
    restored = real.lookup(tcg, host_pc);
    return restored;
}

INTERPOSED void tb_flush_arm(void *cpu)
{
    real.flush_blocks(cpu);
    seam_forget_executed();
}

INTERPOSED void tcg_func_start_arm(TCGContext *tcg)
{
    if (parallel && engine != NULL)
        AT(tcg, TCG_CFLAGS, uint32_t) |= CF_PARALLEL;
    real.tcg_func_start(tcg);
}

/* The library's key of a 32-bit register: cp, CRn, CRm, opc1, opc2; bit 29 says non-secure. */
#define KEY(crn, crm, opc1, opc2) (15u << 16 | (crn) << 11 | (crm) << 7 | (opc1) << 3 | (opc2))
#define NON_SECURE (1u << 29)

INTERPOSED const void *get_arm_cp_reginfo_arm(void *table, uint32_t key)
{
    if (parallel && engine != NULL) {
        uint32_t name = key & ~NON_SECURE;
        if (name == KEY(7, 5, 0, 0) || name == KEY(7, 5, 0, 1) || name == KEY(7, 1, 0, 0))
            key = (key & NON_SECURE) | KEY(8, 7, 0, 1); /* TLBIMVA */
    }
    return real.reginfo(table, key);
}

INTERPOSED void helper_check_exit_request_arm(void *of, uint32_t in_delay_slot)
{
    if (__builtin_expect(request_word == NULL, false)) {
        real.check_exit_request(of, in_delay_slot);
        return;
    }
    bool requested = atomic_load_explicit(request_word, memory_order_relaxed) != 0;
    if (__builtin_expect(!requested && !counting, true))
        return;
    if (seam_budget_is_spent() || (requested && on.poll())) {
        uc.emu_stop(engine);
        real.loop_exit_restore(cpu(), (uintptr_t)__builtin_return_address(0));
    }
    seam_count();
}

INTERPOSED void translator_loop_arm(const void *operations, void *base, void *cpu, TranslationBlock *block, int longest)
{
    real.translator_loop(operations, base, cpu, block, counting ? 1 : longest);
}

static void give_way(bool is_wfe)
{
    on.hint(is_wfe);
    real.loop_exit_noexc(cpu());
}

INTERPOSED void helper_wfe_arm(void *env)
{
    if (request_word == NULL)
        real.wfe(env);
    give_way(true);
}

INTERPOSED void helper_yield_arm(void *env)
{
    if (request_word == NULL)
        real.yield(env);
    give_way(false);
}

/* The check after an access is emitted only where the library does not forbid it: it forbids it in IT blocks. */
#define WITHOUT_CHECK(name, call)                                                                                      \
    void name(TCGContext *tcg, void *value, void *address, uintptr_t index, int operation)                  \
    {                                                                                                                  \
        bool *forbidden = engine ? &AT(engine, UC_NO_EXIT_REQUEST, bool) : &(bool){ false };                           \
        bool before = *forbidden;                                                                                      \
        *forbidden = true;                                                                                             \
        call(tcg, value, address, index, operation);                                                                   \
        *forbidden = before;                                                                                           \
    }
static WITHOUT_CHECK(load_32, real.ld_i32)
INTERPOSED WITHOUT_CHECK(tcg_gen_qemu_st_i32_arm, real.st_i32)
INTERPOSED WITHOUT_CHECK(tcg_gen_qemu_ld_i64_arm, real.ld_i64)
INTERPOSED WITHOUT_CHECK(tcg_gen_qemu_st_i64_arm, real.st_i64)

/* LDRD without writeback whose first destination is its base. A8.8.72 (ARM DDI 0406C). */
static bool loads_its_base_first(void)
{
    uint32_t word = translated.word;
    if ((word >> 16 & 15) != (word >> 12 & 15))
        return false;
    return translated.thumb ? (word & 0xff700000) == 0xe9500000 : word >> 28 != 15 && (word & 0x0f3000f0) == 0x010000d0;
}

INTERPOSED void tcg_gen_qemu_ld_i32_arm(TCGContext *tcg, void *value, void *address, uintptr_t index, int operation)
{
    if (engine != NULL && translated.fresh && loads_its_base_first()) {
        real.addi_i32(tcg, value, address, 4);
        load_32(tcg, value, value, index, operation);
    }
    translated.fresh = false;
    load_32(tcg, value, address, index, operation);
}

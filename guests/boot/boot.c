/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a kernel does while it boots, on every vCPU at once: aborts and their syndromes, demand paging, User mode,
 * system calls, exceptions within exceptions, both instruction sets, VFP turned on when first used, registers of all
 * modes, and powering vCPUs off and on. The parameter is the number of rounds.
 */
#include "boot.h"
#include "gic.h"
#include "mmu.h"
#include "sync.h"

#define ROUNDS 5u
#define USER_CALLS 20u
#define NEST_SGI 1u
#define PL011_FR 0x09000018u

#define SECTION_TRANSLATION 0x05u
#define PAGE_TRANSLATION 0x07u
#define PAGE_PERMISSION 0x0fu
#define DFSR_WNR (1u << 11)
#define FPSCR_DZC (1u << 1)
#define PAR_FAULT 1u

#define UNMAPPED_SECTION 0x20000000u
#define MOVW_R0_42 0xe300002au
#define BX_LR 0xe12fff1eu

/* The window's pages of a vCPU. */
enum { LOW_PAGE, HIGH_PAGE, READ_ONLY_PAGE, KERNEL_PAGE, PAGES_EACH };
/* What nesting must write into the log. */
enum { IN_CALL = 1, IN_ABORT, IN_UNDEFINED, BACK_IN_ABORT, IN_IRQ, BACK_IN_CALL, IN_INNER, END_OF_CALL };

static uint32_t frames[MAX_VCPUS][PAGES_EACH][1024] ALIGNED(4096) NOINIT;
static struct vcpu {
    bool demand;                /* aborts in the window map the page instead of being a mistake */
    bool nesting;               /* ... and take the way round through UNDEFINED and IRQ */
    bool lazy_vfp;              /* an undefined instruction turns VFP on */
    bool expecting;             /* aborts and undefined instructions are noted and left behind */
    volatile uint32_t kind, address, status, mode; /* of the last one noted */
    volatile uint32_t noted, demanded, log[10], logged;
    uint32_t failed;
} ALIGNED(64) vcpus[MAX_VCPUS];
static struct barrier barrier;
static uint32_t rounds;

static struct vcpu *this_vcpu(void) { return &vcpus[vcpu_id()]; }

static void check(const char *what, bool holds)
{
    if (holds)
        return;
    this_vcpu()->failed++;
    print("boot: vCPU %u: wrong: %s\n", vcpu_id(), what);
}

static void note(struct vcpu *self, uint32_t step)
{
    if (self->logged < 10)
        self->log[self->logged++] = step;
}

static uint32_t page_of(unsigned id, unsigned page) { return window_page(id * PAGES_EACH + page); }

static void map(unsigned id, unsigned page, uint32_t attributes)
{
    window_map(id * PAGES_EACH + page, frames[id][page], attributes | PAGE_NORMAL);
    dsb();
    isb();
}

static void unmap(unsigned id, unsigned page)
{
    window_unmap(id * PAGES_EACH + page);
    tlb_invalidate_page(page_of(id, page));
}

/* Note the exception and go on behind it: after the instruction, or in the caller of a leaf function. */
static bool leave_behind(struct vcpu *self, struct frame *frame, unsigned kind, uint32_t address, uint32_t status)
{
    if (!self->expecting)
        return false;
    self->kind = kind;
    self->address = address;
    self->status = status;
    self->mode = frame->cpsr & MODE_MASK;
    self->noted++;
    if (self->mode == MODE_USR) {
        frame->pc += 4;
        return true;
    }
    if (frame->lr_svc & 1)
        frame->cpsr |= CPSR_T;
    else
        frame->cpsr &= ~CPSR_T;
    frame->pc = frame->lr_svc & ~1u;
    return true;
}

static void go_round(struct vcpu *self)
{
    note(self, IN_ABORT);
    access_undefined(0);
    note(self, BACK_IN_ABORT);
    if (vcpu_id() >= GIC_MAX_VCPUS) {
        note(self, IN_IRQ);
        return;
    }
    gic_send_sgi_to_self(NEST_SGI);
    irq_enable();
    while (self->log[self->logged - 1] != IN_IRQ)
        yield();
    irq_disable();
}

static bool page_in(struct vcpu *self, uint32_t address)
{
    unsigned id = vcpu_id(), page = (address - page_of(id, 0)) / PAGE_BYTES;

    if (!self->demand || address < page_of(id, 0) || page > HIGH_PAGE)
        return false;
    if (self->nesting) {
        self->nesting = false;
        go_round(self);
    }
    self->demanded++;
    map(id, page, PAGE_AP_USER);
    return true;
}

static bool on_data_abort(struct frame *frame)
{
    struct vcpu *self = this_vcpu();
    uint32_t address = read_dfar(), status = read_dfsr();

    if (fault_status(status) == PAGE_TRANSLATION && page_in(self, address))
        return true;
    return leave_behind(self, frame, DATA_ABORT, address, status);
}

static bool on_prefetch_abort(struct frame *frame)
{
    struct vcpu *self = this_vcpu();
    uint32_t address = read_ifar(), status = read_ifsr();

    if (fault_status(status) == PAGE_TRANSLATION && page_in(self, address))
        return true;
    return leave_behind(self, frame, PREFETCH_ABORT, address, status);
}

static bool on_undefined(struct frame *frame)
{
    struct vcpu *self = this_vcpu();

    if (self->lazy_vfp) {
        self->lazy_vfp = false;
        vfp_switch(true);
        return true;
    }
    if (self->demand) { /* on the way round */
        note(self, IN_UNDEFINED);
        frame->pc += 4;
        return true;
    }
    return leave_behind(self, frame, UNDEFINED, frame->pc, 0);
}

static bool on_irq(struct frame *frame)
{
    uint32_t acknowledged = gic_acknowledge();

    (void)frame;
    if (gic_intid(acknowledged) != NEST_SGI)
        return false;
    note(this_vcpu(), IN_IRQ);
    gic_end(acknowledged);
    return true;
}

static bool on_supervisor_call(struct frame *frame)
{
    struct vcpu *self = this_vcpu();
    uint32_t number = frame->cpsr & CPSR_T ? ((uint16_t *)frame->pc)[-1] & 0xff
                                           : ((uint32_t *)frame->pc)[-1] & 0xffffff;

    switch (number) {
    case CALL_EXIT:
        frame->pc = (uint32_t)user_returned;
        frame->cpsr = (frame->cpsr & ~(MODE_MASK | CPSR_T)) | MODE_SVC;
        return true;
    case CALL_TRIPLE: frame->r[0] = 3 * frame->r[0] + 1; return true;
    case CALL_NEST:
        note(self, IN_CALL);
        access_load(page_of(vcpu_id(), LOW_PAGE));
        note(self, BACK_IN_CALL);
        frame->r[0] = call_inner(frame->r[0]);
        note(self, END_OF_CALL);
        return true;
    case CALL_INNER:
        note(self, IN_INNER);
        frame->r[0]++;
        return true;
    }
    return false;
}

static void expect_fault(const char *what, uint32_t (*access)(uint32_t), uint32_t address, unsigned kind,
                         uint32_t status, bool write)
{
    struct vcpu *self = this_vcpu();

    self->noted = 0;
    self->expecting = true;
    access(address);
    self->expecting = false;
    check(what, self->noted == 1 && self->kind == kind && self->address == address &&
                fault_status(self->status) == status && !(self->status & DFSR_WNR) == !write);
}

static void check_faults(unsigned id)
{
    uint32_t read_only = page_of(id, READ_ONLY_PAGE), kernel = page_of(id, KERNEL_PAGE), low = page_of(id, LOW_PAGE);
    struct vcpu *self = this_vcpu();

    expect_fault("load from no section", access_load, UNMAPPED_SECTION + 8, DATA_ABORT, SECTION_TRANSLATION, false);
    expect_fault("store to no section", access_store, UNMAPPED_SECTION + 8, DATA_ABORT, SECTION_TRANSLATION, true);
    expect_fault("load from no page", access_load, low + 12, DATA_ABORT, PAGE_TRANSLATION, false);
    expect_fault("store to a read-only page", access_store, read_only, DATA_ABORT, PAGE_PERMISSION, true);
    expect_fault("LDRT from a kernel page", access_load_as_user, kernel, DATA_ABORT, PAGE_PERMISSION, false);
    expect_fault("STRT to a kernel page", access_store_as_user, kernel, DATA_ABORT, PAGE_PERMISSION, true);
    expect_fault("call of no section", access_call, UNMAPPED_SECTION, PREFETCH_ABORT, SECTION_TRANSLATION, false);
    expect_fault("call of no page", access_call, low + 16, PREFETCH_ABORT, PAGE_TRANSLATION, false);
    expect_fault("call of an execute-never page", access_call, read_only, PREFETCH_ABORT, PAGE_PERMISSION, false);
    check("read-only page is as it was", access_load(read_only) == id);

    self->noted = 0;
    self->expecting = true;
    access_undefined(0);
    check("UDF", self->noted == 1 && self->address == (uint32_t)access_undefined);
    access_undefined_thumb(0);
    check("Thumb UDF", self->noted == 2 && self->address == ((uint32_t)access_undefined_thumb & ~1u));
    self->expecting = false;

    CP15_WRITE(0, c7, c8, 0, read_only); /* ATS1CPR */
    isb();
    check("ATS1CPR", (CP15_READ(0, c7, c4, 0) & 0xfffff001) == (uint32_t)frames[id][READ_ONLY_PAGE]);
    CP15_WRITE(0, c7, c8, 0, low);
    isb();
    check("ATS1CPR of no page", CP15_READ(0, c7, c4, 0) & PAR_FAULT);
}

static void check_demand_paging(unsigned id)
{
    struct vcpu *self = this_vcpu();
    uint32_t low = page_of(id, LOW_PAGE), high = page_of(id, HIGH_PAGE), *code = frames[id][HIGH_PAGE];

    self->demand = true;
    self->demanded = 0;
    access_store(low + 4);
    check("demand-paged store", self->demanded == 1 && access_load(low + 4) == low + 4);
    check("STM into a page that comes in", store_four(high - 8, id + 1000) == high + 8 && self->demanded == 2);
    for (unsigned i = 0; i < 4; i++)
        check("its words", access_load(high - 8 + 4 * i) == id + 1000 + i);
    unmap(id, HIGH_PAGE);
    code[0] = MOVW_R0_42;
    code[1] = BX_LR;
    code_publish(code, 8);
    check("demand-paged code", access_call(high) == 42 && self->demanded == 3);
    unmap(id, LOW_PAGE);
    unmap(id, HIGH_PAGE);
    frames[id][LOW_PAGE][0] = 1;
    dmb();
    check("IT block around a page that comes in", thumb_it_block((uint32_t *)low) == 3 && self->demanded == 4);
    unmap(id, LOW_PAGE);
    self->demand = false;
}

static void check_nesting(unsigned id)
{
    struct vcpu *self = this_vcpu();

    self->demand = self->nesting = true;
    self->logged = 0;
    check("nested call's result", call_nest(10) == 11);
    self->demand = false;
    check("number of nested exceptions", self->logged == END_OF_CALL);
    for (unsigned step = 0; step < END_OF_CALL; step++)
        check("order of nested exceptions", self->log[step] == step + 1);
    unmap(id, LOW_PAGE);
}

static void check_user_mode(unsigned id)
{
    struct vcpu *self = this_vcpu();
    uint32_t stack = page_of(id, LOW_PAGE) + 2048, expected = 7;

    for (unsigned call = 0; call < USER_CALLS; call++)
        expected = 3 * expected + 1;
    self->demand = true; /* the stack's page */
    check("User mode, ARM", user_run(user_rounds_arm, stack, USER_CALLS, 0) == expected);
    check("User mode, Thumb", user_run(user_rounds_thumb, stack, USER_CALLS, 0) == expected);
    self->demand = false;

    self->noted = 0;
    self->expecting = true;
    check("CPS in User mode", (user_run(user_trespass, stack, page_of(id, KERNEL_PAGE), 0) & MODE_MASK) == 0);
    self->expecting = false;
    check("User mode's three mishaps", self->noted == 3 && self->kind == UNDEFINED && self->mode == MODE_USR);
    unmap(id, LOW_PAGE);
}

/* Everything that leaves the guest or comes back, without an exception of the guest's own. */
static void visit_hypervisor(unsigned id)
{
    uint32_t moved;

    psci_version();
    testdev_random();
    device_post_index(PL011_FR, &moved);
    check("post-indexed load of a device", moved == PL011_FR + 4);
    tlb_invalidate_page(page_of(id, LOW_PAGE));
    yield();
    sev();
    wfe();
}

static void check_banked_registers(unsigned id)
{
    uint32_t written[BANKED_WORDS], read[BANKED_WORDS];
    /* SPSRs are a mode and flags; LR and SPSR of ABT and UND are lost to exceptions, IRQ's to interrupts. */
    static const uint32_t spsrs = 1u << 7 | 1u << 10 | 1u << 13 | 1u << 16, lost = 6u << 8 | 6u << 11 | 6u << 14;

    for (unsigned i = 0; i < BANKED_WORDS; i++) {
        written[i] = testdev_random() & ~3u;
        if (spsrs >> i & 1)
            written[i] = (written[i] & 0xf0000000) | 0x1c0 | MODE_USR;
    }
    banked_write(written);
    visit_hypervisor(id);
    banked_read(read);
    for (unsigned i = 0; i < BANKED_WORDS; i++)
        check("banked registers after exits", read[i] == written[i]);
#ifndef QEMU /* whose vCPUs have no virtualization extensions on this board, and so not this MRS */
    banked_read_directly(read);
    for (unsigned i = 0; i < BANKED_WORDS; i++)
        check("MRS of banked registers", read[i] == written[i]);
#endif
    check_nesting(id);
    banked_read(read);
    for (unsigned i = 0; i < BANKED_WORDS; i++)
        check("banked registers after exceptions", (lost >> i & 1) || read[i] == written[i]);
}

static void check_vfp(unsigned id)
{
    struct vcpu *self = this_vcpu();
    static const uint64_t operands[2] = { 0x3ff8000000000000, 0x4002000000000000 }; /* 1.5, 2.25 */
    uint64_t written[32], read[32], sum;
    uint32_t fpscr = (id + 1) << 28;

    for (unsigned i = 0; i < 32; i++)
        written[i] = (uint64_t)testdev_random() << 32 | (id << 8 | i);
    vfp_switch(false);
    self->lazy_vfp = true;
    vfp_write(written, fpscr);
    check("VFP came on when used", !self->lazy_vfp);
    check_nesting(id);
    visit_hypervisor(id);
    check("FPSCR", vfp_read(read) == fpscr);
    for (unsigned i = 0; i < 32; i++)
        check("VFP registers", read[i] == written[i]);
    check("division by zero is flagged", vfp_compute(operands, &sum) & FPSCR_DZC);
    check("1.5 + 2.25", sum == 0x400e000000000000);
}

static void play(unsigned id)
{
    if (id < GIC_MAX_VCPUS)
        gic_init_interface();
    frames[id][READ_ONLY_PAGE][0] = id;
    map(id, READ_ONLY_PAGE, PAGE_AP_READ_ONLY | PAGE_XN);
    map(id, KERNEL_PAGE, PAGE_AP_PRIVILEGED | PAGE_XN);
    for (uint32_t round = 0; round < rounds; round++) {
        barrier_wait(&barrier, vcpu_count());
        check_faults(id);
        check_demand_paging(id);
        check_nesting(id);
        check_user_mode(id);
        check_banked_registers(id);
        check_vfp(id);
    }
}

static void go_off(unsigned id)
{
    if (id)
        vcpu_power_off();
}

static void do_nothing(unsigned id) { (void)id; }

static void check_power(void)
{
    check("PSCI is 0.2 or later", psci_version() >= 2);
    check("CPU_ON of no vCPU",
                               psci_cpu_on(0x00ffff00, NULL, 0) == PSCI_INVALID_PARAMETERS);
    check("CPU_ON of the caller", vcpu_power_on(0) == PSCI_ALREADY_ON);
    check("the caller is on", vcpu_power_state(0) == PSCI_ON);
    on_all_vcpus(go_off);
    for (unsigned id = 1; id < vcpu_count(); id++) {
        while (vcpu_power_state(id) != PSCI_OFF)
            yield();
        check("CPU_ON after CPU_OFF", vcpu_power_on(id) == 0);
    }
    on_all_vcpus(do_nothing);
}

int main(void)
{
    uint32_t failed = 0;

    rounds = testdev_parameter(ROUNDS);
    exception_handlers[UNDEFINED] = on_undefined;
    exception_handlers[SUPERVISOR_CALL] = on_supervisor_call;
    exception_handlers[PREFETCH_ABORT] = on_prefetch_abort;
    exception_handlers[DATA_ABORT] = on_data_abort;
    exception_handlers[IRQ] = on_irq;
    mmu_enable();
    gic_init_distributor();
    on_all_vcpus(play);
    check_power();
    for (unsigned id = 0; id < vcpu_count(); id++)
        failed += vcpus[id].failed;
    print("result: guest=boot vcpus=%u rounds=%u failed=%u\n", vcpu_count(), rounds, failed);
    return failed != 0;
}

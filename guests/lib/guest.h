/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every guest program may use: the board's addresses, the vCPUs, exceptions, printing and the verdict.
 *
 * A guest defines main(), which runs on the boot vCPU with the MMU off and IRQs masked, and returns the run's
 * status (0 passes). on_all_vcpus() starts the other vCPUs when it is first called.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_VCPUS 64

#define RAM_BASE 0x40000000u
#define RAM_BYTES 0x04000000u

#define ALIGNED(bytes) __attribute__((aligned(bytes)))
/* Memory that the image does not carry and start.S does not clear: large, or written before it is read. */
#define NOINIT __attribute__((section(".noinit")))

static inline uint32_t read32(uintptr_t address) { return *(volatile uint32_t *)address; }
static inline void write32(uintptr_t address, uint32_t value) { *(volatile uint32_t *)address = value; }

/* CP15 registers by their coordinates, as in CP15_READ(0, c13, c0, 4). */
#define CP15_READ(opc1, crn, crm, opc2) ({ \
    uint32_t value_; \
    asm volatile("mrc p15, " #opc1 ", %0, " #crn ", " #crm ", " #opc2 : "=r"(value_)); \
    value_; })
#define CP15_WRITE(opc1, crn, crm, opc2, value) \
    asm volatile("mcr p15, " #opc1 ", %0, " #crn ", " #crm ", " #opc2 :: "r"((uint32_t)(value)) : "memory")

static inline void dmb(void) { asm volatile("dmb" ::: "memory"); }
static inline void dsb(void) { asm volatile("dsb" ::: "memory"); }
static inline void isb(void) { asm volatile("isb" ::: "memory"); }
static inline void wfe(void) { asm volatile("wfe" ::: "memory"); }
static inline void wfi(void) { asm volatile("wfi" ::: "memory"); }
static inline void yield(void) { asm volatile("yield" ::: "memory"); }
/* Stores must be seen before the event is: WFE's waiter looks at memory once when it wakes. */
static inline void sev(void) { asm volatile("dsb\n\tsev" ::: "memory"); }
static inline void irq_enable(void) { asm volatile("cpsie i" ::: "memory"); }
static inline void irq_disable(void) { asm volatile("cpsid i" ::: "memory"); }

/* vCPUs: numbered 0 (boot) to vcpu_count() - 1 in the order in which PSCI accepted them. */
static inline unsigned vcpu_id(void) { return CP15_READ(0, c13, c0, 4); }
unsigned vcpu_count(void);

/* Run work(id) on every vCPU, the caller (the boot vCPU) included, and return when all have finished. */
void on_all_vcpus(void (*work)(unsigned id));
/* Called inside work(): count as finished, and sleep in WFI for the rest of the run. */
void vcpu_retire(void) __attribute__((noreturn));
/* The same, by PSCI CPU_OFF; once it is off, vcpu_power_on() lets it take part again. */
void vcpu_power_off(void) __attribute__((noreturn));
/* PSCI's results for a vCPU that on_all_vcpus() knows: CPU_ON, and AFFINITY_INFO. */
int32_t vcpu_power_on(unsigned id);
int32_t vcpu_power_state(unsigned id);

/* Printing: one call is one uninterrupted piece of output. Knows %u %d %x (8 digits) %s %c %%. */
void print(const char *format, ...);
void pl011_init(void);
void pl011_put(char character);

/* The test device. */
uint32_t testdev_random(void);
/* The host's parameter for this run, or the guest's default when the host gave none. */
uint32_t testdev_parameter(uint32_t default_value);
/* A value for the host's log: progress or a benchmark's marker. */
void testdev_mark(uint32_t value);
/* The run's verdict: 0 passes, 1 a check failed, 2 an unexpected exception. Ends the run. */
void testdev_exit(uint32_t status) __attribute__((noreturn));

/* PSCI 0.2 by HVC. Results are 0 or a negative PSCI error. */
#define PSCI_NOT_SUPPORTED (-1)
#define PSCI_INVALID_PARAMETERS (-2)
#define PSCI_ALREADY_ON (-4)
uint32_t psci_version(void);
int32_t psci_cpu_on(uint32_t mpidr, void (*entry)(void), uint32_t context);
int32_t psci_cpu_off(void);
#define PSCI_ON 0
#define PSCI_OFF 1
int32_t psci_affinity_info(uint32_t mpidr);
void psci_system_off(void) __attribute__((noreturn));

/*
 * Exceptions. Every exception is handled in SVC mode on the vCPU's SVC stack, so handlers nest. A handler may
 * change the frame, and returns whether it handled the exception; an unhandled exception ends the run.
 * `pc` is the preferred return address: the faulting instruction, or the one after an SVC.
 */
enum exception { RESET, UNDEFINED, SUPERVISOR_CALL, PREFETCH_ABORT, DATA_ABORT, HYP_TRAP, IRQ, FIQ, EXCEPTIONS };

struct frame {
    uint32_t r[13];
    uint32_t lr_svc;
    uint32_t pc;
    uint32_t cpsr;
};

#define CPSR_T (1u << 5)
#define CPSR_I (1u << 7)
#define MODE_USR 0x10u
#define MODE_FIQ 0x11u
#define MODE_IRQ 0x12u
#define MODE_SVC 0x13u
#define MODE_ABT 0x17u
#define MODE_UND 0x1bu
#define MODE_SYS 0x1fu
#define MODE_MASK 0x1fu

typedef bool (*exception_handler)(struct frame *frame);
extern exception_handler exception_handlers[EXCEPTIONS];

static inline uint32_t read_dfsr(void) { return CP15_READ(0, c5, c0, 0); }
static inline uint32_t read_ifsr(void) { return CP15_READ(0, c5, c0, 1); }
static inline uint32_t read_dfar(void) { return CP15_READ(0, c6, c0, 0); }
static inline uint32_t read_ifar(void) { return CP15_READ(0, c6, c0, 2); }
/* Fault status: FS[4] is bit 10 (short descriptors). */
static inline uint32_t fault_status(uint32_t fsr) { return (fsr & 0xf) | (fsr >> 6 & 0x10); }

int main(void);

#endif

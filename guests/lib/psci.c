/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Power State Coordination Interface 0.2, conduit HVC (ARM DEN 0022). */
#include "guest.h"

#define PSCI_VERSION 0x84000000u
#define PSCI_CPU_OFF 0x84000002u
#define PSCI_CPU_ON 0x84000003u
#define PSCI_AFFINITY_INFO 0x84000004u
#define PSCI_SYSTEM_OFF 0x84000008u

static uint32_t hvc(uint32_t function, uint32_t a, uint32_t b, uint32_t c)
{
    register uint32_t r0 asm("r0") = function;
    register uint32_t r1 asm("r1") = a;
    register uint32_t r2 asm("r2") = b;
    register uint32_t r3 asm("r3") = c;

    asm volatile(".arch_extension virt\n\thvc #0" : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3) :: "memory");
    return r0;
}

uint32_t psci_version(void) { return hvc(PSCI_VERSION, 0, 0, 0); }

int32_t psci_cpu_on(uint32_t mpidr, void (*entry)(void), uint32_t context)
{
    return (int32_t)hvc(PSCI_CPU_ON, mpidr, (uint32_t)entry, context);
}

int32_t psci_cpu_off(void) { return (int32_t)hvc(PSCI_CPU_OFF, 0, 0, 0); }

int32_t psci_affinity_info(uint32_t mpidr) { return (int32_t)hvc(PSCI_AFFINITY_INFO, mpidr, 0, 0); }

void psci_system_off(void)
{
    hvc(PSCI_SYSTEM_OFF, 0, 0, 0);
    for (;;)
        wfi();
}

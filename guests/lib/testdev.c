/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The test device. QEMU's board has none: a build with -DQEMU (for developing guests against a second machine)
 * takes the vCPU count and the parameter from macros and gives its verdict by semihosting.
 */
#include "guest.h"

#ifndef QEMU

#define TESTDEV_BASE 0x0b000000u
#define TESTDEV_EXIT (TESTDEV_BASE + 0x00)
#define TESTDEV_VCPUS (TESTDEV_BASE + 0x04)
#define TESTDEV_RANDOM (TESTDEV_BASE + 0x08)
#define TESTDEV_MAGIC (TESTDEV_BASE + 0x0c)
#define TESTDEV_MARK (TESTDEV_BASE + 0x10)
#define TESTDEV_PARAMETER (TESTDEV_BASE + 0x14)

#define MAGIC 0x41535450u /* "ASTP" */

unsigned vcpu_count(void)
{
    static unsigned count;

    if (!count)
        count = read32(TESTDEV_MAGIC) == MAGIC ? read32(TESTDEV_VCPUS) : 1;
    return count;
}

uint32_t testdev_random(void) { return read32(TESTDEV_RANDOM); }

uint32_t testdev_parameter(uint32_t default_value)
{
    uint32_t value = read32(TESTDEV_PARAMETER);

    return value ? value : default_value;
}

void testdev_mark(uint32_t value) { write32(TESTDEV_MARK, value); }

void testdev_exit(uint32_t status)
{
    dsb();
    write32(TESTDEV_EXIT, status);
    for (;;)
        wfi();
}

#else

#ifndef PARAMETER
#define PARAMETER 0
#endif
#define SYS_EXIT_EXTENDED 0x20u
#define ADP_STOPPED_APPLICATION_EXIT 0x20026u

unsigned vcpu_count(void) { return VCPUS; }

uint32_t testdev_random(void)
{
    uint32_t low, high;

    asm volatile("mrrc p15, 1, %0, %1, c14" : "=r"(low), "=r"(high)); /* CNTVCT */
    return low * 2654435761u;
}

uint32_t testdev_parameter(uint32_t default_value) { return PARAMETER ? PARAMETER : default_value; }

void testdev_mark(uint32_t value) { (void)value; }

void testdev_exit(uint32_t status)
{
    uint32_t block[2] = { ADP_STOPPED_APPLICATION_EXIT, status };
    register uint32_t r0 asm("r0") = SYS_EXIT_EXTENDED;
    register uint32_t *r1 asm("r1") = block;

    asm volatile("svc #0x123456" :: "r"(r0), "r"(r1) : "memory");
    for (;;)
        wfi();
}

#endif

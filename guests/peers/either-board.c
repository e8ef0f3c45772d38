/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What testdev.c offers, on a board with the test device and on QEMU's without it, in one image: whether there is one
 * is found out by looking. Without it, the parameter and the number of vCPUs are words in RAM that the host has
 * written (QEMU's -device loader), and the run ends by PSCI.
 */
#include "mmu.h"

#define TESTDEV_BASE 0x0b000000u
#define TESTDEV_EXIT (TESTDEV_BASE + 0x00)
#define TESTDEV_VCPUS (TESTDEV_BASE + 0x04)
#define TESTDEV_MAGIC (TESTDEV_BASE + 0x0c)
#define TESTDEV_PARAMETER (TESTDEV_BASE + 0x14)
#define MAGIC 0x41535450u

#define HANDED_PARAMETER 0x43fff000u
#define HANDED_VCPUS 0x43fff004u

static bool looked, has_testdev;
static unsigned count;
static uint32_t parameter;

/* Called first with the MMU off, on the boot vCPU. */
static void look(void)
{
    exception_handler before = exception_handlers[DATA_ABORT];
    uint32_t magic = 0;

    exception_handlers[DATA_ABORT] = probe_data_abort;
    has_testdev = probe_read((const volatile uint32_t *)TESTDEV_MAGIC, &magic) && magic == MAGIC;
    exception_handlers[DATA_ABORT] = before;
    parameter = read32(has_testdev ? TESTDEV_PARAMETER : HANDED_PARAMETER);
    count = read32(has_testdev ? TESTDEV_VCPUS : HANDED_VCPUS);
    looked = true;
}

unsigned vcpu_count(void)
{
    if (!looked)
        look();
    return count ? count : 1;
}

uint32_t testdev_parameter(uint32_t default_value) { return parameter ? parameter : default_value; }

void testdev_exit(uint32_t status)
{
    dsb();
    while (has_testdev) {
        write32(TESTDEV_EXIT, status);
        wfi();
    }
    print("end: status=%u\n", status);
    psci_system_off();
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "gic.h"

#define GICD_BASE 0x08000000u
#define GICD_CTLR (GICD_BASE + 0x000)
#define GICD_ISENABLER0 (GICD_BASE + 0x100)
#define GICD_ISPENDR0 (GICD_BASE + 0x200)
#define GICD_IPRIORITYR (GICD_BASE + 0x400)
#define GICD_ITARGETSR0 (GICD_BASE + 0x800)
#define GICD_SGIR (GICD_BASE + 0xf00)

#define GICC_BASE 0x08010000u
#define GICC_CTLR (GICC_BASE + 0x00)
#define GICC_PMR (GICC_BASE + 0x04)
#define GICC_BPR (GICC_BASE + 0x08)
#define GICC_IAR (GICC_BASE + 0x0c)
#define GICC_EOIR (GICC_BASE + 0x10)
#define GICC_RPR (GICC_BASE + 0x14)

#define ALL_SGIS 0xffffu
#define SGIR_OTHERS (1u << 24)
#define SGIR_SELF (2u << 24)

void gic_init_distributor(void) { write32(GICD_CTLR, 1); }

void gic_init_interface(void)
{
    write32(GICD_ISENABLER0, ALL_SGIS);
    for (unsigned sgi = 0; sgi < 16; sgi += 4)
        write32(GICD_IPRIORITYR + sgi, 0x80808080);
    write32(GICC_BPR, 0); /* every bit of the priority counts for preemption */
    write32(GICC_PMR, GIC_OPEN);
    write32(GICC_CTLR, 1);
}

uint32_t gic_own_target(void)
{
    uint32_t target = read32(GICD_ITARGETSR0) & 0xff;

    return target ? target : 1; /* with a single vCPU the register reads as zero */
}

/* What an SGI announces must be visible when it arrives. */
static void send(uint32_t value)
{
    dsb();
    write32(GICD_SGIR, value);
}

void gic_send_sgi(uint32_t targets, unsigned sgi) { send(targets << 16 | sgi); }
void gic_send_sgi_to_others(unsigned sgi) { send(SGIR_OTHERS | sgi); }
void gic_send_sgi_to_self(unsigned sgi) { send(SGIR_SELF | sgi); }

uint32_t gic_acknowledge(void)
{
    uint32_t acknowledged = read32(GICC_IAR);

    dsb();
    return acknowledged;
}

void gic_end(uint32_t acknowledged)
{
    dsb();
    write32(GICC_EOIR, acknowledged);
}

void gic_set_priority_mask(uint32_t mask)
{
    write32(GICC_PMR, mask);
    dsb();
}

void gic_set_sgi_priority(unsigned sgi, uint8_t priority)
{
    *(volatile uint8_t *)(GICD_IPRIORITYR + sgi) = priority;
}

uint32_t gic_running_priority(void) { return read32(GICC_RPR); }

uint32_t gic_pending_sgis(void) { return read32(GICD_ISPENDR0) & ALL_SGIS; }

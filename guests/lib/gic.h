/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ARM Generic Interrupt Controller, architecture 2.0 (ARM IHI 0048): what software-generated interrupts need. */
#ifndef GIC_H
#define GIC_H

#include "guest.h"

#define GIC_MAX_VCPUS 8
#define GIC_SPURIOUS 1023u
#define GIC_OPEN 0xf0u /* a priority mask that lets all but the very lowest through */

/* Once for the machine; all SGIs start with priority 0x80. */
void gic_init_distributor(void);
/* On each vCPU. */
void gic_init_interface(void);

/* The calling vCPU's bit in a list of targets. */
uint32_t gic_own_target(void);
void gic_send_sgi(uint32_t targets, unsigned sgi);
void gic_send_sgi_to_others(unsigned sgi);
void gic_send_sgi_to_self(unsigned sgi);

/* The interface's acknowledge register: INTID in [9:0], an SGI's sender in [12:10]. */
uint32_t gic_acknowledge(void);
void gic_end(uint32_t acknowledged);
static inline unsigned gic_intid(uint32_t acknowledged) { return acknowledged & 0x3ff; }
static inline unsigned gic_sender(uint32_t acknowledged) { return acknowledged >> 10 & 7; }

/* Interrupts of a lower priority (a value not below `mask`) wait. */
void gic_set_priority_mask(uint32_t mask);
void gic_set_sgi_priority(unsigned sgi, uint8_t priority);
uint32_t gic_running_priority(void);
/* SGIs pending for the calling vCPU, a bit each. */
uint32_t gic_pending_sgis(void);

#endif

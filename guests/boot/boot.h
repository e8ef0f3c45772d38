/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The assembly parts of boot.c. */
#ifndef BOOT_H
#define BOOT_H

/* System calls of the user programs; the number is the SVC's immediate. */
#define CALL_EXIT 0    /* leave User mode; r0 is user_run()'s result */
#define CALL_TRIPLE 1  /* r0 = 3 * r0 + 1 */
#define CALL_NEST 2    /* go down into every other kind of exception; r0 = r0 + 1 */
#define CALL_INNER 3   /* made by the handler of CALL_NEST; r0 = r0 + 1 */

#define BANKED_WORDS 19

#ifndef __ASSEMBLER__
#include "guest.h"

/* Leaf functions that make one access, or execute UDF as their first instruction; a handler may return to lr. */
uint32_t access_load(uint32_t address);
uint32_t access_store(uint32_t address);
uint32_t access_load_as_user(uint32_t address);
uint32_t access_store_as_user(uint32_t address);
uint32_t access_call(uint32_t address);
uint32_t access_undefined(uint32_t unused);
uint32_t access_undefined_thumb(uint32_t unused);

/* Store value, value + 1, value + 2, value + 3 with one STMIA with writeback; returns the base after it. */
uint32_t store_four(uint32_t address, uint32_t value);
/* r0 + 3, computed in a Thumb IT block around a load of 1 from `address` and two SVCs that triple nothing. */
uint32_t thumb_it_block(const uint32_t *address);

/* Run `program` in User mode (bit 0: Thumb) until CALL_EXIT; r0 = argument, r1 = second. */
uint32_t user_run(const void *program, uint32_t stack, uint32_t argument, uint32_t second);
extern const char user_returned[], user_rounds_arm[], user_rounds_thumb[], user_trespass[];

uint32_t call_nest(uint32_t value);
uint32_t call_inner(uint32_t value);

/*
 * Registers of other modes: FIQ r8-r14, SPSR; then SP, LR, SPSR of IRQ, ABT and UND; then User's SP and LR. Read by
 * going to each mode, and by the MRS of the virtualization extensions.
 */
void banked_write(const uint32_t values[BANKED_WORDS]);
void banked_read(uint32_t values[BANKED_WORDS]);
void banked_read_directly(uint32_t values[BANKED_WORDS]);

void vfp_write(const uint64_t doubles[32], uint32_t fpscr);
uint32_t vfp_read(uint64_t doubles[32]);
/* a + b, and a / 0 for its exception flag; returns FPSCR. */
uint32_t vfp_compute(const uint64_t operands[2], uint64_t *sum);
void vfp_switch(bool on);

/* Reads of a device that need emulation: LDR with writeback. */
uint32_t device_post_index(uint32_t address, uint32_t *moved);
#endif

#endif

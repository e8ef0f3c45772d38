/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The library's CPU of one engine, outside a run unless a comment says otherwise. */
#ifndef ALLSTOP_ENGINE_INTERPOSE_CPU_H
#define ALLSTOP_ENGINE_INTERPOSE_CPU_H

#include <stddef.h>
#include <stdint.h>

#include <unicorn/unicorn.h>

struct interpose;

void interpose_take_exception(struct interpose *s); /* in a run; as the architecture says, to EL1 or EL2 */
void interpose_flush_tlb(struct interpose *s);
void interpose_flush_page(struct interpose *s, uint32_t gva); /* of a page, or a larger one that it is a part of */
/* Drop the translated code of some pages, by their offset in RAM; or all of it. */
void interpose_invalidate_code(struct interpose *s, uint64_t ram_offset, uint64_t bytes);
void interpose_drop_code(struct interpose *s);

/* The exclusive monitor: its address (all ones when open) and the value that was loaded. */
void interpose_monitor(struct interpose *s, uint64_t *address, uint64_t *value);
void interpose_set_monitor(struct interpose *s, uint64_t address, uint64_t value);

/* The CPU in a context that uc.context_alloc() made, without the library's own header, which holds pointers and old
 * contents of memory: the same bytes for the same state. */
void *interpose_context_state(struct interpose *s, uc_context *context, size_t *bytes);

/* For interpose/: the CPU, and its architectural state (CPUARMState). */
void *interpose_cpu(const struct interpose *s);
void *interpose_cpu_of(void *env);
void *interpose_env(const struct interpose *s);

#endif

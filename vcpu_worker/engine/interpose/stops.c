/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vcpu_worker/engine/interpose/stops.h"

#include <string.h>

#include "vcpu_worker/engine/interpose/cpu.h"
#include "vcpu_worker/engine/interpose/state.h"

#define BLOCK_PC 0 /* TranslationBlock.pc: tb_gen_code_arm */

void interpose_set_budget(struct interpose *s, uint64_t instructions)
{
    if (s->stops.counting != (instructions != 0)) {
        s->stops.counting = instructions != 0;
        interpose_drop_code(s);
    }
    s->stops.budget_left = instructions;
}

uint64_t interpose_budget_left(const struct interpose *s)
{
    return s->stops.budget_left;
}

bool interpose_budget_is_spent(const struct interpose *s)
{
    return budget_is_spent(&s->stops);
}

void interpose_count(struct interpose *s)
{
    count_instruction(&s->stops);
}

void interpose_uncount(struct interpose *s)
{
    s->stops.budget_left += s->stops.counting;
    s->stops.retries = s->stops.passed_last;
}

void interpose_set_breakpoints(struct interpose *s, const uint32_t *addresses, unsigned n)
{
    memcpy(s->stops.breakpoints, addresses, n * sizeof *addresses);
    s->stops.breakpoint_count = n;
    s->stops.passes = s->stops.passed_last = s->stops.retries = false;
    interpose_drop_code(s);
}

bool interpose_is_at_breakpoint(struct interpose *s)
{
    bool hit = s->stops.at_breakpoint;
    s->stops.at_breakpoint = false;
    return hit;
}

/* One instruction under a budget; else none but the first one may be at a breakpoint. */
int stops_longest_block(const struct interpose *s, uint32_t pc, int longest)
{
    if (s->stops.counting)
        return 1;
    for (unsigned i = 0; i < s->stops.breakpoint_count; i++) {
        uint32_t ahead = s->stops.breakpoints[i] - pc;
        if (ahead != 0 && ahead < 4u * (uint32_t)longest)
            longest = ahead < 8 ? 1 : (int)(ahead / 4);
    }
    return longest;
}

bool stops_hits(struct interpose *s, uintptr_t host_pc)
{
    struct stops *stops = &s->stops;
    if (s->watch.suspended)
        return false;
    TranslationBlock *block = real.lookup(s->translator, host_pc);
    uint32_t pc = block ? AT(block, BLOCK_PC, uint32_t) : 0;
    bool passed = (stops->passes || stops->retries) && pc == stops->passing;
    stops->passed_last = stops->retries = false;
    for (unsigned i = 0; block && i < stops->breakpoint_count; i++) {
        if (stops->breakpoints[i] != pc)
            continue;
        stops->passes = !passed;
        stops->passed_last = passed;
        stops->passing = pc;
        stops->at_breakpoint = !passed;
        return !passed;
    }
    return false;
}

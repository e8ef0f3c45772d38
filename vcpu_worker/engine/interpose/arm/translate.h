/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ALLSTOP_ENGINE_INTERPOSE_ARM_TRANSLATE_H
#define ALLSTOP_ENGINE_INTERPOSE_ARM_TRANSLATE_H

#include <stdbool.h>
#include <stdint.h>

struct interpose;

/* What the guest's stage 1 makes of an address. */
struct translation {
    uint32_t ipa;
    bool walk_stopped;                  /* the walk read a descriptor at `ipa`, which stage 2 does not map */
    uint32_t lpae_status, short_status; /* of the fault: DFSC, and DFSR.FS */
};

/* Walk the guest's stage-1 tables, whatever its mode is, and change nothing, PAR included. False where it faults. */
bool interpose_translate(struct interpose *s, uint32_t gva, bool write, bool privileged, struct translation *result);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ALLSTOP_ENGINE_RUN_SETUP_H
#define ALLSTOP_ENGINE_RUN_SETUP_H

#include "vcpu_worker/engine/vcpu.h"

/* `v` has its mappings, its number and `as_shipped`. False with `sentence` set; then all is freed. */
bool vcpu_open(struct vcpu *v, uint32_t mpidr);
void vcpu_close(struct vcpu *v);

/* This thread works for `v` from now on. */
void vcpu_select(struct vcpu *v);

/* As after a reset; it starts at `entry`, in Thumb where that is odd. */
bool vcpu_power_on(struct vcpu *v, uint32_t entry, const uint32_t r[3]);

/* The library's context was replaced: what is kept beside it, or comes from outside, has to follow. */
void vcpu_restored(struct vcpu *v);

#endif

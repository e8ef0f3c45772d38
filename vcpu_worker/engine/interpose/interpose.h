/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One engine: everything that depends on the insides of libunicorn is in this folder, and nothing else is. */
#ifndef ALLSTOP_ENGINE_INTERPOSE_INTERPOSE_H
#define ALLSTOP_ENGINE_INTERPOSE_INTERPOSE_H

#include <stdbool.h>
#include <stdint.h>

#include <unicorn/unicorn.h>

#include "vcpu_worker/engine/interpose/contract.h"

struct interpose; /* what is kept of one engine */

/* With `as_shipped` the library behaves as it is: no atomics or fences between processes. For the test that shows the
 * conformance gate red. NULL when there is no memory. */
struct interpose *interpose_new(bool as_shipped);
void interpose_free(struct interpose *s); /* after uc.close() */

/* This thread drives the engine `s` from now on; NULL: none. Before the thread first calls the library for it. */
void interpose_select(struct interpose *s);

/* `requests` is the word that is polled at each block start. NULL for `engine`: the library behaves as shipped
 * again. */
void interpose_attach(struct interpose *s, uc_engine *engine, _Atomic uint32_t *requests,
                      const struct interpose_events *events, void *context);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The library: loaded once per process, checked, and its public functions. */
#ifndef ALLSTOP_ENGINE_INTERPOSE_LIBRARY_H
#define ALLSTOP_ENGINE_INTERPOSE_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <unicorn/unicorn.h>

/* Public functions of the library, found by name. */
struct library_functions {
    uc_err (*open)(uc_arch, uc_mode, uc_engine **);
    uc_err (*close)(uc_engine *);
    uc_err (*ctl)(uc_engine *, uc_control_type, ...);
    uc_err (*mem_map_ptr)(uc_engine *, uint64_t, size_t, uint32_t, void *);
    uc_err (*emu_start)(uc_engine *, uint64_t, uint64_t, uint64_t, size_t);
    uc_err (*emu_stop)(uc_engine *);
    uc_err (*reg_read)(uc_engine *, int, void *);
    uc_err (*reg_write)(uc_engine *, int, const void *);
    uc_err (*hook_add)(uc_engine *, uc_hook *, int, void *, void *, uint64_t, uint64_t, ...);
    uc_err (*context_alloc)(uc_engine *, uc_context **);
    uc_err (*context_save)(uc_engine *, uc_context *);
    uc_err (*context_restore)(uc_engine *, uc_context *);
    size_t (*context_size)(uc_engine *);
    uc_err (*context_free)(uc_context *);
    const char *(*strerror)(uc_err);
};

extern struct library_functions uc __attribute__((visibility("hidden")));

/* Load the library at `path` and check that it is the known build. NULL, or one sentence. A library is loaded once;
 * after that, and with NULL for a path, this repeats the first answer. */
const char *library_open(const char *path);

/* The hash of the machine code of each function that the engine relies on, for porting to another build. */
size_t library_fact_count(void);
bool library_fact(size_t index, const char **name, uint64_t *expected, uint64_t *found);

#endif

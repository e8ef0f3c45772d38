/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the engine and interpose/ hand each other. */
#ifndef ALLSTOP_ENGINE_INTERPOSE_CONTRACT_H
#define ALLSTOP_ENGINE_INTERPOSE_CONTRACT_H

#include <stdbool.h>
#include <stdint.h>

/* What translated code calls back; `context` is interpose_attach()'s. */
struct interpose_events {
    /* A block is about to start and `*requests` is not zero. True: stop the run before the block. */
    bool (*poll)(void *context);
    /* WFE or YIELD was executed. */
    void (*hint)(void *context, bool is_wfe);
};

/* What may be done with a page: bit n for the library's access type n, which are also its PAGE_ bits. */
enum { INTERPOSE_READ = 1, INTERPOSE_WRITE = 2, INTERPOSE_EXECUTE = 4 };

/* Where the byte at `ipa` lies in this process, and what stage 2 allows; NULL where stage 2 maps nothing. */
typedef const void *interpose_memory(void *context, uint32_t ipa, int *allowed);

#define INTERPOSE_BREAKPOINTS 64u
#define INTERPOSE_WATCHPOINTS 16u

enum { WATCH_READ = 1, WATCH_WRITE = 2 }; /* QEMU's BP_MEM_READ, BP_MEM_WRITE */

struct watchpoint {
    uint32_t address, bytes; /* virtual */
    unsigned kinds;          /* WATCH_READ | WATCH_WRITE */
};

#endif

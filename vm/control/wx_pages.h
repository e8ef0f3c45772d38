/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The W+X pages: those that toggled between writable and executable too often, and are both for a while.
 *
 * An entry is page number << 32 | the millisecond of CLOCK_MONOTONIC at which the page may be made an ordinary one
 * again. A page that finds no free place is counted in `wx_beyond`, and stays W+X.
 */
#ifndef ALLSTOP_WX_PAGES_H
#define ALLSTOP_WX_PAGES_H

#include "futex.h"
#include "layout.h"

/* A page is W+X from now on, for `ms` at least. */
static inline void cp_add_wx(struct cp_host *host, uint32_t page, uint32_t ms)
{
    uint64_t mine = (uint64_t)page << 32 | (uint32_t)(cp_now_ns() / 1000000 + ms);
    atomic_fetch_add(&host->wx_pages, 1);
    for (uint32_t i = 0; i < CP_WX_PAGES; i++) {
        uint64_t free = 0;
        if (atomic_compare_exchange_strong(&host->wx[i], &free, mine))
            return;
    }
    atomic_fetch_add(&host->wx_beyond, 1);
}

#endif

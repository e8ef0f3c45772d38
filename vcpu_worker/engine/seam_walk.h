/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ALLSTOP_SEAM_WALK_H
#define ALLSTOP_SEAM_WALK_H

#include <stdbool.h>
#include <stdint.h>

/* What may be done with a page: bit n for the library's access type n, which are also its PAGE_ bits. */
enum { SEAM_READ = 1, SEAM_WRITE = 2, SEAM_EXECUTE = 4 };

/* Where the byte at `ipa` lies in this process, and what stage 2 allows; NULL where stage 2 has nothing there. */
typedef const void *seam_memory(uint32_t ipa, int *allowed);

/* For the seam: walk by `memory` from now on; `table` is the library's of its registers. Either NULL: not at all. */
void seam_walk_by(void *table, seam_memory *memory);

#endif

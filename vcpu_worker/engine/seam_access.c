/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Loads and stores as they are translated.
 *
 * The library also checks for a stop after each load and store; such a stop rewinds PC to an access that has been done already.
 * These checks are left out: exact, and faster. An LDRD into its own base also tries the second word first: where only that
 * one faults, the library would start again from a base that the first has overwritten.
 */
#include "seam_access.h"

#include "seam_library.h"
#include "seam_reading.h"

#define INTERPOSED __attribute__((visibility("default")))
#define UC_NO_EXIT_REQUEST 0x7f2 /* uc_struct.no_exit_request: check_exit_request_arm */

static uc_engine *engine;

void seam_access_attach(uc_engine *of)
{
    engine = of;
}

/* The check after an access is emitted only where the library does not forbid it: it forbids it in IT blocks. */
#define WITHOUT_CHECK(name, call)                                                                                      \
    void name(TCGContext *tcg, void *value, void *address, uintptr_t index, int operation)                  \
    {                                                                                                                  \
        bool *forbidden = engine ? (bool *)((char *)engine + UC_NO_EXIT_REQUEST) : &(bool){ false };                           \
        bool before = *forbidden;                                                                                      \
        *forbidden = true;                                                                                             \
        call(tcg, value, address, index, operation);                                                                   \
        *forbidden = before;                                                                                           \
    }
static WITHOUT_CHECK(load_32, real.ld_i32)
INTERPOSED WITHOUT_CHECK(tcg_gen_qemu_st_i32_arm, real.st_i32)
INTERPOSED WITHOUT_CHECK(tcg_gen_qemu_ld_i64_arm, real.ld_i64)
INTERPOSED WITHOUT_CHECK(tcg_gen_qemu_st_i64_arm, real.st_i64)

/* LDRD without writeback whose first destination is its base. A8.8.72 (ARM DDI 0406C). */
static bool loads_its_base_first(uint32_t word, bool thumb)
{
    if ((word >> 16 & 15) != (word >> 12 & 15))
        return false;
    return thumb ? (word & 0xff700000) == 0xe9500000 : word >> 28 != 15 && (word & 0x0f3000f0) == 0x010000d0;
}

INTERPOSED void tcg_gen_qemu_ld_i32_arm(TCGContext *tcg, void *value, void *address, uintptr_t index, int operation)
{
    uint32_t word;
    bool thumb, first = seam_reading_first_load(&word, &thumb);
    if (engine != NULL && first && loads_its_base_first(word, thumb)) {
        real.addi_i32(tcg, value, address, 4);
        load_32(tcg, value, value, index, operation);
    }
    load_32(tcg, value, address, index, operation);
}

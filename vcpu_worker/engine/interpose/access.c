/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Loads and stores as they are translated.
 *
 * The library also checks for a stop after each load and store; such a stop rewinds PC to an access that has been done.
 * These checks are left out, which makes stops exact and translated code faster.
 */
#include "vcpu_worker/engine/interpose/arm/doubleword.h"
#include "vcpu_worker/engine/interpose/reading.h"
#include "vcpu_worker/engine/interpose/state.h"

#define UC_NO_EXIT_REQUEST 0x7f2 /* uc_struct.no_exit_request: check_exit_request_arm */

/* The check after an access is emitted only where the library does not forbid it: it forbids it in IT blocks. */
#define WITHOUT_CHECK(name, call)                                                                                      \
    void name(TCGContext *tcg, void *value, void *address, uintptr_t index, int operation)                             \
    {                                                                                                                  \
        uc_engine *engine = interpose_current->uc;                                                                     \
        bool *forbidden = engine ? &AT(engine, UC_NO_EXIT_REQUEST, bool) : &(bool){ false };                           \
        bool before = *forbidden;                                                                                      \
        *forbidden = true;                                                                                             \
        call(tcg, value, address, index, operation);                                                                   \
        *forbidden = before;                                                                                           \
    }
static WITHOUT_CHECK(load_32, real.ld_i32) INTERPOSED WITHOUT_CHECK(tcg_gen_qemu_st_i32_arm, real.st_i32) INTERPOSED
    WITHOUT_CHECK(tcg_gen_qemu_ld_i64_arm, real.ld_i64) INTERPOSED WITHOUT_CHECK(tcg_gen_qemu_st_i64_arm, real.st_i64)

        INTERPOSED
    void tcg_gen_qemu_ld_i32_arm(TCGContext *tcg, void *value, void *address, uintptr_t index, int operation)
{
    struct interpose *s = interpose_current;
    uint32_t word;
    bool thumb;
    if (s->uc != NULL && reading_first_load(&s->reading, &word, &thumb) && loads_its_base_first(word, thumb)) {
        real.addi_i32(tcg, value, address, 4);
        load_32(tcg, value, value, index, operation);
    }
    load_32(tcg, value, address, index, operation);
}

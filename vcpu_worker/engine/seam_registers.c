/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Registers of CP15 that are ours: the library's description of one, with other functions to read and write it. The
 * translator then calls those; who may access the register, and where that traps, stays the library's matter. */
#include "seam_registers.h"

#include <string.h>

#include "seam_description.h"
#include "seam_library.h"

#define TYPE_SPECIAL 0x0f01 /* NOP, WFI: chosen before any function is called */
#define TYPE_CONST 2
#define MOST 64

static struct ours {
    uint32_t key;
    seam_register_read *read;
    seam_register_write *write;
    struct seam_description description;
    bool described;
} all_ours[MOST];
static unsigned count;

bool seam_define_register(uint32_t key, seam_register_read *read, seam_register_write *write)
{
    if (count == MOST)
        return false;
    all_ours[count++] = (struct ours) { .key = key, .read = read, .write = write };
    return true;
}

void seam_registers_forget(void)
{
    count = 0;
}

intptr_t seam_register_field(void *table, uint32_t key)
{
    const struct seam_description *found = real.reginfo(table, key | NON_SECURE);
    return found ? found->field : 0;
}

const void *seam_registers_find(uint32_t key, const void *theirs)
{
    uint32_t name = key & ~NON_SECURE;
    for (unsigned i = 0; i < count && theirs != NULL; i++) {
        struct ours *found = &all_ours[i];
        if (found->key != name)
            continue;
        if (!found->described) {
            memcpy(&found->description, theirs, sizeof found->description);
            found->description.type &= ~(TYPE_SPECIAL | TYPE_CONST);
            found->description.read = found->read;
            found->description.write = found->write;
            found->described = true;
        }
        return &found->description;
    }
    return theirs;
}

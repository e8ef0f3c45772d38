/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Registers of ours: the library's description of one, with other functions to read and write it. The translator then
 * calls those; the library still decides who may access the register, and where that traps. */
#include "vcpu_worker/engine/interpose/arm/registers.h"

#include <string.h>

#include "vcpu_worker/engine/interpose/state.h"

#define TYPE_SPECIAL 0x0f01 /* NOP, WFI: chosen before any function is called */
#define TYPE_CONST 2

bool interpose_define_register(struct interpose *s, uint32_t key, register_read *read, register_write *write,
                               void *context)
{
    if (s->registers.count == OWN_REGISTERS)
        return false;
    s->registers.all[s->registers.count++] = (struct own_register){
        .key = key, .description = { .read = read, .write = write, .opaque = context }
    };
    return true;
}

intptr_t registers_field(const struct interpose *s, uint32_t key)
{
    const struct register_description *found = real.reginfo(s->registers_table, key | KEY_NON_SECURE);
    return found ? found->field : 0;
}

static void describe(struct own_register *own, const void *theirs)
{
    struct register_description ours = own->description;
    memcpy(&own->description, theirs, sizeof own->description);
    own->description.type &= ~(TYPE_SPECIAL | TYPE_CONST);
    own->description.read = ours.read;
    own->description.write = ours.write;
    own->description.opaque = ours.opaque;
    own->described = true;
}

const void *registers_find(struct interpose *s, uint32_t key, const void *theirs)
{
    uint32_t name = key & ~KEY_NON_SECURE;
    for (unsigned i = 0; i < s->registers.count && theirs != NULL; i++) {
        struct own_register *found = &s->registers.all[i];
        if (found->key != name)
            continue;
        if (!found->described)
            describe(found, theirs);
        return &found->description;
    }
    return theirs;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vcpu_worker/engine/binding/exit.h"

#include <structmember.h>

typedef struct {
    PyObject_HEAD
    struct exit_record record;
} Exit;

static PyMemberDef exit_members[] = {
#define FIELD(name, type, text)                                                                                        \
    {                                                                                                                  \
#name, type, offsetof(Exit, record.name), READONLY, text                                                       \
    }
    FIELD(kind, T_UINT, "one of the EXIT_ constants"),
    FIELD(hsr, T_UINT, "the syndrome"),
    FIELD(hdfar, T_UINT, "virtual address of a data abort"),
    FIELD(hifar, T_UINT, "virtual address of an instruction abort"),
    FIELD(hpfar, T_UINT, "IPA page of a stage-2 abort, as the register has it"),
    FIELD(ipa, T_UINT, "intermediate physical address of a stage-2 abort"),
    FIELD(pc, T_UINT, "address of the instruction; of the next one after HVC"),
    FIELD(cpsr, T_UINT, "the guest's CPSR, ITSTATE of the instruction included"),
    FIELD(instruction, T_UINT, "the instruction as it was translated; see length"),
    FIELD(length, T_UINT, "its length in bytes; 0 where it is not known"),
    FIELD(size, T_UINT, "MMIO: bytes of the access"),
    FIELD(is_write, T_UINT, "MMIO: 1 for a store"),
    FIELD(value, T_ULONGLONG, "MMIO: what a store stores, in the order of the device's bytes"),
    FIELD(epoch, T_ULONGLONG, "invalidations begun, host-wide, when the guest was left"),
    FIELD(settled, T_UINT, "1 when all of these were done then"),
    FIELD(timers, T_UINT, "1 when the timers' interrupt lines differ from the last timer_levels()"),
    FIELD(executed, T_ULONGLONG,
          "under a budget: instructions executed by this run, without one that waits to be served"),
#undef FIELD
    { NULL, 0, 0, 0, NULL },
};

static const char *const exit_names[] = {
#define X(name) "EXIT_" #name,
    EXITS(X)
#undef X
};

static PyObject *exit_repr(Exit *self)
{
    const struct exit_record *x = &self->record;
    const char *name = x->kind < EXIT_KINDS ? exit_names[x->kind] + sizeof "EXIT_" - 1 : "?";
    char text[160];
    snprintf(text, sizeof text, "<Exit %s pc=%#x hsr=%#x ipa=%#x instruction=%#x/%u>", name, x->pc, x->hsr, x->ipa,
             x->instruction, x->length);
    return PyUnicode_FromString(text);
}

PyTypeObject exit_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "allstop.vcpu_worker.engine.Exit",
    .tp_doc = "Why the vCPU left the guest, with everything read in one call.",
    .tp_basicsize = sizeof(Exit),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_members = exit_members,
    .tp_repr = (reprfunc)exit_repr,
};

PyObject *exit_object(const struct exit_record *record)
{
    Exit *x = PyObject_New(Exit, &exit_type);
    if (x != NULL)
        x->record = *record;
    return (PyObject *)x;
}

bool exit_add_constants(PyObject *module)
{
    for (int i = 0; i < EXIT_KINDS; i++)
        if (PyModule_AddIntConstant(module, exit_names[i], i) < 0)
            return false;
    return true;
}

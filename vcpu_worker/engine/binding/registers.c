/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The registers that a caller sees and changes. */
#include "vcpu_worker/engine/binding/binding.h"
#include "vcpu_worker/engine/binding/methods.h"
#include "vcpu_worker/engine/cpu/arm/registers.h"
#include "vcpu_worker/engine/interpose/cpu.h"

static PyObject *method_core(Vcpu *self, PyObject *unused)
{
    if (!usable(self))
        return NULL;
    PyObject *result = PyTuple_New(17);
    for (int i = 0; result && i < 17; i++) {
        uint32_t value = i == 15 ? self->v.pc
            : i == 16            ? self->v.cpsr
                                 : vcpu_register(&self->v, vcpu_core_id((unsigned)i));
        PyTuple_SET_ITEM(result, i, PyLong_FromUnsignedLong(value));
    }
    return result;
}

static PyObject *method_set_core(Vcpu *self, PyObject *args)
{
    unsigned n, value;
    if (!PyArg_ParseTuple(args, "II", &n, &value) || !usable(self))
        return NULL;
    if (n > 16)
        return PyErr_Format(PyExc_IndexError, "r0 to r15, and 16 for CPSR, not %u", n);
    if (n == 15) {
        self->v.pc = value & ~1u;
    } else if (n == 16) {
        vcpu_set_cpsr(&self->v, value);
    } else {
        vcpu_set_register(&self->v, vcpu_core_id(n), value);
    }
    Py_RETURN_NONE;
}

/* Registers of another mode: switch there, look, and come back. */
static PyObject *method_banked(Vcpu *self, PyObject *args)
{
    unsigned mode, n, value = 0;
    if (!PyArg_ParseTuple(args, "II|I", &mode, &n, &value) || !usable(self))
        return NULL;
    if (n > 14 && n != 16)
        return PyErr_Format(PyExc_IndexError, "r0 to r14, and 16 for SPSR, not %u", n);
    if (!vcpu_is_mode(mode))
        return PyErr_Format(PyExc_ValueError, "a guest has no mode 0x%x", mode);
    int id = n == 16 ? UC_ARM_REG_SPSR : vcpu_core_id(n);
    uint32_t cpsr = vcpu_register(&self->v, UC_ARM_REG_CPSR);
    vcpu_set_register(&self->v, UC_ARM_REG_CPSR, (cpsr & ~PSR_MODE) | mode);
    if (PyTuple_GET_SIZE(args) == 3)
        vcpu_set_register(&self->v, id, value);
    uint32_t result = vcpu_register(&self->v, id);
    vcpu_set_register(&self->v, UC_ARM_REG_CPSR, cpsr);
    return PyLong_FromUnsignedLong(result);
}

static PyObject *method_d(Vcpu *self, PyObject *arg)
{
    unsigned long n = PyLong_AsUnsignedLong(arg);
    if ((n == (unsigned long)-1 && PyErr_Occurred()) || !usable(self))
        return NULL;
    if (n > 31)
        return PyErr_Format(PyExc_IndexError, "d0 to d31, not %lu", n);
    uint64_t value = 0;
    uc.reg_read(self->v.uc, UC_ARM_REG_D0 + (int)n, &value);
    return PyLong_FromUnsignedLongLong(value);
}

static PyObject *method_set_d(Vcpu *self, PyObject *args)
{
    unsigned n;
    unsigned long long value;
    if (!PyArg_ParseTuple(args, "IK", &n, &value) || !usable(self))
        return NULL;
    if (n > 31)
        return PyErr_Format(PyExc_IndexError, "d0 to d31, not %u", n);
    uint64_t word = value;
    uc.reg_write(self->v.uc, UC_ARM_REG_D0 + (int)n, &word);
    Py_RETURN_NONE;
}

static PyObject *method_fpexc(Vcpu *self, PyObject *args)
{
    unsigned value;
    if (!PyArg_ParseTuple(args, "|I", &value) || !usable(self))
        return NULL;
    if (PyTuple_GET_SIZE(args) == 1)
        vcpu_set_register(&self->v, UC_ARM_REG_FPEXC, value);
    return PyLong_FromUnsignedLong(vcpu_register(&self->v, UC_ARM_REG_FPEXC));
}

static PyObject *method_fpscr(Vcpu *self, PyObject *args)
{
    unsigned value;
    if (!PyArg_ParseTuple(args, "|I", &value) || !usable(self))
        return NULL;
    if (PyTuple_GET_SIZE(args) == 1)
        vcpu_set_register(&self->v, UC_ARM_REG_FPSCR, value);
    return PyLong_FromUnsignedLong(vcpu_register(&self->v, UC_ARM_REG_FPSCR));
}

static PyObject *method_cp15(Vcpu *self, PyObject *args)
{
    unsigned crn, crm, opc1, opc2;
    int wide = 0;
    PyObject *value = NULL;
    if (!PyArg_ParseTuple(args, "IIII|pO", &crn, &crm, &opc1, &opc2, &wide, &value) || !usable(self))
        return NULL;
    if (value != NULL) {
        unsigned long long word = PyLong_AsUnsignedLongLong(value);
        if (word == (unsigned long long)-1 && PyErr_Occurred())
            return NULL;
        vcpu_set_cp(&self->v, (uint32_t)wide, crn, crm, opc1, opc2, word);
    }
    return PyLong_FromUnsignedLongLong(vcpu_cp(&self->v, (uint32_t)wide, crn, crm, opc1, opc2));
}

static PyObject *method_monitor(Vcpu *self, PyObject *unused)
{
    uint64_t address, value;
    if (!usable(self))
        return NULL;
    interpose_monitor(self->v.interpose, &address, &value);
    if (address == UINT64_MAX)
        Py_RETURN_NONE;
    return Py_BuildValue("KK", address, value);
}

static PyObject *method_set_monitor(Vcpu *self, PyObject *args)
{
    PyObject *address;
    unsigned long long value = 0;
    if (!PyArg_ParseTuple(args, "O|K", &address, &value) || !usable(self))
        return NULL;
    if (address == Py_None) {
        interpose_set_monitor(self->v.interpose, UINT64_MAX, 0);
    } else {
        unsigned long long number = PyLong_AsUnsignedLongLong(address);
        if (number == (unsigned long long)-1 && PyErr_Occurred())
            return NULL;
        interpose_set_monitor(self->v.interpose, number, value);
    }
    Py_RETURN_NONE;
}

const PyMethodDef registers_methods[] = {
    NOARGS(core, "core() -> (r0, ..., r14, pc, cpsr) of the current mode."),
    SOME(set_core,
         "set_core(n, value): r0 to r14, 15 for PC, 16 for CPSR, whose mode stays where a guest cannot "
         "have it."),
    SOME(banked, "banked(mode, n[, value]) -> value: r0 to r14 as `mode` sees them, 16 for its SPSR."),
    ONE(d, "d(n) -> 64 bits of VFP register d0 to d31."),
    SOME(set_d, "set_d(n, value)."),
    SOME(fpexc, "fpexc([value]) -> value: bit 30 enables VFP and NEON, where CPACR does too."),
    SOME(fpscr, "fpscr([value]) -> value."),
    SOME(cp15, "cp15(crn, crm, opc1, opc2, wide=False[, value]) -> value: read, or write and read back."),
    NOARGS(monitor, "monitor() -> (address, value) of the exclusive monitor, None when it is open."),
    SOME(set_monitor, "set_monitor(address | None, value=0)."),
    { NULL, NULL, 0, NULL },
};

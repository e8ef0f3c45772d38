/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stops for debuggers, what an event spoils, and the whole state. */
#include "vcpu_worker/engine/binding/binding.h"
#include "vcpu_worker/engine/binding/methods.h"
#include "vcpu_worker/engine/cpu/arm/registers.h"
#include "vcpu_worker/engine/cpu/timers.h"
#include "vcpu_worker/engine/interpose/cpu.h"
#include "vcpu_worker/engine/interpose/stops.h"
#include "vcpu_worker/engine/interpose/watch.h"
#include "vcpu_worker/engine/run/setup.h"

static PyObject *method_allow_semihosting(Vcpu *self, PyObject *arg)
{
    int allowed = PyObject_IsTrue(arg);
    if (allowed < 0 || !usable(self))
        return NULL;
    self->v.semihosting = allowed;
    Py_RETURN_NONE;
}

static PyObject *method_set_breakpoints(Vcpu *self, PyObject *arg)
{
    uint32_t addresses[INTERPOSE_BREAKPOINTS];
    PyObject *sequence = PySequence_Fast(arg, "breakpoints are a sequence of addresses");
    if (sequence == NULL || !usable(self)) {
        Py_XDECREF(sequence);
        return NULL;
    }
    Py_ssize_t n = PySequence_Fast_GET_SIZE(sequence);
    for (Py_ssize_t i = 0; i < n && i < (Py_ssize_t)INTERPOSE_BREAKPOINTS; i++)
        addresses[i] = (uint32_t)PyLong_AsUnsignedLongMask(PySequence_Fast_GET_ITEM(sequence, i));
    Py_DECREF(sequence);
    if (PyErr_Occurred())
        return NULL;
    if (n > (Py_ssize_t)INTERPOSE_BREAKPOINTS)
        return PyErr_Format(PyExc_ValueError, "at most %u breakpoints, not %zd", INTERPOSE_BREAKPOINTS, n);
    interpose_set_breakpoints(self->v.interpose, addresses, (unsigned)n);
    Py_RETURN_NONE;
}

static PyObject *method_set_watchpoints(Vcpu *self, PyObject *arg)
{
    struct watchpoint wanted[INTERPOSE_WATCHPOINTS];
    PyObject *sequence = PySequence_Fast(arg, "watchpoints are a sequence of (address, bytes, kinds)");
    if (sequence == NULL || !usable(self)) {
        Py_XDECREF(sequence);
        return NULL;
    }
    Py_ssize_t n = PySequence_Fast_GET_SIZE(sequence);
    bool good = true;
    for (Py_ssize_t i = 0; good && i < n && i < (Py_ssize_t)INTERPOSE_WATCHPOINTS; i++)
        good = PyArg_ParseTuple(PySequence_Fast_GET_ITEM(sequence, i), "III", &wanted[i].address, &wanted[i].bytes,
                                &wanted[i].kinds);
    Py_DECREF(sequence);
    if (!good)
        return NULL;
    if (n > (Py_ssize_t)INTERPOSE_WATCHPOINTS)
        return PyErr_Format(PyExc_ValueError, "at most %u watchpoints, not %zd", INTERPOSE_WATCHPOINTS, n);
    interpose_set_watchpoints(self->v.interpose, wanted, (unsigned)n);
    Py_RETURN_NONE;
}

static PyObject *method_spoil_invalidation(Vcpu *self, PyObject *arg)
{
    unsigned long how = PyLong_AsUnsignedLong(arg);
    if ((how == (unsigned long)-1 && PyErr_Occurred()) || !usable(self))
        return NULL;
    if (how > INVALIDATION_DOUBLED)
        return PyErr_Format(PyExc_ValueError, "an invalidation is late (1), dropped (2) or doubled (3), not %lu", how);
    self->v.next_invalidation = (enum invalidation)how;
    Py_RETURN_NONE;
}

static PyObject *method_save(Vcpu *self, PyObject *unused)
{
    if (!usable(self))
        return NULL;
    uc_context *context = NULL;
    vcpu_set_register(&self->v, UC_ARM_REG_R15, self->v.pc | (self->v.cpsr & PSR_T ? 1 : 0));
    if (uc.context_alloc(self->v.uc, &context) != UC_ERR_OK)
        return PyErr_NoMemory();
    size_t bytes;
    char *state = interpose_context_state(self->v.interpose, context, &bytes);
    memset(state, 0, bytes); /* it saves a little less than it takes */
    uc.context_save(self->v.uc, context);
    PyObject *result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(bytes + sizeof self->v.timers));
    if (result != NULL) {
        char *to = PyBytes_AS_STRING(result);
        memcpy(to, state, bytes);
        memcpy(to + bytes, self->v.timers, sizeof self->v.timers);
    }
    uc.context_free(context);
    return result;
}

static PyObject *method_restore(Vcpu *self, PyObject *arg)
{
    char *data;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(arg, &data, &size) < 0 || !usable(self))
        return NULL;
    uc_context *context = NULL;
    if (uc.context_alloc(self->v.uc, &context) != UC_ERR_OK)
        return PyErr_NoMemory();
    size_t bytes;
    char *state = interpose_context_state(self->v.interpose, context, &bytes);
    bool fits = (size_t)size == bytes + sizeof self->v.timers;
    if (fits) {
        memcpy(state, data, bytes);
        uc.context_restore(self->v.uc, context);
        vcpu_restored(&self->v);
        memcpy(self->v.timers, data + bytes, sizeof self->v.timers);
        timers_update(&self->v);
    } else {
        PyErr_SetString(engine_error, "this is not a state that save() of this engine made");
    }
    uc.context_free(context);
    return fits ? Py_NewRef(Py_None) : NULL;
}

const PyMethodDef debug_methods[] = {
    ONE(allow_semihosting,
        "allow_semihosting(allowed): leave with EXIT_SEMIHOSTING at the guest's calls to its "
        "host."),
    ONE(set_breakpoints,
        "set_breakpoints(addresses): leave with EXIT_BREAKPOINT before these instructions; "
        "between runs."),
    ONE(set_watchpoints,
        "set_watchpoints([(address, bytes, kinds)]): leave with EXIT_WATCHPOINT after an "
        "instruction that reads (1) or writes (2) there; virtual addresses, RAM only; between "
        "runs."),
    ONE(spoil_invalidation,
        "spoil_invalidation(how): the guest's next TLB invalidation is late, dropped or "
        "doubled (1 to 3)."),
    NOARGS(save, "save() -> the whole vCPU as bytes."),
    ONE(restore, "restore(state): inverse of save()."),
    { NULL, NULL, 0, NULL },
};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ControlPage's methods: the MMIO oracle's ledgers (access_ledger.h). */
#include "page_object.h"

/* The arguments (vcpu, ipa, size, is_write, value, unassigned) of an access: the vCPU's part, or NULL and an error. */
static struct cp_vcpu *access_arguments(ControlPage *self, PyObject *const *args, Py_ssize_t n, uint64_t *ipa,
                                        uint64_t *value, uint64_t *shape)
{
    if (n != 6) {
        PyErr_SetString(PyExc_TypeError, "an access is (vcpu, ipa, size, is_write, value, unassigned)");
        return NULL;
    }
    long vcpu = PyLong_AsLong(args[0]), size = PyLong_AsLong(args[2]);
    *ipa = PyLong_AsUnsignedLongLong(args[1]);
    *value = PyLong_AsUnsignedLongLong(args[4]);
    if (PyErr_Occurred())
        return NULL;
    if (size < 1 || size > 8) {
        PyErr_Format(PyExc_ValueError, "an access has 1 to 8 bytes, not %ld", size);
        return NULL;
    }
    *shape = (uint64_t)size | (PyObject_IsTrue(args[3]) == 1 ? AL_WRITE : 0)
        | (PyObject_IsTrue(args[5]) == 1 ? AL_UNASSIGNED : 0);
    return control_vcpu(self, vcpu);
}

static PyObject *control_issue_access(ControlPage *self, PyObject *arg)
{
    VCPU_ARG;
    atomic_fetch_add_explicit(&v->issued, 1, memory_order_relaxed);
    Py_RETURN_NONE;
}

static PyObject *control_perform_access(ControlPage *self, PyObject *const *args, Py_ssize_t n)
{
    uint64_t ipa, value, shape;
    struct cp_vcpu *v = access_arguments(self, args, n, &ipa, &value, &shape);
    if (v == NULL)
        return NULL;
    al_enter(&v->performed, ipa, value, shape);
    Py_RETURN_NONE;
}

static PyObject *control_complete_access(ControlPage *self, PyObject *const *args, Py_ssize_t n)
{
    uint64_t ipa, value, shape;
    struct cp_vcpu *v = access_arguments(self, args, n, &ipa, &value, &shape);
    if (v == NULL)
        return NULL;
    al_enter(&v->completed, ipa, value, shape);
    return PyBool_FromLong(al_agree(&v->performed, &v->completed));
}

static PyObject *control_settle_accesses(ControlPage *self, PyObject *arg)
{
    VCPU_ARG;
    atomic_store(&v->completed.hash, atomic_load(&v->performed.hash));
    atomic_store(&v->completed.count, atomic_load(&v->performed.count));
    atomic_store(&v->issued, atomic_load(&v->performed.count));
    Py_RETURN_NONE;
}

static PyObject *ledger_to_python(struct al_ledger *l)
{
    uint64_t count = atomic_load(&l->count), kept = count < AL_LAST ? count : AL_LAST;
    PyObject *last = PyTuple_New((Py_ssize_t)kept);
    for (uint64_t i = 0; last && i < kept; i++) {
        struct al_access *a = &l->last[(count - kept + 1 + i) % AL_LAST];
        uint64_t shape = atomic_load(&a->shape);
        PyObject *one = Py_BuildValue("KIOKO", atomic_load(&a->ipa), (unsigned)(shape & 0xff),
                                      shape & AL_WRITE ? Py_True : Py_False, atomic_load(&a->value),
                                      shape & AL_UNASSIGNED ? Py_True : Py_False);
        if (one == NULL)
            Py_CLEAR(last);
        else
            PyTuple_SET_ITEM(last, (Py_ssize_t)i, one);
    }
    return last ? Py_BuildValue("KKN", count, atomic_load(&l->hash), last) : NULL;
}

static PyObject *control_accesses(ControlPage *self, PyObject *arg)
{
    VCPU_ARG;
    PyObject *performed = ledger_to_python(&v->performed), *completed = ledger_to_python(&v->completed);
    if (performed && completed)
        return Py_BuildValue("KNN", atomic_load(&v->issued), performed, completed);
    Py_XDECREF(performed);
    Py_XDECREF(completed);
    return NULL;
}

#define M(...) METHOD(control, __VA_ARGS__)

PyMethodDef control_ledger_methods[] = {
    M(issue_access, METH_O, "vcpu, /", "The worker is about to ask for an access to a device."),
    M(perform_access, METH_FASTCALL, "vcpu, ipa, size, is_write, value, unassigned, /",
      "The bus has done this; `value` was written or read."),
    M(complete_access, METH_FASTCALL, "vcpu, ipa, size, is_write, value, unassigned, /",
      "The worker has seen this done; False when that differs from what the bus has done so far."),
    M(settle_accesses, METH_O, "vcpu, /",
      "A difference has been reported: from now on what was performed counts as completed."),
    M(accesses, METH_O, "vcpu, /",
      "(issued, performed, completed). The latter two are (count, hash, the last accesses, oldest first), and an "
      "access is (ipa, size, is_write, value, unassigned)."),
    NO_METHOD,
};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The Python object ControlPage, which each file of allstop.vm.control.control gives some methods. */
#ifndef ALLSTOP_PAGE_OBJECT_H
#define ALLSTOP_PAGE_OBJECT_H

#include "control_page.h"
#include "method.h"

typedef struct {
    PyObject_HEAD
    struct cp_host *host;
    size_t bytes;
} ControlPage;

/* Processes that are no vCPU's. */
enum { SLOT_COORDINATOR = -1, SLOT_DEVICES = -2, SLOT_DEBUGGER = -3, SLOT_NODE = -4 };

/* The parts of ControlPage's table of methods. */
extern PyMethodDef control_requests_methods[], control_telemetry_methods[], control_ledger_methods[];

/* Give the module COUNTER_NAMES, EXIT_COUNTERS and HISTOGRAMS. False with an exception set. */
bool control_add_tables(PyObject *module);

/* A vCPU's part of the page, or NULL and an error. */
static inline struct cp_vcpu *control_vcpu(ControlPage *self, long vcpu)
{
    if (vcpu < 0 || (uint32_t)vcpu >= self->host->vcpus) {
        PyErr_Format(PyExc_IndexError, "no vCPU %ld: the machine has %u", vcpu, self->host->vcpus);
        return NULL;
    }
    return cp_vcpu(self->host, (uint32_t)vcpu);
}

/* Begins a method with the arguments (vcpu, ...) or (vcpu): `vcpu` and its part `v`. */
#define VCPU_ARGS(format, ...)                                                                                         \
    long vcpu;                                                                                                         \
    if (!PyArg_ParseTuple(args, "l" format, &vcpu, __VA_ARGS__))                                                       \
        return NULL;                                                                                                   \
    struct cp_vcpu *v = control_vcpu(self, vcpu);                                                                      \
    if (v == NULL)                                                                                                     \
    return NULL

#define VCPU_ARG                                                                                                       \
    long vcpu = PyLong_AsLong(arg);                                                                                    \
    if (vcpu == -1 && PyErr_Occurred())                                                                                \
        return NULL;                                                                                                   \
    struct cp_vcpu *v = control_vcpu(self, vcpu);                                                                      \
    if (v == NULL)                                                                                                     \
    return NULL

#endif

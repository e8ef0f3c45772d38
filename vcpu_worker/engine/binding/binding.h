/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The engine's objects in Python: what the files of this folder share. */
#ifndef ALLSTOP_ENGINE_BINDING_BINDING_H
#define ALLSTOP_ENGINE_BINDING_BINDING_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "vcpu_worker/engine/vcpu.h"

typedef struct {
    PyObject_HEAD
    struct vcpu v;
    size_t host_bytes;
    PyObject *journal; /* what keeps v.journal alive */
    bool open;
} Vcpu;

extern PyObject *engine_error; /* EngineError */

/* Whether the vCPU is open, else an exception is set. This thread works for it from now on: every method asks first. */
bool usable(Vcpu *self);

/* NULL, with what went wrong in the vCPU as the exception. */
PyObject *failed(Vcpu *self);

#endif

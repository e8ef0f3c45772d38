/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vcpu_worker/engine/binding/binding.h"

#include "vcpu_worker/engine/run/setup.h"

PyObject *engine_error;

bool usable(Vcpu *self)
{
    if (self->open)
        vcpu_select(&self->v);
    else
        PyErr_SetString(engine_error, "the vCPU is closed");
    return self->open;
}

PyObject *failed(Vcpu *self)
{
    PyErr_SetString(engine_error, self->v.sentence);
    return NULL;
}

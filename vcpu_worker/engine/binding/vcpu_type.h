/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ALLSTOP_ENGINE_BINDING_VCPU_TYPE_H
#define ALLSTOP_ENGINE_BINDING_VCPU_TYPE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>

extern PyTypeObject vcpu_type;

/* Before its first use, in place of PyType_Ready(). False with an exception set. */
bool vcpu_type_ready(void);

#endif

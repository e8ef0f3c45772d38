/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ALLSTOP_ENGINE_BINDING_EXIT_H
#define ALLSTOP_ENGINE_BINDING_EXIT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "vcpu_worker/engine/exit_record.h"

extern PyTypeObject exit_type;

PyObject *exit_object(const struct exit_record *record);

/* Add the EXIT_ constants to `module`. False with an exception set. */
bool exit_add_constants(PyObject *module);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The methods of Vcpu: each file of them has a table, which vcpu_type.c joins. */
#ifndef ALLSTOP_ENGINE_BINDING_METHODS_H
#define ALLSTOP_ENGINE_BINDING_METHODS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define NOARGS(name, text)                                                                                             \
    {                                                                                                                  \
#name, (PyCFunction)method_##name, METH_NOARGS, text                                                           \
    }
#define ONE(name, text)                                                                                                \
    {                                                                                                                  \
#name, (PyCFunction)method_##name, METH_O, text                                                                \
    }
#define SOME(name, text)                                                                                               \
    {                                                                                                                  \
#name, (PyCFunction)method_##name, METH_VARARGS, text                                                          \
    }
#define NAMED(name, text)                                                                                              \
    {                                                                                                                  \
#name, (PyCFunction)(void (*)(void))method_##name, METH_VARARGS | METH_KEYWORDS, text                          \
    }

extern const PyMethodDef run_methods[], registers_methods[], memory_methods[], debug_methods[];

#endif

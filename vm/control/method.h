/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One row of a Python type's table of methods, with a signature that `inspect` and stubtest can read. */
#ifndef ALLSTOP_METHOD_H
#define ALLSTOP_METHOD_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* METHOD(prefix, name, METH_ flags, "arguments, /", "what it does"): the C function is prefix_name. A method without
 * arguments is NOARGS. */
#define METHOD(prefix, name, flags, arguments, text)                                                                   \
    {                                                                                                                  \
#name, (PyCFunction)(void (*)(void))prefix##_##name, flags, #name "($self, " arguments ")\n--\n\n" text        \
    }
#define NOARGS(prefix, name, text)                                                                                     \
    {                                                                                                                  \
#name, (PyCFunction)(void (*)(void))prefix##_##name, METH_NOARGS, #name "($self)\n--\n\n" text                 \
    }
#define NO_METHOD                                                                                                      \
    {                                                                                                                  \
        NULL, NULL, 0, NULL                                                                                            \
    }

#endif

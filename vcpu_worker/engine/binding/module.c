/* SPDX-License-Identifier: GPL-2.0-or-later */
/* allstop.vcpu_worker.engine._engine: the vCPU for Python. */
#include "vcpu_worker/engine/binding/binding.h"
#include "vcpu_worker/engine/binding/exit.h"
#include "vcpu_worker/engine/binding/vcpu_type.h"
#include "vcpu_worker/engine/interpose/library.h"

static PyObject *engine_open(PyObject *module, PyObject *arg)
{
    const char *path = PyUnicode_AsUTF8(arg);
    if (path == NULL)
        return NULL;
    const char *sentence = library_open(path);
    if (sentence != NULL) {
        PyErr_SetString(engine_error, sentence);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *engine_facts(PyObject *module, PyObject *unused)
{
    PyObject *result = PyList_New(0);
    const char *name;
    uint64_t expected, found;
    for (size_t i = 0; result && library_fact(i, &name, &expected, &found); i++) {
        PyObject *item = Py_BuildValue("sKK", name, expected, found);
        if (item == NULL || PyList_Append(result, item) < 0)
            Py_CLEAR(result);
        Py_XDECREF(item);
    }
    return result;
}

static PyMethodDef engine_methods[] = {
    { "open_library", engine_open, METH_O,
      "open_library(path): load libunicorn and check that it is the known build." },
    { "facts", engine_facts, METH_NOARGS,
      "facts() -> [(function, expected hash, found hash)] of the machine code that the engine relies on." },
    { NULL, NULL, 0, NULL },
};

static struct PyModuleDef engine_module = {
    PyModuleDef_HEAD_INIT, .m_name = "_engine",         .m_doc = "The engine over libunicorn.",
    .m_size = -1,          .m_methods = engine_methods,
};

PyMODINIT_FUNC PyInit__engine(void)
{
    if (PyType_Ready(&exit_type) < 0 || !vcpu_type_ready())
        return NULL;
    PyObject *module = PyModule_Create(&engine_module);
    engine_error = PyErr_NewExceptionWithDoc("allstop.vcpu_worker.engine.EngineError",
                                             "The engine cannot be used, or not like this; the text is one sentence.",
                                             PyExc_RuntimeError, NULL);
    if (module == NULL || engine_error == NULL || PyModule_AddObjectRef(module, "EngineError", engine_error) < 0
        || PyModule_AddObjectRef(module, "Exit", (PyObject *)&exit_type) < 0
        || PyModule_AddObjectRef(module, "Vcpu", (PyObject *)&vcpu_type) < 0 || !exit_add_constants(module))
        return NULL;
    return module;
}

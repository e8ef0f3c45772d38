/* SPDX-License-Identifier: GPL-2.0-or-later */
/* allstop.vm.journal.recorder: journals, written from Python. The format is in journal.h. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>

#include "journal.h"

typedef struct {
    PyObject_HEAD
    struct journal journal;
} Recorder;

static void shut(struct journal *j)
{
    if (j->fd < 0)
        return;
    if (j->header != NULL) {
        atomic_store(&j->header->records, j->written);
        atomic_store(&j->header->closed, 1);
        munmap(j->header, sizeof *j->header);
    }
    if (j->window != NULL)
        munmap(j->window, JOURNAL_WINDOW_BYTES);
    off_t bytes = (off_t)(sizeof(struct journal_header) + j->written * sizeof(struct journal_record));
    if (ftruncate(j->fd, bytes) != 0)
        errno = 0; /* then zeros follow, which the reader knows */
    close(j->fd);
    memset(j, 0, sizeof *j);
    j->fd = -1;
}

static PyObject *recorder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = { "path", "process", "role", "vcpu", NULL };
    PyObject *where, *path = NULL;
    const char *process;
    unsigned role, vcpu = 0;
    long fd = -1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OsI|I", names, &where, &process, &role, &vcpu))
        return NULL;
    if (PyLong_Check(where)) {
        fd = PyLong_AsLong(where);
        if (PyErr_Occurred())
            return NULL;
    } else if (!PyUnicode_FSConverter(where, &path)) {
        return NULL;
    }
    Recorder *self = (Recorder *)type->tp_alloc(type, 0);
    if (self == NULL) {
        Py_XDECREF(path);
        return NULL;
    }
    struct journal *j = &self->journal;
    struct timespec calendar;
    void *header = MAP_FAILED;
    j->fd = path == NULL ? fcntl((int)fd, F_DUPFD_CLOEXEC, 3)
                         : open(PyBytes_AS_STRING(path), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (j->fd < 0)
        goto fail;
    errno = posix_fallocate(j->fd, 0, JOURNAL_WINDOW_BYTES);
    if (errno == 0)
        header = mmap(NULL, sizeof(struct journal_header), PROT_READ | PROT_WRITE, MAP_SHARED, j->fd, 0);
    if (header == MAP_FAILED)
        goto fail;
    j->header = header;
    if (!journal_grow(j))
        goto fail;
    j->header->version = JOURNAL_VERSION;
    j->header->record_bytes = sizeof(struct journal_record);
    j->header->role = role;
    j->header->vcpu = vcpu;
    j->header->pid = (uint32_t)getpid();
    j->header->began_ns = journal_now_ns();
    clock_gettime(CLOCK_REALTIME, &calendar);
    j->header->began_unix_ns = (uint64_t)calendar.tv_sec * 1000000000u + (uint64_t)calendar.tv_nsec;
    strncpy(j->header->process, process, sizeof j->header->process - 1);
    j->header->magic = JOURNAL_MAGIC;
    Py_XDECREF(path);
    return (PyObject *)self;
fail:
    PyErr_SetFromErrnoWithFilename(PyExc_OSError, path == NULL ? process : PyBytes_AS_STRING(path));
    Py_XDECREF(path);
    Py_DECREF(self);
    return NULL;
}

static void recorder_dealloc(Recorder *self)
{
    shut(&self->journal);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* Numbers from `first` on into operands, at most `room` of them. */
static bool take(PyObject *const *args, Py_ssize_t n, Py_ssize_t first, Py_ssize_t room, uint64_t operands[6])
{
    if (n < first || n - first > room) {
        PyErr_Format(PyExc_TypeError, "%zd to %zd arguments, not %zd", first, first + room, n);
        return false;
    }
    for (Py_ssize_t i = first; i < n; i++)
        operands[i - first] = PyLong_AsUnsignedLongLongMask(args[i]);
    return true;
}

static PyObject *recorder_event(Recorder *self, PyObject *const *args, Py_ssize_t n)
{
    uint64_t operands[6] = { 0 };
    if (!take(args, n, 2, 6, operands))
        return NULL;
    unsigned long kind = PyLong_AsUnsignedLongMask(args[0]), vcpu = PyLong_AsUnsignedLongMask(args[1]);
    if (PyErr_Occurred())
        return NULL;
    journal_put(&self->journal, journal_now_ns(), (uint32_t)kind, (uint32_t)vcpu, operands);
    Py_RETURN_NONE;
}

static PyObject *recorder_span(Recorder *self, PyObject *const *args, Py_ssize_t n)
{
    uint64_t operands[6] = { 0 };
    if (!take(args, n, 3, 5, operands))
        return NULL;
    unsigned long kind = PyLong_AsUnsignedLongMask(args[0]), vcpu = PyLong_AsUnsignedLongMask(args[1]);
    uint64_t began_ns = PyLong_AsUnsignedLongLongMask(args[2]);
    if (PyErr_Occurred())
        return NULL;
    journal_span_(&self->journal, (uint32_t)kind, (uint32_t)vcpu, began_ns, operands);
    Py_RETURN_NONE;
}

static PyObject *recorder_text(Recorder *self, PyObject *arg)
{
    PyObject *encoded = PyUnicode_AsEncodedString(arg, "utf-8", "replace");
    if (encoded == NULL)
        return NULL;
    const char *text = PyBytes_AS_STRING(encoded);
    Py_ssize_t left = PyBytes_GET_SIZE(encoded);
    uint64_t now_ns = journal_now_ns();
    while (left > 0) {
        uint64_t operands[6] = { 0 };
        size_t bytes = (size_t)left < sizeof operands ? (size_t)left : sizeof operands;
        memcpy(operands, text, bytes);
        journal_put(&self->journal, now_ns, JOURNAL_TEXT, (uint32_t)bytes, operands);
        text += bytes;
        left -= (Py_ssize_t)bytes;
    }
    Py_DECREF(encoded);
    Py_RETURN_NONE;
}

static PyObject *recorder_close(Recorder *self, PyObject *unused)
{
    shut(&self->journal);
    Py_RETURN_NONE;
}

static void release(PyObject *capsule)
{
    Py_XDECREF((PyObject *)PyCapsule_GetContext(capsule));
}

static PyObject *recorder_native(Recorder *self, PyObject *unused)
{
    PyObject *capsule = PyCapsule_New(&self->journal, JOURNAL_CAPSULE, release);
    if (capsule != NULL && PyCapsule_SetContext(capsule, self) == 0)
        Py_INCREF(self);
    return capsule;
}

#define FAST(name, text) { #name, (PyCFunction)(void (*)(void))recorder_##name, METH_FASTCALL, text }

static PyMethodDef recorder_methods[] = {
    FAST(event, "event(kind, vcpu, *operands): something happened now; up to six numbers of 64 bits."),
    FAST(span, "span(kind, vcpu, began_ns, *operands): what began then, by CLOCK_MONOTONIC, is done; up to five numbers."),
    { "text", (PyCFunction)recorder_text, METH_O, "text(words): say more of the event before." },
    { "native", (PyCFunction)recorder_native, METH_NOARGS, "native() -> what a C extension takes to write here too." },
    { "close", (PyCFunction)recorder_close, METH_NOARGS, "close(): the journal is whole; later events are dropped." },
    { NULL, NULL, 0, NULL },
};

static PyTypeObject recorder_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "allstop.vm.journal.recorder.Recorder",
    .tp_doc = "Recorder(path, process, role, vcpu=0): the journal of this process, a new file, or one without a name "
              "and without contents by its descriptor, which stays the caller's. Raises OSError. Its "
              "attributes in capitals are the kinds of events, as in allstop.vm.journal.format.Kind.",
    .tp_basicsize = sizeof(Recorder),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = recorder_new,
    .tp_dealloc = (destructor)recorder_dealloc,
    .tp_methods = recorder_methods,
};

static struct PyModuleDef recorder_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "recorder",
    .m_doc = "Journals, written.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit_recorder(void)
{
    if (PyType_Ready(&recorder_type) < 0)
        return NULL;
#define X(name, number)                                                                                      \
    {                                                                                                        \
        PyObject *value = PyLong_FromLong(number);                                                           \
        if (value == NULL || PyDict_SetItemString(recorder_type.tp_dict, #name, value) < 0)                  \
            return NULL;                                                                                     \
        Py_DECREF(value);                                                                                    \
    }
    JOURNAL_KINDS(X)
#undef X
    PyType_Modified(&recorder_type);
    PyObject *module = PyModule_Create(&recorder_module);
    if (module == NULL || PyModule_AddObjectRef(module, "Recorder", (PyObject *)&recorder_type) < 0)
        return NULL;
    return module;
}

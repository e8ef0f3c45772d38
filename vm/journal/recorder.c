/* SPDX-License-Identifier: GPL-2.0-or-later */
/* allstop.vm.journal.recorder: journals, written from Python. The format is in journal.h. */
#include "vm/control/method.h"

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
        errno = 0; /* zeros follow then, and the reader knows what they are */
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

#define M(...) METHOD(recorder, __VA_ARGS__)

static PyMethodDef recorder_methods[] = {
    M(event, METH_FASTCALL, "kind, vcpu, /, *operands", "A record of now; up to six numbers of 64 bits."),
    M(span, METH_FASTCALL, "kind, vcpu, began_ns, /, *operands",
      "A span that began then, by CLOCK_MONOTONIC, ends now; up to five numbers of 64 bits."),
    M(text, METH_O, "words, /", "Add words to the record before."),
    NOARGS(recorder, native, "A capsule by which a C extension writes to this journal, too."),
    NOARGS(recorder, close, "Complete the journal; later records are dropped."),
    NO_METHOD,
};

static PyTypeObject recorder_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "allstop.vm.journal.recorder.Recorder",
    .tp_doc = "Recorder(path, process, role, vcpu=0)\n--\n\n"
              "The journal of this process: a new file, or an empty one without a name by its descriptor, which the "
              "caller keeps. Raises OSError. The attributes in capitals are the kinds of records.",
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

/* The rows of kinds.h, and between them, without a name, the process that writes those that follow. */
static const struct {
    const char *name;
    long number;
    const char *words, *meaning;
} kinds[] = {
#define W(words) { NULL, 0, words, NULL },
#define X(name, number, operands, meaning) { #name, number, operands, meaning },
    JOURNAL_KINDS(X, W)
#undef X
#undef W
};

/* A constant of the type for each kind; the rows with their writers go to `table`. */
static bool add_kinds(PyObject *table)
{
    const char *writer = "";
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (kinds[i].name == NULL) {
            writer = kinds[i].words;
            continue;
        }
        PyObject *number = PyLong_FromLong(kinds[i].number);
        PyObject *row = number == NULL
            ? NULL
            : Py_BuildValue("(sOsss)", kinds[i].name, number, kinds[i].words, kinds[i].meaning, writer);
        bool good = row != NULL && PyList_Append(table, row) == 0
            && PyDict_SetItemString(recorder_type.tp_dict, kinds[i].name, number) == 0;
        Py_XDECREF(number);
        Py_XDECREF(row);
        if (!good)
            return false;
    }
    return true;
}

PyMODINIT_FUNC PyInit_recorder(void)
{
    PyObject *table = PyList_New(0);
    if (table == NULL || PyType_Ready(&recorder_type) < 0 || !add_kinds(table))
        return NULL;
    PyType_Modified(&recorder_type);
    PyObject *module = PyModule_Create(&recorder_module), *rows = PyList_AsTuple(table);
    Py_DECREF(table);
    if (module == NULL || rows == NULL || PyModule_AddObjectRef(module, "KINDS", rows) < 0
        || PyModule_AddObjectRef(module, "Recorder", (PyObject *)&recorder_type) < 0)
        return NULL;
    Py_DECREF(rows);
    return module;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* allstop.vm.control.control: the control page for Python. One type, whose methods are in control_requests.c,
 * control_telemetry.c and control_ledger.c. What the words mean is said in control_page.h and the headers that it
 * lists.
 */
#include "page_object.h"

#include <sys/mman.h>
#include <sys/stat.h>

static size_t page_bytes(uint32_t vcpus)
{
    return CP_HOST_BYTES + (size_t)vcpus * CP_VCPU_BYTES;
}

static PyObject *map_control_page(PyTypeObject *type, int fd, uint32_t vcpus)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    size_t bytes = vcpus ? page_bytes(vcpus) : (size_t)status.st_size;
    if ((size_t)status.st_size < bytes || bytes < page_bytes(1))
        return PyErr_Format(PyExc_ValueError, "the control page has %zd bytes, which is too small",
                            (Py_ssize_t)status.st_size);
    struct cp_host *host = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (host == MAP_FAILED)
        return PyErr_SetFromErrno(PyExc_OSError);
    ControlPage *self = PyObject_New(ControlPage, type);
    if (self == NULL) {
        munmap(host, bytes);
        return NULL;
    }
    self->host = host;
    self->bytes = bytes;
    return (PyObject *)self;
}

static PyObject *control_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = { "fd", NULL };
    int fd;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i", names, &fd))
        return NULL;
    ControlPage *self = (ControlPage *)map_control_page(type, fd, 0);
    if (self == NULL)
        return NULL;
    struct cp_host *host = self->host;
    if (host->magic != CP_MAGIC || host->version != CP_VERSION || host->vcpus == 0 || host->vcpus > CP_MAX_VCPUS
        || page_bytes(host->vcpus) > self->bytes) {
        Py_DECREF(self);
        PyErr_SetString(PyExc_ValueError, "not a control page of this version of allstop");
        return NULL;
    }
    return (PyObject *)self;
}

static PyObject *control_create(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = { "fd", "vcpus", "cores", "tlb", "time_dilation", NULL };
    int fd;
    unsigned vcpus, cores, tlb = CP_TLB_BROADCAST, time_dilation = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iII|II", names, &fd, &vcpus, &cores, &tlb, &time_dilation))
        return NULL;
    if (time_dilation == 0)
        return PyErr_Format(PyExc_ValueError, "a time dilation is 1 or more");
    if (vcpus == 0 || vcpus > CP_MAX_VCPUS)
        return PyErr_Format(PyExc_ValueError, "a machine has 1 to %u vCPUs, not %u", CP_MAX_VCPUS, vcpus);
    ControlPage *self = (ControlPage *)map_control_page(type, fd, vcpus);
    if (self == NULL)
        return NULL;
    memset(self->host, 0, CP_HOST_BYTES);
    self->host->version = CP_VERSION;
    self->host->vcpus = vcpus;
    self->host->cores = cores;
    self->host->clock_base_ns = cp_now_ns();
    self->host->tlb_discipline = tlb;
    self->host->time_dilation = time_dilation;
    self->host->magic = CP_MAGIC;
    return (PyObject *)self;
}

static void control_dealloc(ControlPage *self)
{
    munmap(self->host, self->bytes);
    PyObject_Free(self);
}

static PyObject *control_size_bytes(PyObject *type, PyObject *arg)
{
    unsigned long vcpus = PyLong_AsUnsignedLong(arg);
    if (vcpus == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    return PyLong_FromSize_t(page_bytes((uint32_t)vcpus));
}

static PyObject *control_get_vcpus(ControlPage *self, void *unused)
{
    return PyLong_FromUnsignedLong(self->host->vcpus);
}

static PyObject *control_get_cores(ControlPage *self, void *unused)
{
    return PyLong_FromUnsignedLong(self->host->cores);
}

static PyGetSetDef control_getset[] = {
    { "vcpus", (getter)control_get_vcpus, NULL, "vCPUs of the machine", NULL },
    { "cores", (getter)control_get_cores, NULL, "host cores that the machine may use", NULL },
    { NULL, NULL, NULL, NULL, NULL },
};

static PyObject *control_bucket_ns(PyObject *module, PyObject *arg)
{
    unsigned long bucket = PyLong_AsUnsignedLong(arg);
    if (bucket == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    if (bucket >= CP_BUCKETS)
        return PyErr_Format(PyExc_IndexError, "no bucket %lu", bucket);
    return PyFloat_FromDouble(cp_bucket_ns((unsigned)bucket));
}

static PyMethodDef type_methods[] = {
    { "create", (PyCFunction)(void (*)(void))control_create, METH_VARARGS | METH_KEYWORDS | METH_CLASS,
      "create($type, fd, vcpus, cores, tlb=0, time_dilation=1)\n--\n\n"
      "Initialise the page in a memory file that is large enough, and map it." },
    { "size_bytes", control_size_bytes, METH_O | METH_STATIC,
      "size_bytes(vcpus, /)\n--\n\nBytes of the page of a machine with so many vCPUs." },
    NO_METHOD,
};

#define MOST_METHODS 64u

static PyMethodDef control_methods[MOST_METHODS];

/* One table of the parts. */
static void gather_methods(void)
{
    PyMethodDef *const parts[] = { type_methods, control_requests_methods, control_telemetry_methods,
                                   control_ledger_methods };
    size_t n = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        for (const PyMethodDef *method = parts[i]; method->ml_name && n + 1 < MOST_METHODS; method++)
            control_methods[n++] = *method;
}

static PyTypeObject control_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "allstop.vm.control.control.ControlPage",
    .tp_doc = "ControlPage(fd)\n--\n\nThe control page of one host, mapped from an inherited memory file.",
    .tp_basicsize = sizeof(ControlPage),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = control_new,
    .tp_dealloc = (destructor)control_dealloc,
    .tp_methods = control_methods,
    .tp_getset = control_getset,
};

static PyMethodDef module_methods[] = {
    { "bucket_ns", control_bucket_ns, METH_O,
      "bucket_ns($module, bucket, /)\n--\n\nThe middle of a histogram's bucket, in nanoseconds." },
    NO_METHOD,
};

static struct PyModuleDef control_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "control",
    .m_doc = "The control page: requests, modes, kicks, line words, heartbeats, counters and histograms.",
    .m_size = -1,
    .m_methods = module_methods,
};

/* Give a constant to the module and to the type. */
static bool add_constant(PyObject *module, const char *name, long number)
{
    PyObject *value = PyLong_FromLong(number);
    bool good = value != NULL && PyModule_AddObjectRef(module, name, value) == 0
        && PyDict_SetItemString(control_type.tp_dict, name, value) == 0;
    Py_XDECREF(value);
    return good;
}

PyMODINIT_FUNC PyInit_control(void)
{
    static const struct {
        const char *name;
        long value;
    } constants[] = { { "OUTSIDE", CP_OUTSIDE },
                      { "IN_GUEST", CP_IN_GUEST },
                      { "EXITING", CP_EXITING },
                      { "SLEEPING", CP_SLEEPING },
                      { "POWER_OFF", CP_POWER_OFF },
                      { "POWER_PENDING", CP_POWER_PENDING },
                      { "POWER_ON", CP_POWER_ON },
                      { "COORDINATOR", SLOT_COORDINATOR },
                      { "DEVICES", SLOT_DEVICES },
                      { "DEBUGGER", SLOT_DEBUGGER },
                      { "NODE", SLOT_NODE },
#define X(name, ...) { #name, CP_##name },
                      CP_REQUESTS(X)
#undef X
#define X(name, ...) { "COUNT_" #name, CP_COUNT_##name },
                          CP_COUNTERS(X)
#undef X
#define X(name, ...) { "HISTOGRAM_" #name, CP_HIST_##name },
                              CP_HISTOGRAMS(X)
#undef X
#define X(name, ...) { "ACTIVITY_" #name, CP_ACTIVITY_##name },
                                  CP_ACTIVITIES(X)
#undef X
    };
    gather_methods();
    if (PyType_Ready(&control_type) < 0)
        return NULL;
    PyObject *module = PyModule_Create(&control_module);
    if (module == NULL || PyModule_AddObjectRef(module, "ControlPage", (PyObject *)&control_type) < 0)
        return NULL;
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (!add_constant(module, constants[i].name, constants[i].value))
            return NULL;
    PyType_Modified(&control_type);
    return control_add_tables(module) ? module : NULL;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* allstop.coordinator.node.memory.node_memory: what a host's node does to its host's shared memory. The type and its methods' table; what they do is
 * in node_pages.c and node_requests.c. */
#include "node_memory.h"

static PyObject *memory_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = { "control_fd", "ram_fd", "stage2_fd", "swap_fd", NULL };
    int control_fd, ram_fd, stage2_fd, swap_fd = -1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iii|i", names, &control_fd, &ram_fd, &stage2_fd, &swap_fd))
        return NULL;
    NodeMemory *self = (NodeMemory *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    enum mapped_result result = mapped_open(&self->m, control_fd, ram_fd, stage2_fd, swap_fd);
    if (result != MAPPED) {
        if (result == MAPPED_NOT)
            PyErr_SetFromErrno(PyExc_OSError);
        else
            PyErr_SetString(PyExc_ValueError, "these are not the control page, the RAM and the stage-2 tables of one machine");
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void memory_dealloc(NodeMemory *self)
{
    mapped_close(&self->m);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *memory_share(NodeMemory *self, PyObject *args)
{
    int doorbell, owns_all;
    PyObject *others;
    if (!PyArg_ParseTuple(args, "iOp", &doorbell, &others, &owns_all))
        return NULL;
    PyObject *iterator = PyObject_GetIter(others), *item;
    if (iterator == NULL)
        return NULL;
    while ((item = PyIter_Next(iterator))) {
        struct cp_vcpu *v = node_slot(self, PyLong_AsUnsignedLong(item));
        Py_DECREF(item);
        if (v == NULL)
            break;
        atomic_store(&v->mode, CP_IN_GUEST);
        atomic_store(&v->doorbell, (uint32_t)doorbell + 1);
    }
    Py_DECREF(iterator);
    if (PyErr_Occurred())
        return NULL;
    self->m.host->doorbell = (uint32_t)doorbell + 1;
    self->m.host->has_coordinator = (uint32_t)owns_all;
    for (uint64_t page = 0; owns_all && page < self->m.pages.ram_bytes; page += SWAP_PAGE)
        atomic_store(page_entry(&self->m.pages, RAM_BASE + (uint32_t)page), OWNED);
    Py_RETURN_NONE;
}

static PyObject *memory_set_clock_base(NodeMemory *self, PyObject *args)
{
    unsigned long long base, error;
    PyObject *base_, *error_;
    if (!PyArg_ParseTuple(args, "OO", &base_, &error_))
        return NULL;
    base = PyLong_AsUnsignedLongLong(base_);
    error = PyErr_Occurred() ? 0 : PyLong_AsUnsignedLongLong(error_);
    if (PyErr_Occurred())
        return NULL;
    self->m.host->clock_base_ns = base;
    self->m.host->clock_error_ns = error;
    Py_RETURN_NONE;
}

static PyObject *memory_clock_base(NodeMemory *self, PyObject *unused)
{
    return PyLong_FromUnsignedLongLong(self->m.host->clock_base_ns);
}

static PyObject *memory_clock_error(NodeMemory *self, PyObject *unused)
{
    return PyLong_FromUnsignedLongLong(self->m.host->clock_error_ns);
}

static PyMethodDef memory_methods[] = {
    { "share", (PyCFunction)memory_share, METH_VARARGS,
      "share(doorbell_fd, others, first): this host is one of several. `others` are the vCPUs on other hosts. The first has the "
      "coordinator, and all pages. Before any other process of this host starts." },
    { "revoke", (PyCFunction)memory_revoke, METH_VARARGS,
      "revoke(page, share, want_data) -> (data, had_code), None where it is not here or the run is over: nobody here writes to "
      "the page any more or, without `share`, uses it. b\"\" is a page of zeros. Raises RuntimeError: the swap file failed." },
    { "install", (PyCFunction)memory_install, METH_VARARGS,
      "install(page, data, owned, execute, had_code): the page is here now, which it was not. b\"\" is a page of zeros." },
    { "upgrade", (PyCFunction)memory_upgrade, METH_O,
      "upgrade(page): the page that is here may be written to now. False where it is not here. Raises RuntimeError." },
    { "wants", (PyCFunction)memory_wants, METH_NOARGS, "wants(): [(slot, page, write, execute, offset)] that somebody here waits for." },
    { "have", (PyCFunction)memory_have, METH_VARARGS,
      "have(slot, page, write) -> progress: it waits for this page no more." },
    { "progress", (PyCFunction)memory_progress, METH_VARARGS,
      "progress(vcpu, tell=False): differs from what `have` gave when the vCPU got on. With `tell` the doorbell rings then." },
    { "is_page", (PyCFunction)memory_is_page, METH_O, "is_page(page): whether the guest has it." },
    { "is_here", (PyCFunction)memory_is_here, METH_VARARGS, "is_here(page, write): nobody has to be asked for this access." },
    { "entry", (PyCFunction)memory_entry, METH_O, "entry(page): its stage-2 entry." },
    { "take_outbox", (PyCFunction)memory_take_outbox, METH_NOARGS,
      "take_outbox(): [(vcpu, bits, line, power)] to be told to the vCPUs' nodes, or of our own ones: their power." },
    { "end_stay", (PyCFunction)memory_end_stay, METH_O,
      "end_stay(vcpu): all that was posted was delivered and waited for. False when more was posted meanwhile." },
    { "deliver", (PyCFunction)memory_deliver, METH_VARARGS,
      "deliver(vcpu, bits, line) -> (exiting, ticket) for `has_left`: post to a vCPU of this host anything but STOP." },
    { "stop", (PyCFunction)memory_stop, METH_O,
      "stop(vcpu) -> exiting for `has_left`: keep a vCPU of this host outside the guest until `resume`." },
    { "resume", (PyCFunction)memory_resume, METH_O, "resume(vcpu): it may enter again." },
    { "has_left", (PyCFunction)memory_has_left, METH_VARARGS, "has_left(vcpu, exiting, ticket, ipi)." },
    { "wait_left", (PyCFunction)memory_wait_left, METH_VARARGS, "wait_left(vcpu, exiting, timeout_s)." },
    { "invalidation", (PyCFunction)memory_invalidation, METH_O, "invalidation(done): one begins here, or is done." },
    { "is_idle", (PyCFunction)memory_is_idle, METH_NOARGS, "is_idle(): all vCPUs of this host sleep, or are off." },
    { "may_poll", (PyCFunction)memory_may_poll, METH_NOARGS, "may_poll(): this host has a core on which no vCPU computes." },
    { "set_power", (PyCFunction)memory_set_power, METH_VARARGS, "set_power(vcpu, power): as its own host says." },
    { "told", (PyCFunction)memory_told, METH_VARARGS,
      "told(vcpu, all): what its process tells of itself; `all` with what was counted and measured." },
    { "tell", (PyCFunction)memory_tell, METH_VARARGS, "tell(vcpu, told): the same of a vCPU on another host." },
    { "set_clock_base", (PyCFunction)memory_set_clock_base, METH_VARARGS,
      "set_clock_base(ns, error_ns): when the guest's counters were 0, by this host's CLOCK_MONOTONIC, and by how much that may be "
      "off." },
    { "clock_base", (PyCFunction)memory_clock_base, METH_NOARGS, "clock_base()." },
    { "clock_error", (PyCFunction)memory_clock_error, METH_NOARGS, "clock_error(): 0 where the base was never set." },
    { NULL, NULL, 0, NULL },
};

static PyTypeObject memory_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "allstop.coordinator.node.memory.node_memory.NodeMemory",
    .tp_doc = "A host's shared memory, as its node uses it.",
    .tp_basicsize = sizeof(NodeMemory),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = memory_new,
    .tp_dealloc = (destructor)memory_dealloc,
    .tp_methods = memory_methods,
};

static struct PyModuleDef memory_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "node_memory",
    .m_doc = "A host's pages, and its slots for vCPUs on other hosts.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit_node_memory(void)
{
    if (PyType_Ready(&memory_type) < 0)
        return NULL;
    PyObject *module = PyModule_Create(&memory_module);
    if (module == NULL || PyModule_AddObjectRef(module, "NodeMemory", (PyObject *)&memory_type) < 0
        || PyModule_AddIntConstant(module, "DEVICES", DEVICES_SLOT) < 0
        || PyModule_AddIntConstant(module, "FLUSHES", NODE_FLUSHES) < 0)
        return NULL;
    return module;
}

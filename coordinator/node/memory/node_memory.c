/* SPDX-License-Identifier: GPL-2.0-or-later */
/* allstop.coordinator.node.memory.node_memory: what a host's node does to its host's shared memory. The type, and
 * the table of its methods; most methods are in node_pages.c and node_requests.c. */
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
    if (!mapped_open(&self->m, control_fd, ram_fd, stage2_fd, swap_fd))
        Py_CLEAR(self);
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

#define M(...) METHOD(memory, __VA_ARGS__)

static PyMethodDef memory_methods[] = {
    M(share, METH_VARARGS, "doorbell_fd, others, owns_all, /",
      "This host is one of several; `others` are the vCPUs on other hosts. The first host has the coordinator, and at "
      "first all pages (`owns_all`). Called before any other process of this host starts."),
    /* node_pages.c */
    M(revoke, METH_VARARGS, "page, share, want_data, /",
      "Take the page away from this host, or with `share` the right to write to it: (data, had_code), None where it is "
      "not here or the run is over. b\"\" is a page of zeros. Raises RuntimeError when the swap file failed."),
    M(install, METH_VARARGS, "page, data, owned, execute, had_code, /",
      "The page, which was not here, is here now. b\"\" is a page of zeros."),
    M(upgrade, METH_O, "page, /",
      "The page, which is here, may be written to now. False where it is not here. Raises RuntimeError as `revoke`."),
    NOARGS(memory, wants, "[(slot, page, write, execute, offset)]: what the processes of this host wait for."),
    M(have, METH_VARARGS, "slot, page, write, /", "The slot waits for this page no more; returns its progress."),
    M(progress, METH_VARARGS, "slot, tell=False, /",
      "Differs from what `have` returned once the vCPU has retired an instruction. With `tell` the doorbell rings "
      "then."),
    M(is_page, METH_O, "page, /", "Whether the guest has such a page."),
    M(is_here, METH_VARARGS, "page, write, /", "Whether this access needs no other host."),
    M(entry, METH_O, "page, /", "Its stage-2 entry."),
    /* node_requests.c */
    NOARGS(memory, take_outbox,
           "[(vcpu, bits, line, power)]: requests to send to the vCPUs' nodes, or the new power of this host's vCPUs."),
    M(end_guest_entry, METH_O, "vcpu, /",
      "All that was posted to a remote vCPU was delivered and waited for. False when more was posted meanwhile."),
    M(deliver, METH_VARARGS, "vcpu, bits, line, /",
      "Post anything but STOP to a vCPU of this host: (exiting, ticket) for `has_exited`."),
    M(stop, METH_O, "vcpu, /", "Keep a vCPU of this host outside the guest until `resume`: exiting, for `has_exited`."),
    M(resume, METH_O, "vcpu, /", "It may enter again."),
    M(has_exited, METH_VARARGS, "vcpu, exiting, ticket, ipi, /",
      "Whether it has exited since, and with `ipi` has served the flush of this ticket."),
    M(wait_exited, METH_VARARGS, "vcpu, exiting, timeout_s, /", "Wait for that; False when it was not in time."),
    M(invalidation, METH_O, "done, /", "An invalidation begins on this host, or is done."),
    NOARGS(memory, is_idle, "Whether all vCPUs of this host sleep, or are off."),
    NOARGS(memory, may_poll, "Whether this host has a core on which no vCPU computes."),
    M(set_power, METH_VARARGS, "vcpu, power, /", "Its own host says so."),
    M(told, METH_VARARGS, "vcpu, all, /",
      "What the vCPU's process tells of itself; with `all` what was counted and measured, too."),
    M(tell, METH_VARARGS, "vcpu, told, /", "The same, of a vCPU on another host."),
    /* this file */
    M(set_clock_base, METH_VARARGS, "ns, error_ns, /",
      "When the guest's counters were 0, by this host's CLOCK_MONOTONIC, and how far off that may be."),
    NOARGS(memory, clock_base, "When the guest's counters were 0, by this host's CLOCK_MONOTONIC."),
    NOARGS(memory, clock_error, "How far off that may be; 0 where it was never set."),
    NO_METHOD,
};

static PyTypeObject memory_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "allstop.coordinator.node.memory.node_memory.NodeMemory",
    .tp_doc = "NodeMemory(control_fd, ram_fd, stage2_fd, swap_fd=-1)\n--\n\n"
              "A host's shared memory, as its node uses it.",
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

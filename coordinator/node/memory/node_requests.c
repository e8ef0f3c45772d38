/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a host's node does to its host's slots: requests to vCPUs of other hosts, and from other hosts to those here.
 * cp_post_remote (control_page.h) says how they get out of a slot.
 */
#include "node_memory.h"

#include <stddef.h>

PyObject *memory_take_outbox(NodeMemory *self, PyObject *unused)
{
    PyObject *list = PyList_New(0);
    for (uint32_t i = 0; list && i < self->m.host->vcpus; i++) {
        struct cp_vcpu *v = cp_vcpu(self->m.host, i);
        if (atomic_load(&v->outbox) == 0)
            continue;
        uint32_t bits = atomic_exchange(&v->outbox, 0);
        PyObject *item = Py_BuildValue("(IIKI)", i, bits & ~CP_CHANGED, (unsigned long long)atomic_load(&v->line),
                                       atomic_load(&v->power));
        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

PyObject *memory_end_guest_entry(NodeMemory *self, PyObject *arg)
{
    struct cp_vcpu *v = node_slot(self, PyLong_AsUnsignedLong(arg));
    if (v == NULL)
        return NULL;
    uint32_t mode = atomic_load(&v->mode), ending;
    do
        ending = (mode & ~(uint32_t)CP_MODE_MASK) | CP_ENDING;
    while (!atomic_compare_exchange_strong(&v->mode, &mode, ending));
    if (atomic_load(&v->outbox) != 0
        || !atomic_compare_exchange_strong(&v->mode, &ending, ((ending | CP_MODE_MASK) + 1) | CP_IN_GUEST))
        Py_RETURN_FALSE;
    cp_futex_wake(&v->mode);
    Py_RETURN_TRUE;
}

static struct cp_vcpu *own_slot(NodeMemory *self, unsigned long vcpu)
{
    struct cp_vcpu *v = node_slot(self, vcpu);
    if (v && cp_is_remote(v)) {
        PyErr_Format(PyExc_ValueError, "vCPU %lu is not on this host", vcpu);
        return NULL;
    }
    return v;
}

PyObject *memory_deliver(NodeMemory *self, PyObject *args)
{
    unsigned long vcpu;
    unsigned bits;
    unsigned long long line;
    if (!PyArg_ParseTuple(args, "kIK", &vcpu, &bits, &line))
        return NULL;
    struct cp_vcpu *v = own_slot(self, vcpu);
    if (v == NULL)
        return NULL;
    if (cp_set_line(v, line))
        bits |= CP_INTERRUPT;
    uint32_t ticket = 0;
    if (bits & NODE_FLUSHES)
        ticket = atomic_fetch_add(&v->flush_posted, 1) + 1;
    uint32_t exiting = bits ? cp_post(v, bits) : 0;
    return Py_BuildValue("(II)", exiting, ticket);
}

PyObject *memory_stop(NodeMemory *self, PyObject *arg)
{
    unsigned long vcpu = PyLong_AsUnsignedLong(arg);
    struct cp_vcpu *v = PyErr_Occurred() ? NULL : own_slot(self, vcpu);
    return v ? PyLong_FromUnsignedLong(cp_post(v, CP_STOP)) : NULL;
}

PyObject *memory_resume(NodeMemory *self, PyObject *arg)
{
    unsigned long vcpu = PyLong_AsUnsignedLong(arg);
    struct cp_vcpu *v = PyErr_Occurred() ? NULL : own_slot(self, vcpu);
    if (v == NULL)
        return NULL;
    cp_clear(v, CP_STOP);
    Py_RETURN_NONE;
}

PyObject *memory_has_exited(NodeMemory *self, PyObject *args)
{
    unsigned long vcpu;
    unsigned exiting, ticket;
    int ipi;
    if (!PyArg_ParseTuple(args, "kIIp", &vcpu, &exiting, &ticket, &ipi))
        return NULL;
    struct cp_vcpu *v = node_slot(self, vcpu);
    if (v == NULL)
        return NULL;
    bool left = exiting == 0 || atomic_load(&v->mode) != exiting;
    if (left && ipi && ticket)
        left = (int32_t)(atomic_load(&v->flush_served) - ticket) >= 0
            || (atomic_load(&v->mode) & CP_MODE_MASK) == CP_SLEEPING || atomic_load(&v->power) != CP_POWER_ON;
    return PyBool_FromLong(left);
}

PyObject *memory_wait_exited(NodeMemory *self, PyObject *args)
{
    unsigned long vcpu;
    unsigned exiting;
    double timeout_s;
    if (!PyArg_ParseTuple(args, "kId", &vcpu, &exiting, &timeout_s))
        return NULL;
    struct cp_vcpu *v = node_slot(self, vcpu);
    if (v == NULL)
        return NULL;
    bool left = true;
    Py_BEGIN_ALLOW_THREADS if (exiting) left = cp_wait_exited(v, exiting, cp_now_ns() + (uint64_t)(timeout_s * 1e9));
    Py_END_ALLOW_THREADS return PyBool_FromLong(left);
}

PyObject *memory_invalidation(NodeMemory *self, PyObject *arg)
{
    int done = PyObject_IsTrue(arg);
    if (done < 0)
        return NULL;
    atomic_fetch_add(done ? &self->m.host->invalidations_done : &self->m.host->invalidations_begun, 1);
    Py_RETURN_NONE;
}

PyObject *memory_is_idle(NodeMemory *self, PyObject *unused)
{
    for (uint32_t i = 0; i < self->m.host->vcpus; i++) {
        struct cp_vcpu *v = cp_vcpu(self->m.host, i);
        bool sleeps = (atomic_load(&v->mode) & CP_MODE_MASK) == CP_SLEEPING && atomic_load(&v->want) == 0;
        if (!cp_is_remote(v) && !sleeps && atomic_load(&v->power) != CP_POWER_OFF)
            Py_RETURN_FALSE;
    }
    Py_RETURN_TRUE;
}

PyObject *memory_may_poll(NodeMemory *self, PyObject *unused)
{
    return PyBool_FromLong(cp_is_a_core_free(self->m.host, CP_MAX_VCPUS, 1));
}

PyObject *memory_set_power(NodeMemory *self, PyObject *args)
{
    unsigned long vcpu;
    unsigned power;
    if (!PyArg_ParseTuple(args, "kI", &vcpu, &power))
        return NULL;
    struct cp_vcpu *v = node_slot(self, vcpu);
    if (v == NULL)
        return NULL;
    uint32_t pending = CP_POWER_PENDING;
    if (!self->m.host->has_coordinator)
        atomic_store(&v->power, power);
    else if (power == CP_POWER_ON) /* the coordinator may have set a newer power: only PENDING becomes ON */
        atomic_compare_exchange_strong(&v->power, &pending, power);
    Py_RETURN_NONE;
}

/* What a worker tells of itself and has counted, from `process` to the end of its slot. */
#define TOLD_FROM offsetof(struct cp_vcpu, process)

PyObject *memory_told(NodeMemory *self, PyObject *args)
{
    unsigned long vcpu;
    int all;
    if (!PyArg_ParseTuple(args, "kp", &vcpu, &all))
        return NULL;
    struct cp_vcpu *v = node_slot(self, vcpu);
    if (v == NULL)
        return NULL;
    size_t end = all ? offsetof(struct cp_vcpu, pad3) : offsetof(struct cp_vcpu, performed);
    return PyBytes_FromStringAndSize((char *)v + TOLD_FROM, (Py_ssize_t)(end - TOLD_FROM));
}

PyObject *memory_tell(NodeMemory *self, PyObject *args)
{
    unsigned long vcpu;
    Py_buffer told;
    if (!PyArg_ParseTuple(args, "ky*", &vcpu, &told))
        return NULL;
    struct cp_vcpu *v = node_slot(self, vcpu);
    size_t limit = offsetof(struct cp_vcpu, pad3) - TOLD_FROM, ledger = offsetof(struct cp_vcpu, performed) - TOLD_FROM;
    size_t behind = offsetof(struct cp_vcpu, completed) - TOLD_FROM;
    if (v && ((size_t)told.len > limit || !cp_is_remote(v))) {
        PyErr_SetString(PyExc_ValueError, "this is nothing that a vCPU of another host tells of itself");
        v = NULL;
    }
    if (v) { /* `performed` is what this host's device server has done: not theirs to tell */
        size_t first = (size_t)told.len < ledger ? (size_t)told.len : ledger;
        memcpy((char *)v + TOLD_FROM, told.buf, first);
        if ((size_t)told.len > behind)
            memcpy((char *)v + TOLD_FROM + behind, (char *)told.buf + behind, (size_t)told.len - behind);
    }
    PyBuffer_Release(&told);
    return v ? Py_NewRef(Py_None) : NULL;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ControlPage's methods: requests, modes, stops, the interrupt line, power, invalidations. */
#include "page_object.h"

static PyObject *control_post(ControlPage *self, PyObject *args)
{
    unsigned bits;
    VCPU_ARGS("I", &bits);
    cp_post(v, bits);
    Py_RETURN_NONE;
}

static PyObject *control_clear(ControlPage *self, PyObject *args)
{
    unsigned bits;
    VCPU_ARGS("I", &bits);
    cp_clear(v, bits);
    Py_RETURN_NONE;
}

static PyObject *control_requests(ControlPage *self, PyObject *arg)
{
    VCPU_ARG;
    return PyLong_FromUnsignedLong(atomic_load(&v->requests));
}

static PyObject *control_mode(ControlPage *self, PyObject *arg)
{
    VCPU_ARG;
    return PyLong_FromUnsignedLong(atomic_load(&v->mode) & CP_MODE_MASK);
}

static PyObject *control_set_mode(ControlPage *self, PyObject *args)
{
    unsigned mode;
    VCPU_ARGS("I", &mode);
    if (mode == CP_IN_GUEST)
        return PyBool_FromLong(cp_enter(v, 0));
    if (mode != CP_OUTSIDE)
        return PyErr_Format(PyExc_ValueError, "a vCPU enters (IN_GUEST) or leaves (OUTSIDE), not %u", mode);
    cp_exit(v);
    Py_RETURN_TRUE;
}

static PyObject *control_wait_outside(ControlPage *self, PyObject *args)
{
    double timeout_s;
    VCPU_ARGS("d", &timeout_s);
    uint64_t deadline = cp_now_ns() + (uint64_t)(timeout_s > 0 ? timeout_s * 1e9 : 0);
    bool left = true;
    Py_BEGIN_ALLOW_THREADS for (;;)
    {
        uint32_t mode = atomic_load(&v->mode);
        uint32_t low = mode & CP_MODE_MASK;
        if (low == CP_OUTSIDE || low == CP_SLEEPING)
            break;
        if (low == CP_IN_GUEST && !atomic_compare_exchange_strong(&v->mode, &mode, (mode & ~3u) | CP_EXITING))
            continue;
        left = cp_wait_exited(v, (mode & ~(uint32_t)CP_MODE_MASK) | CP_EXITING, deadline);
        if (!left)
            break;
    }
    Py_END_ALLOW_THREADS return PyBool_FromLong(left);
}

static PyObject *control_stop(ControlPage *self, PyObject *args)
{
    /* Post STOP to all vCPUs of this host but `owners` and wait for them, natively: those that are still in the
     * guest. */
    PyObject *owners;
    double timeout_s;
    if (!PyArg_ParseTuple(args, "Od", &owners, &timeout_s))
        return NULL;
    bool skip[CP_MAX_VCPUS] = { false };
    PyObject *iterator = PyObject_GetIter(owners), *item;
    if (iterator == NULL)
        return NULL;
    while ((item = PyIter_Next(iterator))) {
        long owner = PyLong_AsLong(item);
        Py_DECREF(item);
        if (owner >= 0 && owner < (long)CP_MAX_VCPUS)
            skip[owner] = true;
    }
    Py_DECREF(iterator);
    if (PyErr_Occurred())
        return NULL;
    uint32_t vcpus = self->host->vcpus;
    uint32_t exiting[CP_MAX_VCPUS];
    bool missing[CP_MAX_VCPUS] = { false };
    uint64_t deadline = cp_now_ns() + (uint64_t)(timeout_s > 0 ? timeout_s * 1e9 : 0);
    Py_BEGIN_ALLOW_THREADS for (uint32_t i = 0; i < vcpus; i++)
        exiting[i] = skip[i] || cp_is_remote(cp_vcpu(self->host, i)) ? 0 : cp_post(cp_vcpu(self->host, i), CP_STOP);
    for (uint32_t i = 0; i < vcpus; i++)
        if (exiting[i] && !cp_wait_exited(cp_vcpu(self->host, i), exiting[i], deadline))
            missing[i] = true;
    Py_END_ALLOW_THREADS PyObject *result = PyList_New(0);
    for (uint32_t i = 0; result && i < vcpus; i++) {
        if (!missing[i])
            continue;
        PyObject *number = PyLong_FromUnsignedLong(i);
        if (number == NULL || PyList_Append(result, number) < 0)
            Py_CLEAR(result);
        Py_XDECREF(number);
    }
    return result;
}

static PyObject *control_resume(ControlPage *self, PyObject *unused)
{
    for (uint32_t i = 0; i < self->host->vcpus; i++)
        if (!cp_is_remote(cp_vcpu(self->host, i)))
            cp_clear(cp_vcpu(self->host, i), CP_STOP);
    Py_RETURN_NONE;
}

static PyObject *control_head_start(ControlPage *self, PyObject *arg)
{
    VCPU_ARG;
    (void)v;
    cp_head_start(self->host, (uint32_t)vcpu);
    Py_RETURN_NONE;
}

static PyObject *control_may_poll(ControlPage *self, PyObject *arg)
{
    VCPU_ARG;
    (void)v;
    return PyBool_FromLong(cp_may_poll(self->host, (uint32_t)vcpu));
}

static PyObject *control_set_line(ControlPage *self, PyObject *args)
{
    unsigned long long line;
    VCPU_ARGS("K", &line);
    bool news = cp_set_line(v, line);
    if (news || cp_is_remote(v)) /* what another host's vCPU has been told in answers is not known here */
        cp_post(v, CP_INTERRUPT);
    return PyBool_FromLong(news);
}

static PyObject *control_line(ControlPage *self, PyObject *arg)
{
    VCPU_ARG;
    return PyLong_FromUnsignedLongLong(atomic_load(&v->line));
}

static PyObject *control_power(ControlPage *self, PyObject *arg)
{
    VCPU_ARG;
    return PyLong_FromUnsignedLong(atomic_load(&v->power));
}

static PyObject *control_set_power(ControlPage *self, PyObject *args)
{
    unsigned power;
    VCPU_ARGS("I", &power);
    cp_set_power(self->host, v, power);
    Py_RETURN_NONE;
}

static PyObject *control_epochs(ControlPage *self, PyObject *unused)
{
    return Py_BuildValue("KKK", atomic_load(&self->host->stop_epoch), atomic_load(&self->host->invalidations_begun),
                         atomic_load(&self->host->invalidations_done));
}

static PyObject *control_code_writes(ControlPage *self, PyObject *unused)
{
    return PyLong_FromUnsignedLongLong(atomic_load(&self->host->code_writes));
}

static PyObject *control_arrivals(ControlPage *self, PyObject *unused)
{
    return PyLong_FromUnsignedLongLong(atomic_load(&self->host->arrivals));
}

static PyObject *control_want_page(ControlPage *self, PyObject *arg)
{
    unsigned long ipa = PyLong_AsUnsignedLong(arg);
    if (PyErr_Occurred())
        return NULL;
    cp_want_page(self->host, &self->host->coordinator_want, cp_want((uint32_t)ipa, false, false));
    Py_RETURN_NONE;
}

static PyObject *control_leave_page(ControlPage *self, PyObject *unused)
{
    atomic_store(&self->host->coordinator_want, 0);
    atomic_fetch_add(&self->host->coordinator_progress, 1);
    cp_ring(self->host->doorbell);
    Py_RETURN_NONE;
}

static PyObject *control_next_stop_epoch(ControlPage *self, PyObject *unused)
{
    return PyLong_FromUnsignedLongLong(atomic_fetch_add(&self->host->stop_epoch, 1) + 1);
}

#define M(...) METHOD(control, __VA_ARGS__)

PyMethodDef control_requests_methods[] = {
    M(post, METH_VARARGS, "vcpu, bits, /", "Request `bits`: kick a vCPU in the guest, wake a sleeping one."),
    M(clear, METH_VARARGS, "vcpu, bits, /", "Take requests back, and wake the vCPU if these parked it."),
    M(requests, METH_O, "vcpu, /", "The request bits."),
    M(mode, METH_O, "vcpu, /", "OUTSIDE, IN_GUEST, EXITING or SLEEPING."),
    M(set_mode, METH_VARARGS, "vcpu, mode, /",
      "What the vCPU's own process does on entry (IN_GUEST) and exit (OUTSIDE); True when it may run."),
    M(wait_outside, METH_VARARGS, "vcpu, timeout_s, /",
      "Wait until the vCPU is outside the guest; False when it was not in time."),
    M(stop, METH_VARARGS, "owners, timeout_s, /",
      "Post STOP to every vCPU of this host but the owners, and wait for all. Returns the vCPUs still in the guest."),
    NOARGS(control, resume, "Clear STOP on every vCPU of this host."),
    M(head_start, METH_O, "vcpu, /",
      "Post STOP to all other vCPUs before this one asks the coordinator for a stopped world; do not wait."),
    M(may_poll, METH_O, "vcpu, /", "Whether a core is to spare, so that this vCPU may poll for an answer, not sleep."),
    M(set_line, METH_VARARGS, "vcpu, line, /",
      "Set the interrupt line: version << 2 | FIQ << 1 | IRQ. The newest version wins. True when the level changed."),
    M(line, METH_O, "vcpu, /", "The interrupt line word."),
    M(power, METH_O, "vcpu, /", "POWER_OFF, POWER_PENDING or POWER_ON."),
    M(set_power, METH_VARARGS, "vcpu, power, /", "Set it; the node tells the other hosts."),
    NOARGS(control, epochs, "(stops, invalidations begun, invalidations done)."),
    NOARGS(control, code_writes, "Writes of devices into executable pages so far; one counts before it begins."),
    NOARGS(control, arrivals, "Pages that came from other hosts so far; one counts before it is put into its frame."),
    M(want_page, METH_O, "ipa, /",
      "For the coordinator: fetch another host's page here, to be read, and keep it a moment. One at a time; repeat "
      "the call until the page is here."),
    NOARGS(control, leave_page, "For the coordinator: it has read the page that it wanted, or wants it no more."),
    NOARGS(control, next_stop_epoch, "A new stop's number."),
    NO_METHOD,
};

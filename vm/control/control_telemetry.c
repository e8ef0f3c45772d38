/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ControlPage's methods: what the processes tell of themselves, counters, histograms. */
#include "page_object.h"

enum detail { NOTHING, ADDRESS, NUMBER };

static const struct {
    const char *words;
    enum detail detail;
} activities[] = {
#define X(name, words, detail) { words, detail },
    CP_ACTIVITIES(X)
#undef X
};

static struct cp_process *process_at(ControlPage *self, long slot)
{
    switch (slot) {
    case SLOT_COORDINATOR:
        return &self->host->coordinator;
    case SLOT_DEVICES:
        return &self->host->devices;
    case SLOT_DEBUGGER:
        return &self->host->debugger;
    case SLOT_NODE:
        return &self->host->node;
    }
    struct cp_vcpu *v = control_vcpu(self, slot);
    return v ? &v->process : NULL;
}

/* Begins a method with the argument (slot): the process `p`. */
#define PROCESS_ARG                                                                                                    \
    long slot = PyLong_AsLong(arg);                                                                                    \
    if (slot == -1 && PyErr_Occurred())                                                                                \
        return NULL;                                                                                                   \
    struct cp_process *p = process_at(self, slot);                                                                     \
    if (p == NULL)                                                                                                     \
    return NULL

static PyObject *control_pid(ControlPage *self, PyObject *arg)
{
    PROCESS_ARG;
    return PyLong_FromUnsignedLong(atomic_load(&p->pid));
}

static PyObject *control_set_pid(ControlPage *self, PyObject *args)
{
    long slot;
    unsigned pid;
    if (!PyArg_ParseTuple(args, "lI", &slot, &pid))
        return NULL;
    struct cp_process *p = process_at(self, slot);
    if (p == NULL)
        return NULL;
    atomic_store(&p->pid, pid);
    Py_RETURN_NONE;
}

static PyObject *control_beat(ControlPage *self, PyObject *arg)
{
    PROCESS_ARG;
    cp_beat(p);
    Py_RETURN_NONE;
}

static PyObject *control_heartbeat(ControlPage *self, PyObject *arg)
{
    PROCESS_ARG;
    return PyLong_FromUnsignedLongLong(atomic_load(&p->heartbeat));
}

static PyObject *control_set_activity(ControlPage *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = { "slot", "code", "detail", "pc", NULL };
    long slot;
    unsigned code, pc = 0;
    unsigned long long detail = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "lI|KI", names, &slot, &code, &detail, &pc))
        return NULL;
    struct cp_process *p = process_at(self, slot);
    if (p == NULL)
        return NULL;
    if (code >= CP_ACTIVITY_COUNT)
        return PyErr_Format(PyExc_ValueError, "no activity %u", code);
    if (pc)
        atomic_store(&p->pc, pc);
    atomic_store(&p->since_ns, cp_now_ns());
    cp_activity(p, code, detail);
    Py_RETURN_NONE;
}

static PyObject *control_activity(ControlPage *self, PyObject *arg)
{
    PROCESS_ARG;
    return Py_BuildValue("IKIK", atomic_load(&p->activity), atomic_load(&p->detail), atomic_load(&p->pc),
                         atomic_load(&p->since_ns));
}

static PyObject *control_describe(ControlPage *self, PyObject *arg)
{
    PROCESS_ARG;
    unsigned code = atomic_load(&p->activity);
    uint64_t detail = atomic_load(&p->detail);
    code = code < CP_ACTIVITY_COUNT ? code : CP_ACTIVITY_NONE;
    char digits[32] = "";
    if (activities[code].detail == ADDRESS)
        snprintf(digits, sizeof digits, " 0x%08llx", (unsigned long long)detail);
    else if (activities[code].detail == NUMBER)
        snprintf(digits, sizeof digits, " %lld", (long long)detail);
    return PyUnicode_FromFormat("%s%s", activities[code].words, digits);
}

static PyObject *control_count(ControlPage *self, PyObject *args)
{
    unsigned counter, n = 1;
    VCPU_ARGS("I|I", &counter, &n);
    if (counter >= CP_COUNTER_COUNT)
        return PyErr_Format(PyExc_IndexError, "no counter %u", counter);
    atomic_fetch_add(&v->counters[counter], n);
    Py_RETURN_NONE;
}

static PyObject *control_counters(ControlPage *self, PyObject *arg)
{
    VCPU_ARG;
    PyObject *result = PyTuple_New(CP_COUNTER_COUNT);
    for (int i = 0; result && i < CP_COUNTER_COUNT; i++)
        PyTuple_SET_ITEM(result, i, PyLong_FromUnsignedLongLong(atomic_load(&v->counters[i])));
    return result;
}

static PyObject *control_record(ControlPage *self, PyObject *args)
{
    unsigned histogram;
    unsigned long long ns;
    VCPU_ARGS("IK", &histogram, &ns);
    if (histogram >= CP_HIST_COUNT)
        return PyErr_Format(PyExc_IndexError, "no histogram %u", histogram);
    cp_record(v, histogram, ns);
    Py_RETURN_NONE;
}

static PyObject *control_histogram(ControlPage *self, PyObject *args)
{
    unsigned histogram;
    VCPU_ARGS("I", &histogram);
    if (histogram >= CP_HIST_COUNT)
        return PyErr_Format(PyExc_IndexError, "no histogram %u", histogram);
    PyObject *result = PyList_New(CP_BUCKETS);
    for (unsigned i = 0; result && i < CP_BUCKETS; i++)
        PyList_SET_ITEM(result, i, PyLong_FromUnsignedLong(atomic_load(&v->histogram[histogram][i])));
    return result;
}

static PyObject *control_count_event(ControlPage *self, PyObject *args)
{
    unsigned index;
    int done;
    if (!PyArg_ParseTuple(args, "Ip", &index, &done))
        return NULL;
    if (index >= CP_MAX_EVENTS)
        return PyErr_Format(PyExc_IndexError, "no event %u: a scenario has at most %u", index, CP_MAX_EVENTS);
    atomic_fetch_add(done ? &self->host->events_done[index] : &self->host->events_refused[index], 1);
    Py_RETURN_NONE;
}

static PyObject *control_event_counts(ControlPage *self, PyObject *arg)
{
    unsigned long index = PyLong_AsUnsignedLong(arg);
    if (index == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    if (index >= CP_MAX_EVENTS)
        return PyErr_Format(PyExc_IndexError, "no event %lu: a scenario has at most %u", index, CP_MAX_EVENTS);
    return Py_BuildValue("II", atomic_load(&self->host->events_done[index]),
                         atomic_load(&self->host->events_refused[index]));
}

static PyObject *control_undefined(ControlPage *self, PyObject *arg)
{
    VCPU_ARG;
    PyObject *result = PyList_New(0);
    for (unsigned i = 0; result && i < CP_UNDEFINED; i++) {
        uint32_t access = atomic_load_explicit(&v->undefined[i].access, memory_order_acquire);
        if (access == 0)
            break;
        PyObject *item = Py_BuildValue("II", access, atomic_load(&v->undefined[i].times));
        if (item == NULL || PyList_Append(result, item) < 0)
            Py_CLEAR(result);
        Py_XDECREF(item);
    }
    return result;
}

#define M(...) METHOD(control, __VA_ARGS__)

PyMethodDef control_telemetry_methods[] = {
    M(pid, METH_O, "slot, /", "Process id of a vCPU, COORDINATOR, DEVICES, NODE or DEBUGGER; 0 when unknown."),
    M(set_pid, METH_VARARGS, "slot, pid, /", "Set it."),
    M(beat, METH_O, "slot, /", "This process lives."),
    M(heartbeat, METH_O, "slot, /", "Beats so far."),
    M(set_activity, METH_VARARGS | METH_KEYWORDS, "slot, code, detail=0, pc=0",
      "What the process does now, to explain its death."),
    M(activity, METH_O, "slot, /", "(code, detail, pc, since_ns)."),
    M(describe, METH_O, "slot, /", "The activity in words."),
    M(count, METH_VARARGS, "vcpu, counter, n=1, /", "Add to a counter, one of COUNT_*."),
    M(counters, METH_O, "vcpu, /", "The counters, in the order of COUNTER_NAMES."),
    M(record, METH_VARARGS, "vcpu, histogram, ns, /", "Add a duration to a histogram, one of HISTOGRAM_*."),
    M(histogram, METH_VARARGS, "vcpu, histogram, /", "How many durations are in each bucket: see bucket_ns."),
    M(count_event, METH_VARARGS, "index, done, /", "An event of the scenario has happened, or was refused."),
    M(event_counts, METH_O, "index, /", "How often an event was (done, refused)."),
    M(undefined, METH_O, "vcpu, /",
      "[(access, times)]: MCR, MRC, MCRR and MRRC that were UNDEFINED, without condition and registers."),
    NO_METHOD,
};

/* Give the module `name`, a tuple; `value` is taken over, and may be NULL with an exception set. */
static bool add_table(PyObject *module, const char *name, PyObject *value)
{
    bool good = value != NULL && PyModule_AddObjectRef(module, name, value) == 0;
    Py_XDECREF(value);
    return good;
}

bool control_add_tables(PyObject *module)
{
    enum { EXIT, STEP };
    static const struct {
        const char *name;
        int kind;
    } counters[] = {
#define X(name, key, kind) { key, kind },
        CP_COUNTERS(X)
#undef X
    };
    static const char *const histograms[][5] = {
#define X(name, ...) { __VA_ARGS__ },
        CP_HISTOGRAMS(X)
#undef X
    };
    Py_ssize_t exits = 0;
    for (unsigned i = 0; i < CP_COUNTER_COUNT; i++)
        exits += counters[i].kind == EXIT;
    PyObject *names = PyTuple_New(CP_COUNTER_COUNT), *exit_names = PyTuple_New(exits);
    exits = 0;
    for (unsigned i = 0; names && exit_names && i < CP_COUNTER_COUNT; i++) {
        PyTuple_SET_ITEM(names, i, PyUnicode_FromString(counters[i].name));
        if (counters[i].kind == EXIT)
            PyTuple_SET_ITEM(exit_names, exits++, PyUnicode_FromString(counters[i].name));
    }
    PyObject *rows = PyTuple_New(CP_HIST_COUNT);
    for (unsigned i = 0; rows && i < CP_HIST_COUNT; i++) {
        const char *const *row = histograms[i];
        PyTuple_SET_ITEM(rows, i, Py_BuildValue("(sssss)", row[0], row[1], row[2], row[3], row[4]));
    }
    bool good = add_table(module, "COUNTER_NAMES", names);
    good = add_table(module, "EXIT_COUNTERS", exit_names) && good;
    return add_table(module, "HISTOGRAMS", rows) && good && !PyErr_Occurred();
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* allstop.vm.control.control: the control page for Python. The protocol itself is in control_page.h. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "control_page.h"

#define SLOT_COORDINATOR (-1)
#define SLOT_DEVICES (-2)
#define SLOT_DEBUGGER (-3)
#define SLOT_NODE (-4)

typedef struct {
    PyObject_HEAD
    struct cp_host *host;
    size_t bytes;
} ControlPage;

static const char *const counter_names[] = {
#define X(name, text) text,
    CP_COUNTERS(X)
#undef X
};
static const char *const activity_texts[] = {
#define X(name, text) text,
    CP_ACTIVITIES(X)
#undef X
};

static size_t page_bytes(uint32_t vcpus)
{
    return CP_HOST_BYTES + (size_t)vcpus * CP_VCPU_BYTES;
}

static struct cp_vcpu *vcpu_at(ControlPage *self, long vcpu)
{
    if (vcpu < 0 || (uint32_t)vcpu >= self->host->vcpus) {
        PyErr_Format(PyExc_IndexError, "no vCPU %ld: the machine has %u", vcpu, self->host->vcpus);
        return NULL;
    }
    return cp_vcpu(self->host, (uint32_t)vcpu);
}

static struct cp_process *process_at(ControlPage *self, long slot)
{
    if (slot == SLOT_COORDINATOR)
        return &self->host->coordinator;
    if (slot == SLOT_DEVICES)
        return &self->host->devices;
    if (slot == SLOT_NODE)
        return &self->host->node;
    if (slot == SLOT_DEBUGGER)
        return &self->host->debugger;
    struct cp_vcpu *v = vcpu_at(self, slot);
    return v ? &v->process : NULL;
}

static PyObject *map_page(PyTypeObject *type, int fd, uint32_t vcpus)
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

static PyObject *page_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = { "fd", NULL };
    int fd;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i", names, &fd))
        return NULL;
    ControlPage *self = (ControlPage *)map_page(type, fd, 0);
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

static PyObject *page_create(PyTypeObject *type, PyObject *args, PyObject *kwargs)
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
    ControlPage *self = (ControlPage *)map_page(type, fd, vcpus);
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

static void page_dealloc(ControlPage *self)
{
    munmap(self->host, self->bytes);
    PyObject_Free(self);
}

static PyObject *page_size_bytes(PyObject *type, PyObject *arg)
{
    unsigned long vcpus = PyLong_AsUnsignedLong(arg);
    if (vcpus == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    return PyLong_FromSize_t(page_bytes((uint32_t)vcpus));
}

/* Arguments (vcpu, a) and (vcpu, a, b) of the small methods below. */
#define VCPU_ARGS(format, ...)                                                                               \
    long vcpu;                                                                                               \
    if (!PyArg_ParseTuple(args, "l" format, &vcpu, __VA_ARGS__))                                             \
        return NULL;                                                                                         \
    struct cp_vcpu *v = vcpu_at(self, vcpu);                                                                 \
    if (v == NULL)                                                                                           \
        return NULL

#define VCPU_ARG                                                                                             \
    long vcpu = PyLong_AsLong(arg);                                                                          \
    if (vcpu == -1 && PyErr_Occurred())                                                                      \
        return NULL;                                                                                         \
    struct cp_vcpu *v = vcpu_at(self, vcpu);                                                                 \
    if (v == NULL)                                                                                           \
        return NULL

#define PROCESS_ARG                                                                                          \
    long slot = PyLong_AsLong(arg);                                                                          \
    if (slot == -1 && PyErr_Occurred())                                                                      \
        return NULL;                                                                                         \
    struct cp_process *p = process_at(self, slot);                                                           \
    if (p == NULL)                                                                                           \
        return NULL

static PyObject *page_post(ControlPage *self, PyObject *args)
{
    unsigned bits;
    VCPU_ARGS("I", &bits);
    cp_post(v, bits);
    Py_RETURN_NONE;
}

static PyObject *page_clear(ControlPage *self, PyObject *args)
{
    unsigned bits;
    VCPU_ARGS("I", &bits);
    cp_clear(v, bits);
    Py_RETURN_NONE;
}

static PyObject *page_requests(ControlPage *self, PyObject *arg)
{
    VCPU_ARG;
    return PyLong_FromUnsignedLong(atomic_load(&v->requests));
}

static PyObject *page_mode(ControlPage *self, PyObject *arg)
{
    VCPU_ARG;
    return PyLong_FromUnsignedLong(atomic_load(&v->mode) & CP_MODE_MASK);
}

static PyObject *page_set_mode(ControlPage *self, PyObject *args)
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

static PyObject *page_wait_outside(ControlPage *self, PyObject *args)
{
    double timeout_s;
    VCPU_ARGS("d", &timeout_s);
    uint64_t deadline = cp_now_ns() + (uint64_t)(timeout_s > 0 ? timeout_s * 1e9 : 0);
    bool left = true;
    Py_BEGIN_ALLOW_THREADS
    for (;;) {
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
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(left);
}

static PyObject *page_stop(ControlPage *self, PyObject *args)
{
    /* Post STOP to all vCPUs of this host but `owners` and wait for them, natively: those that are still in the guest. */
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
    Py_BEGIN_ALLOW_THREADS
    for (uint32_t i = 0; i < vcpus; i++)
        exiting[i] = skip[i] || cp_is_remote(cp_vcpu(self->host, i)) ? 0 : cp_post(cp_vcpu(self->host, i), CP_STOP);
    for (uint32_t i = 0; i < vcpus; i++)
        if (exiting[i] && !cp_wait_exited(cp_vcpu(self->host, i), exiting[i], deadline))
            missing[i] = true;
    Py_END_ALLOW_THREADS
    PyObject *result = PyList_New(0);
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

static PyObject *page_resume(ControlPage *self, PyObject *unused)
{
    for (uint32_t i = 0; i < self->host->vcpus; i++)
        if (!cp_is_remote(cp_vcpu(self->host, i)))
            cp_clear(cp_vcpu(self->host, i), CP_STOP);
    Py_RETURN_NONE;
}

static PyObject *page_head_start(ControlPage *self, PyObject *arg)
{
    VCPU_ARG;
    (void)v;
    cp_head_start(self->host, (uint32_t)vcpu);
    Py_RETURN_NONE;
}

static PyObject *page_may_poll(ControlPage *self, PyObject *arg)
{
    VCPU_ARG;
    (void)v;
    return PyBool_FromLong(cp_may_poll(self->host, (uint32_t)vcpu));
}

static PyObject *page_set_line(ControlPage *self, PyObject *args)
{
    unsigned long long line;
    VCPU_ARGS("K", &line);
    bool news = cp_set_line(v, line);
    if (news || cp_is_remote(v)) /* what another host's vCPU has been told in answers is not known here */
        cp_post(v, CP_INTERRUPT);
    return PyBool_FromLong(news);
}

static PyObject *page_line(ControlPage *self, PyObject *arg)
{
    VCPU_ARG;
    return PyLong_FromUnsignedLongLong(atomic_load(&v->line));
}

static PyObject *page_power(ControlPage *self, PyObject *arg)
{
    VCPU_ARG;
    return PyLong_FromUnsignedLong(atomic_load(&v->power));
}

static PyObject *page_set_power(ControlPage *self, PyObject *args)
{
    unsigned power;
    VCPU_ARGS("I", &power);
    cp_set_power(self->host, v, power);
    Py_RETURN_NONE;
}

static PyObject *page_pid(ControlPage *self, PyObject *arg)
{
    PROCESS_ARG;
    return PyLong_FromUnsignedLong(atomic_load(&p->pid));
}

static PyObject *page_set_pid(ControlPage *self, PyObject *args)
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

static PyObject *page_beat(ControlPage *self, PyObject *arg)
{
    PROCESS_ARG;
    cp_beat(p);
    Py_RETURN_NONE;
}

static PyObject *page_heartbeat(ControlPage *self, PyObject *arg)
{
    PROCESS_ARG;
    return PyLong_FromUnsignedLongLong(atomic_load(&p->heartbeat));
}

static PyObject *page_set_activity(ControlPage *self, PyObject *args, PyObject *kwargs)
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

static PyObject *page_activity(ControlPage *self, PyObject *arg)
{
    PROCESS_ARG;
    return Py_BuildValue("IKIK", atomic_load(&p->activity), atomic_load(&p->detail), atomic_load(&p->pc),
                         atomic_load(&p->since_ns));
}

static PyObject *page_describe(ControlPage *self, PyObject *arg)
{
    PROCESS_ARG;
    unsigned code = atomic_load(&p->activity);
    uint64_t detail = atomic_load(&p->detail);
    const char *text = activity_texts[code < CP_ACTIVITY_COUNT ? code : 0];
    char digits[32] = "";
    switch (code) {
    case CP_ACTIVITY_MMIO:
    case CP_ACTIVITY_FETCH:
    case CP_ACTIVITY_DEVICE:
    case CP_ACTIVITY_PAGE:
        snprintf(digits, sizeof digits, " 0x%08llx", (unsigned long long)detail);
        break;
    case CP_ACTIVITY_SHOOTDOWN:
    case CP_ACTIVITY_STOPPING:
        snprintf(digits, sizeof digits, " %lld", (long long)detail);
        break;
    }
    return PyUnicode_FromFormat("%s%s", text, digits);
}

static PyObject *page_count(ControlPage *self, PyObject *args)
{
    unsigned counter, n = 1;
    VCPU_ARGS("I|I", &counter, &n);
    if (counter >= CP_COUNTER_COUNT)
        return PyErr_Format(PyExc_IndexError, "no counter %u", counter);
    atomic_fetch_add(&v->counters[counter], n);
    Py_RETURN_NONE;
}

static PyObject *page_counters(ControlPage *self, PyObject *arg)
{
    VCPU_ARG;
    PyObject *result = PyTuple_New(CP_COUNTER_COUNT);
    for (int i = 0; result && i < CP_COUNTER_COUNT; i++)
        PyTuple_SET_ITEM(result, i, PyLong_FromUnsignedLongLong(atomic_load(&v->counters[i])));
    return result;
}

static PyObject *page_record(ControlPage *self, PyObject *args)
{
    unsigned histogram;
    unsigned long long ns;
    VCPU_ARGS("IK", &histogram, &ns);
    if (histogram >= CP_HIST_COUNT)
        return PyErr_Format(PyExc_IndexError, "no histogram %u", histogram);
    cp_record(v, histogram, ns);
    Py_RETURN_NONE;
}

static PyObject *page_histogram(ControlPage *self, PyObject *args)
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

static PyObject *page_count_event(ControlPage *self, PyObject *args)
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

static PyObject *page_event_counts(ControlPage *self, PyObject *arg)
{
    unsigned long index = PyLong_AsUnsignedLong(arg);
    if (index == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    if (index >= CP_MAX_EVENTS)
        return PyErr_Format(PyExc_IndexError, "no event %lu: a scenario has at most %u", index, CP_MAX_EVENTS);
    return Py_BuildValue("II", atomic_load(&self->host->events_done[index]),
                         atomic_load(&self->host->events_refused[index]));
}

static PyObject *page_undefined(ControlPage *self, PyObject *arg)
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

static PyObject *page_epochs(ControlPage *self, PyObject *unused)
{
    return Py_BuildValue("KKK", atomic_load(&self->host->stop_epoch), atomic_load(&self->host->invalidations_begun),
                         atomic_load(&self->host->invalidations_done));
}

static PyObject *page_code_writes(ControlPage *self, PyObject *unused)
{
    return PyLong_FromUnsignedLongLong(atomic_load(&self->host->code_writes));
}

static PyObject *page_arrivals(ControlPage *self, PyObject *unused)
{
    return PyLong_FromUnsignedLongLong(atomic_load(&self->host->arrivals));
}

static PyObject *page_want_page(ControlPage *self, PyObject *arg)
{
    unsigned long ipa = PyLong_AsUnsignedLong(arg);
    if (PyErr_Occurred())
        return NULL;
    uint32_t want = cp_want((uint32_t)ipa, false, false);
    if (atomic_exchange(&self->host->coordinator_want, want) != want) /* else the node knows */
        cp_ring(self->host->doorbell);
    Py_RETURN_NONE;
}

static PyObject *page_leave_page(ControlPage *self, PyObject *unused)
{
    atomic_store(&self->host->coordinator_want, 0);
    atomic_fetch_add(&self->host->coordinator_progress, 1);
    cp_ring(self->host->doorbell);
    Py_RETURN_NONE;
}

static PyObject *page_next_stop_epoch(ControlPage *self, PyObject *unused)
{
    return PyLong_FromUnsignedLongLong(atomic_fetch_add(&self->host->stop_epoch, 1) + 1);
}

/* The arguments (vcpu, ipa, size, is_write, value, unassigned) of an access: the vCPU's part, or NULL and an error. */
static struct cp_vcpu *access_arguments(ControlPage *self, PyObject *const *args, Py_ssize_t n, uint64_t *ipa,
                                        uint64_t *value, uint64_t *shape)
{
    if (n != 6) {
        PyErr_SetString(PyExc_TypeError, "an access is (vcpu, ipa, size, is_write, value, unassigned)");
        return NULL;
    }
    long vcpu = PyLong_AsLong(args[0]), size = PyLong_AsLong(args[2]);
    *ipa = PyLong_AsUnsignedLongLong(args[1]);
    *value = PyLong_AsUnsignedLongLong(args[4]);
    if (PyErr_Occurred())
        return NULL;
    if (size < 1 || size > 8) {
        PyErr_Format(PyExc_ValueError, "an access has 1 to 8 bytes, not %ld", size);
        return NULL;
    }
    *shape = (uint64_t)size | (PyObject_IsTrue(args[3]) == 1 ? AL_WRITE : 0)
        | (PyObject_IsTrue(args[5]) == 1 ? AL_UNASSIGNED : 0);
    return vcpu_at(self, vcpu);
}

static PyObject *page_issue_access(ControlPage *self, PyObject *arg)
{
    VCPU_ARG;
    atomic_fetch_add_explicit(&v->issued, 1, memory_order_relaxed);
    Py_RETURN_NONE;
}

static PyObject *page_perform_access(ControlPage *self, PyObject *const *args, Py_ssize_t n)
{
    uint64_t ipa, value, shape;
    struct cp_vcpu *v = access_arguments(self, args, n, &ipa, &value, &shape);
    if (v == NULL)
        return NULL;
    al_enter(&v->performed, ipa, value, shape);
    Py_RETURN_NONE;
}

static PyObject *page_complete_access(ControlPage *self, PyObject *const *args, Py_ssize_t n)
{
    uint64_t ipa, value, shape;
    struct cp_vcpu *v = access_arguments(self, args, n, &ipa, &value, &shape);
    if (v == NULL)
        return NULL;
    al_enter(&v->completed, ipa, value, shape);
    return PyBool_FromLong(al_agree(&v->performed, &v->completed));
}

static PyObject *page_settle_accesses(ControlPage *self, PyObject *arg)
{
    VCPU_ARG;
    atomic_store(&v->completed.hash, atomic_load(&v->performed.hash));
    atomic_store(&v->completed.count, atomic_load(&v->performed.count));
    atomic_store(&v->issued, atomic_load(&v->performed.count));
    Py_RETURN_NONE;
}

static PyObject *ledger_to_python(struct al_ledger *l)
{
    uint64_t count = atomic_load(&l->count), kept = count < AL_LAST ? count : AL_LAST;
    PyObject *last = PyTuple_New((Py_ssize_t)kept);
    for (uint64_t i = 0; last && i < kept; i++) {
        struct al_access *a = &l->last[(count - kept + 1 + i) % AL_LAST];
        uint64_t shape = atomic_load(&a->shape);
        PyObject *one = Py_BuildValue("KIOKO", atomic_load(&a->ipa), (unsigned)(shape & 0xff),
                                      shape & AL_WRITE ? Py_True : Py_False, atomic_load(&a->value),
                                      shape & AL_UNASSIGNED ? Py_True : Py_False);
        if (one == NULL)
            Py_CLEAR(last);
        else
            PyTuple_SET_ITEM(last, (Py_ssize_t)i, one);
    }
    return last ? Py_BuildValue("KKN", count, atomic_load(&l->hash), last) : NULL;
}

static PyObject *page_accesses(ControlPage *self, PyObject *arg)
{
    VCPU_ARG;
    PyObject *performed = ledger_to_python(&v->performed), *completed = ledger_to_python(&v->completed);
    if (performed && completed)
        return Py_BuildValue("KNN", atomic_load(&v->issued), performed, completed);
    Py_XDECREF(performed);
    Py_XDECREF(completed);
    return NULL;
}

static PyObject *control_bucket_ns(PyObject *module, PyObject *arg)
{
    unsigned long bucket = PyLong_AsUnsignedLong(arg);
    if (bucket == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    if (bucket >= CP_BUCKETS)
        return PyErr_Format(PyExc_IndexError, "no bucket %lu", bucket);
    if (bucket < 16)
        return PyFloat_FromDouble((double)bucket);
    unsigned power = (unsigned)(bucket / 16 + 3);
    double low = (double)(16 + bucket % 16) * (double)(1ull << (power - 4));
    return PyFloat_FromDouble(low + 0.5 * (double)((1ull << (power - 4)) - 1));
}

static PyMethodDef page_methods[] = {
    { "create", (PyCFunction)(void (*)(void))page_create, METH_VARARGS | METH_KEYWORDS | METH_CLASS,
      "create(fd, vcpus, cores, tlb=0): initialise the page in a memory file that is large enough, and map it." },
    { "size_bytes", page_size_bytes, METH_O | METH_STATIC, "size_bytes(vcpus): bytes of a page for so many vCPUs." },
    { "post", (PyCFunction)page_post, METH_VARARGS,
      "post(vcpu, bits): request `bits`; a vCPU in the guest is kicked, a sleeping one woken." },
    { "clear", (PyCFunction)page_clear, METH_VARARGS, "clear(vcpu, bits): take requests back and wake who is parked." },
    { "requests", (PyCFunction)page_requests, METH_O, "requests(vcpu): the request bits." },
    { "mode", (PyCFunction)page_mode, METH_O, "mode(vcpu): OUTSIDE, IN_GUEST, EXITING or SLEEPING." },
    { "set_mode", (PyCFunction)page_set_mode, METH_VARARGS,
      "set_mode(vcpu, IN_GUEST | OUTSIDE): what the vCPU's own process does on entry and exit; True when it may run." },
    { "wait_outside", (PyCFunction)page_wait_outside, METH_VARARGS,
      "wait_outside(vcpu, timeout_s): wait until the vCPU is out of the guest; False when it is not in time." },
    { "stop", (PyCFunction)page_stop, METH_VARARGS,
      "stop(owners, timeout_s): post STOP to every vCPU but the owners, wait for all; the vCPUs still in the guest." },
    { "resume", (PyCFunction)page_resume, METH_NOARGS, "resume(): clear STOP on every vCPU." },
    { "head_start", (PyCFunction)page_head_start, METH_O,
      "head_start(vcpu): post STOP to all the others, before asking the coordinator for the world; do not wait." },
    { "may_poll", (PyCFunction)page_may_poll, METH_O,
      "may_poll(vcpu): whether there is a core to spare, so that this vCPU may poll for an answer instead of sleep." },
    { "set_line", (PyCFunction)page_set_line, METH_VARARGS,
      "set_line(vcpu, line): version << 2 | FIQ << 1 | IRQ, the newest version wins; True when the level changed." },
    { "line", (PyCFunction)page_line, METH_O, "line(vcpu): the interrupt line word." },
    { "power", (PyCFunction)page_power, METH_O, "power(vcpu): POWER_OFF, POWER_PENDING or POWER_ON." },
    { "set_power", (PyCFunction)page_set_power, METH_VARARGS, "set_power(vcpu, power)." },
    { "pid", (PyCFunction)page_pid, METH_O, "pid(slot): process id of a vCPU, COORDINATOR, DEVICES or DEBUGGER; 0 unknown." },
    { "set_pid", (PyCFunction)page_set_pid, METH_VARARGS, "set_pid(slot, pid)." },
    { "beat", (PyCFunction)page_beat, METH_O, "beat(slot): I live." },
    { "heartbeat", (PyCFunction)page_heartbeat, METH_O, "heartbeat(slot): beats so far." },
    { "set_activity", (PyCFunction)(void (*)(void))page_set_activity, METH_VARARGS | METH_KEYWORDS,
      "set_activity(slot, code, detail=0, pc=0): what the process is doing, for whoever explains its death." },
    { "activity", (PyCFunction)page_activity, METH_O, "activity(slot): (code, detail, pc, since_ns)." },
    { "describe", (PyCFunction)page_describe, METH_O, "describe(slot): the activity in words." },
    { "count", (PyCFunction)page_count, METH_VARARGS, "count(vcpu, counter, n=1)." },
    { "counters", (PyCFunction)page_counters, METH_O, "counters(vcpu): values in the order of COUNTER_NAMES." },
    { "record", (PyCFunction)page_record, METH_VARARGS, "record(vcpu, histogram, ns)." },
    { "histogram", (PyCFunction)page_histogram, METH_VARARGS, "histogram(vcpu, histogram): counts, see bucket_ns." },
    { "count_event", (PyCFunction)page_count_event, METH_VARARGS,
      "count_event(index, done): an event of the scenario has happened, or could not." },
    { "event_counts", (PyCFunction)page_event_counts, METH_O, "event_counts(index): how often (done, refused)." },
    { "undefined", (PyCFunction)page_undefined, METH_O,
      "undefined(vcpu): [(access, times)]: MCR, MRC, MCRR and MRRC that were UNDEFINED, without condition and registers." },
    { "epochs", (PyCFunction)page_epochs, METH_NOARGS, "epochs(): (stops, invalidations begun, invalidations done)." },
    { "code_writes", (PyCFunction)page_code_writes, METH_NOARGS,
      "code_writes(): writes of devices into executable pages so far; one counts before it begins." },
    { "arrivals", (PyCFunction)page_arrivals, METH_NOARGS,
      "arrivals(): pages that came from other hosts so far; one counts before it is put into its frame." },
    { "want_page", (PyCFunction)page_want_page, METH_O,
      "want_page(ipa): the coordinator's: have another host's page come here, to be read, and stay a moment; one at a "
      "time, and to be said again until it is here." },
    { "leave_page", (PyCFunction)page_leave_page, METH_NOARGS,
      "leave_page(): it has read the page that it wanted, or wants it no more." },
    { "next_stop_epoch", (PyCFunction)page_next_stop_epoch, METH_NOARGS, "next_stop_epoch(): a new stop's number." },
    { "issue_access", (PyCFunction)page_issue_access, METH_O,
      "issue_access(vcpu): its worker is about to ask for an access to a device." },
    { "perform_access", (PyCFunction)(void (*)(void))page_perform_access, METH_FASTCALL,
      "perform_access(vcpu, ipa, size, is_write, value, unassigned): the bus has done this; `value` written or read." },
    { "complete_access", (PyCFunction)(void (*)(void))page_complete_access, METH_FASTCALL,
      "complete_access(vcpu, ipa, size, is_write, value, unassigned): its worker has seen this done; False when that is "
      "not what the bus has done so far." },
    { "settle_accesses", (PyCFunction)page_settle_accesses, METH_O,
      "settle_accesses(vcpu): a difference has been told; take what was performed for what was completed." },
    { "accesses", (PyCFunction)page_accesses, METH_O,
      "accesses(vcpu): (issued, performed, completed), the latter two (count, hash, the last ones: (ipa, size, is_write, "
      "value, unassigned), oldest first)." },
    { NULL, NULL, 0, NULL },
};

static PyObject *page_get_vcpus(ControlPage *self, void *unused)
{
    return PyLong_FromUnsignedLong(self->host->vcpus);
}

static PyObject *page_get_cores(ControlPage *self, void *unused)
{
    return PyLong_FromUnsignedLong(self->host->cores);
}

static PyGetSetDef page_getset[] = {
    { "vcpus", (getter)page_get_vcpus, NULL, "vCPUs of the machine", NULL },
    { "cores", (getter)page_get_cores, NULL, "host cores that the machine may use", NULL },
    { NULL, NULL, NULL, NULL, NULL },
};

static PyTypeObject page_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "allstop.vm.control.control.ControlPage",
    .tp_doc = "The control page of one host, mapped from an inherited memory file.",
    .tp_basicsize = sizeof(ControlPage),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = page_new,
    .tp_dealloc = (destructor)page_dealloc,
    .tp_methods = page_methods,
    .tp_getset = page_getset,
};

static PyMethodDef control_methods[] = {
    { "bucket_ns", control_bucket_ns, METH_O, "bucket_ns(i): the middle of histogram bucket i, in nanoseconds." },
    { NULL, NULL, 0, NULL },
};

static struct PyModuleDef control_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "control",
    .m_doc = "The control page: requests, modes, kicks, line words, heartbeats, counters and histograms.",
    .m_size = -1,
    .m_methods = control_methods,
};

PyMODINIT_FUNC PyInit_control(void)
{
    static const struct { const char *name; long value; } constants[] = {
        { "STOP", CP_STOP }, { "TLB_FLUSH", CP_TLB_FLUSH }, { "TLB_PAGES", CP_TLB_PAGES }, { "CODE_FLUSH", CP_CODE_FLUSH },
        { "INTERRUPT", CP_INTERRUPT }, { "EVENT", CP_EVENT }, { "PING", CP_PING }, { "QUIT", CP_QUIT },
        { "TICK", CP_TICK }, { "OUTSIDE", CP_OUTSIDE }, { "IN_GUEST", CP_IN_GUEST }, { "EXITING", CP_EXITING },
        { "SLEEPING", CP_SLEEPING }, { "POWER_OFF", CP_POWER_OFF }, { "POWER_PENDING", CP_POWER_PENDING },
        { "POWER_ON", CP_POWER_ON }, { "HISTOGRAM_MMIO", CP_HIST_MMIO }, { "HISTOGRAM_STOP", CP_HIST_STOP },
        { "HISTOGRAM_SHOOTDOWN", CP_HIST_SHOOTDOWN }, { "HISTOGRAM_FETCH", CP_HIST_FETCH },
        { "HISTOGRAM_PAGE", CP_HIST_PAGE }, { "HOLD", CP_HOLD },
#define X(name, text) { "ACTIVITY_" #name, CP_ACTIVITY_##name },
        CP_ACTIVITIES(X)
#undef X
#define X(name, text) { "COUNT_" #name, CP_COUNT_##name },
        CP_COUNTERS(X)
#undef X
    };
    if (PyType_Ready(&page_type) < 0)
        return NULL;
    static const struct { const char *name; long value; } slots[] = { { "COORDINATOR", SLOT_COORDINATOR },
                                                                      { "DEVICES", SLOT_DEVICES },
                                                                      { "DEBUGGER", SLOT_DEBUGGER },
                                                                      { "NODE", SLOT_NODE } };
    PyObject *module = PyModule_Create(&control_module);
    if (module == NULL || PyModule_AddObjectRef(module, "ControlPage", (PyObject *)&page_type) < 0)
        return NULL;
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++) {
        PyObject *value = PyLong_FromLong(constants[i].value);
        if (value == NULL || PyModule_AddObjectRef(module, constants[i].name, value) < 0
            || PyDict_SetItemString(page_type.tp_dict, constants[i].name, value) < 0)
            return NULL;
        Py_DECREF(value);
    }
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) {
        PyObject *value = PyLong_FromLong(slots[i].value);
        if (value == NULL || PyModule_AddObjectRef(module, slots[i].name, value) < 0
            || PyDict_SetItemString(page_type.tp_dict, slots[i].name, value) < 0)
            return NULL;
        Py_DECREF(value);
    }
    PyType_Modified(&page_type);
    PyObject *names = PyTuple_New(CP_COUNTER_COUNT);
    for (int i = 0; names && i < CP_COUNTER_COUNT; i++)
        PyTuple_SET_ITEM(names, i, PyUnicode_FromString(counter_names[i]));
    if (names == NULL || PyModule_AddObjectRef(module, "COUNTER_NAMES", names) < 0)
        return NULL;
    Py_DECREF(names);
    return module;
}

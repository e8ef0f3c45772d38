/* SPDX-License-Identifier: GPL-2.0-or-later */
/* allstop.machine.node_memory: what a host's node does to its host's shared memory.
 *
 * Pages. To take a page away from its host, the node does what everybody does who changes one: it breaks the entry, has every
 * vCPU of this host flush, waits for those in the guest, and then makes the entry what it is to be. What it gives to its host
 * is in the frame before the entry says so. A page that was ever executed here is dropped from every vCPU's translated code
 * before it can be executed again: what is posted before the entry is made is served before the first block of that page,
 * for a block begins with a look at the requests.
 *
 * Requests to vCPUs of other hosts: cp_post_remote (control_page.h) says how they get out of a slot.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <sched.h>
#include <stddef.h>

#include "mapped_machine.h"

#define PARK_NS 200000ull
#define SLICE_NS 50000000ull
#define FLUSHES (CP_TLB_FLUSH | CP_CODE_FLUSH)
#define COORDINATOR_SLOT CP_MAX_VCPUS
#define DEVICES_SLOT (CP_MAX_VCPUS + 1)

typedef struct {
    PyObject_HEAD
    struct mapped_machine m;
} NodeMemory;

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

static struct cp_vcpu *slot_of(NodeMemory *self, unsigned long vcpu)
{
    if (vcpu < self->m.host->vcpus)
        return cp_vcpu(self->m.host, (uint32_t)vcpu);
    PyErr_Format(PyExc_ValueError, "there is no vCPU %lu", vcpu);
    return NULL;
}

/* The word by which this slot, a vCPU's, the coordinator's or the devices', says what it needs. NULL with an exception set. */
static _Atomic uint32_t *want_of(NodeMemory *self, unsigned long slot)
{
    if (slot == COORDINATOR_SLOT)
        return &self->m.host->coordinator_want;
    if (slot == DEVICES_SLOT)
        return &self->m.host->devices_want;
    struct cp_vcpu *v = slot_of(self, slot);
    return v ? &v->want : NULL;
}

/* How far it is: devices keep nothing. */
static uint32_t progress_of(NodeMemory *self, unsigned long slot)
{
    if (slot == COORDINATOR_SLOT)
        return atomic_load(&self->m.host->coordinator_progress);
    return slot == DEVICES_SLOT ? 0 : atomic_load(&cp_vcpu(self->m.host, (uint32_t)slot)->progress);
}

/* The address of a page by its number (IPA / 4096). False with an exception set. */
static bool page_at(NodeMemory *self, unsigned long page, uint32_t *ipa)
{
    *ipa = (uint32_t)page << 12;
    if (page <= UINT32_MAX >> 12 && *ipa >= RAM_BASE && *ipa - RAM_BASE < self->m.pages.ram_bytes)
        return true;
    PyErr_Format(PyExc_ValueError, "page 0x%lx is not in the guest's memory", page);
    return false;
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
        struct cp_vcpu *v = slot_of(self, PyLong_AsUnsignedLong(item));
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

/* ---- pages ---- */

enum taken { TAKEN, TAKEN_NOT, TAKEN_FAILED };

/* Break the entry, whatever the page is doing here. TAKEN_NOT: it is not here, or the run is over. */
static enum taken take(NodeMemory *self, uint32_t ipa, uint64_t *was, char sentence[SENTENCE_BYTES])
{
    _Atomic uint64_t *entry = page_entry(&self->m.pages, ipa);
    for (;;) {
        uint64_t old = atomic_load(entry);
        if (old == 0)
            return TAKEN_NOT;
        if (old == OWNED || old & VALID) {
            if (!atomic_compare_exchange_strong(entry, &old, (old & ~VALID) | BROKEN))
                continue;
            *was = old;
            return TAKEN;
        }
        if (old & SWAPPED) {
            bool written;
            if (swap_page_in(&self->m.pages, ipa, &written, sentence) == SWAP_FAILED)
                return TAKEN_FAILED;
            continue;
        }
        if (old & BROKEN)
            atomic_compare_exchange_strong(entry, &old, old | WANTED);
        if (mapped_run_is_over(&self->m))
            return TAKEN_NOT;
        cp_shootdown_park(self->m.host, PARK_NS);
        sched_yield();
    }
}

static void flush(NodeMemory *self, uint32_t ipa, bool code)
{
    struct cp_host *host = self->m.host;
    uint32_t exiting[CP_MAX_VCPUS], bits = CP_TLB_FLUSH | (code ? CP_CODE_FLUSH : 0);
    if (code) { /* whoever reads code by hand has to look again; for other pages nobody has to */
        atomic_fetch_add(&host->invalidations_begun, 1);
        cp_log_code(host, ipa >> 12);
    }
    cp_shootdown_begin(host);
    for (uint32_t i = 0; i < host->vcpus; i++) {
        struct cp_vcpu *v = cp_vcpu(host, i);
        exiting[i] = 0;
        if (cp_is_remote(v))
            continue;
        atomic_fetch_add(&v->flush_posted, 1);
        exiting[i] = cp_post(v, bits);
    }
    for (uint32_t i = 0; i < host->vcpus; i++)
        while (exiting[i] && !cp_wait_left(cp_vcpu(host, i), exiting[i], cp_now_ns() + SLICE_NS) && !mapped_run_is_over(&self->m)) {
        }
    cp_shootdown_end(host);
    if (code)
        atomic_fetch_add(&host->invalidations_done, 1);
}

static bool ever_executed(uint64_t entry)
{
    return (entry & VALID) && (!(entry & XN) || entry & FLIP_MASK);
}

static bool is_zero(const uint64_t *page)
{
    for (unsigned i = 0; i < SWAP_PAGE / 8; i++)
        if (page[i])
            return false;
    return true;
}

static PyObject *memory_revoke(NodeMemory *self, PyObject *args)
{
    unsigned long page;
    int share, want_data;
    uint32_t ipa;
    if (!PyArg_ParseTuple(args, "kpp", &page, &share, &want_data) || !page_at(self, page, &ipa))
        return NULL;
    uint64_t was = 0, frame[SWAP_PAGE / 8];
    enum taken result;
    char sentence[SENTENCE_BYTES] = "";
    Py_BEGIN_ALLOW_THREADS
    result = take(self, ipa, &was, sentence);
    if (result == TAKEN) {
        bool writable = (was & ACCESS_MASK) == READ_WRITE;
        if ((was & VALID) && (!share || writable))
            flush(self, ipa, ever_executed(was));
        memcpy(frame, self->m.pages.ram + (ipa - RAM_BASE), SWAP_PAGE);
        uint64_t entry = 0;
        if (share) /* a page that was writable and executable stays executable: its code was just flushed */
            entry = ipa | ATTRIBUTES | READ_ONLY | (was & VALID && !(was & XN) ? 0 : XN) | (was & FLIP_MASK);
        atomic_store(page_entry(&self->m.pages, ipa), entry);
    }
    Py_END_ALLOW_THREADS
    if (result == TAKEN_FAILED) {
        PyErr_SetString(PyExc_RuntimeError, sentence);
        return NULL;
    }
    if (result == TAKEN_NOT)
        Py_RETURN_NONE;
    if (!want_data)
        return Py_BuildValue("(yO)", "", ever_executed(was) ? Py_True : Py_False);
    return Py_BuildValue("(y#O)", (char *)frame, (Py_ssize_t)(is_zero(frame) ? 0 : SWAP_PAGE),
                         ever_executed(was) ? Py_True : Py_False);
}

static PyObject *memory_install(NodeMemory *self, PyObject *args)
{
    unsigned long page;
    Py_buffer data;
    int owned, execute, had_code;
    uint32_t ipa;
    if (!PyArg_ParseTuple(args, "ky*ppp", &page, &data, &owned, &execute, &had_code))
        return NULL;
    bool good = page_at(self, page, &ipa);
    if (good && data.len != 0 && data.len != SWAP_PAGE) {
        PyErr_Format(PyExc_ValueError, "a page has %u bytes or none, not %zd", SWAP_PAGE, data.len);
        good = false;
    }
    if (good) {
        unsigned char *frame = self->m.pages.ram + (ipa - RAM_BASE);
        atomic_fetch_add(&self->m.host->arrivals, 1); /* who reads frames by hand looks at this after the entry, and again */
        if (data.len)
            memcpy(frame, data.buf, SWAP_PAGE);
        else if (!is_zero((uint64_t *)(void *)frame))
            memset(frame, 0, SWAP_PAGE);
        if (had_code) {
            cp_log_code(self->m.host, ipa >> 12);
            for (uint32_t i = 0; i < self->m.host->vcpus; i++)
                if (!cp_is_remote(cp_vcpu(self->m.host, i)))
                    cp_post(cp_vcpu(self->m.host, i), CP_CODE_FLUSH);
        }
        uint64_t access = owned ? OWNED | (execute ? READ_ONLY : READ_WRITE | XN) : READ_ONLY | (execute ? 0 : XN);
        atomic_store(page_entry(&self->m.pages, ipa), ipa | ATTRIBUTES | access);
    }
    PyBuffer_Release(&data);
    return good ? Py_NewRef(Py_None) : NULL;
}

static PyObject *memory_upgrade(NodeMemory *self, PyObject *arg)
{
    unsigned long page = PyLong_AsUnsignedLong(arg);
    uint32_t ipa;
    if (PyErr_Occurred() || !page_at(self, page, &ipa))
        return NULL;
    uint64_t was;
    enum taken result;
    char sentence[SENTENCE_BYTES] = "";
    Py_BEGIN_ALLOW_THREADS
    result = take(self, ipa, &was, sentence);
    if (result == TAKEN) /* no vCPU loses a right by this, so nobody flushes; an executable page is flipped by who writes */
        atomic_store(page_entry(&self->m.pages, ipa), was | OWNED | (was & XN ? READ_WRITE : 0));
    Py_END_ALLOW_THREADS
    if (result == TAKEN_FAILED) {
        PyErr_SetString(PyExc_RuntimeError, sentence);
        return NULL;
    }
    return PyBool_FromLong(result == TAKEN);
}

static PyObject *memory_wants(NodeMemory *self, PyObject *unused)
{
    PyObject *list = PyList_New(0);
    for (uint32_t i = 0, vcpus = self->m.host->vcpus; list && i < vcpus + 2; i++) {
        uint32_t slot = i < vcpus ? i : COORDINATOR_SLOT + (i - vcpus);
        if (i < vcpus && cp_is_remote(cp_vcpu(self->m.host, i)))
            continue;
        uint32_t want = atomic_load(want_of(self, slot));
        if (want == 0)
            continue;
        PyObject *item = Py_BuildValue("(IIOOI)", slot, cp_wanted_page(want),
                                       want & 1 ? Py_True : Py_False, want & 2 ? Py_True : Py_False, want >> 23 << 3);
        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

static PyObject *memory_have(NodeMemory *self, PyObject *args)
{
    unsigned long slot, page;
    int write;
    uint32_t ipa;
    if (!PyArg_ParseTuple(args, "kkp", &slot, &page, &write) || !page_at(self, page, &ipa))
        return NULL;
    _Atomic uint32_t *want = want_of(self, slot);
    if (want == NULL)
        return NULL;
    uint32_t seen = atomic_load(want);
    if (seen && cp_wanted_page(seen) == page && (write || !(seen & 1)) && atomic_compare_exchange_strong(want, &seen, 0))
        cp_futex_wake(want);
    return PyLong_FromUnsignedLong(progress_of(self, slot));
}

static PyObject *memory_progress(NodeMemory *self, PyObject *args)
{
    unsigned long slot;
    int hold = 0;
    if (!PyArg_ParseTuple(args, "k|p", &slot, &hold))
        return NULL;
    if (want_of(self, slot) == NULL)
        return NULL;
    if (hold && slot < self->m.host->vcpus) /* the coordinator says so unasked */
        atomic_fetch_or(&cp_vcpu(self->m.host, (uint32_t)slot)->requests, CP_HOLD);
    return PyLong_FromUnsignedLong(progress_of(self, slot));
}

static PyObject *memory_is_page(NodeMemory *self, PyObject *arg)
{
    unsigned long page = PyLong_AsUnsignedLong(arg);
    if (PyErr_Occurred())
        return NULL;
    return PyBool_FromLong(page >= RAM_BASE >> 12 && (page - (RAM_BASE >> 12)) < self->m.pages.ram_bytes / SWAP_PAGE);
}

static PyObject *memory_is_here(NodeMemory *self, PyObject *args)
{
    unsigned long page;
    int write;
    uint32_t ipa;
    if (!PyArg_ParseTuple(args, "kp", &page, &write) || !page_at(self, page, &ipa))
        return NULL;
    return PyBool_FromLong(!page_is_away(atomic_load(page_entry(&self->m.pages, ipa)), write));
}

static PyObject *memory_entry(NodeMemory *self, PyObject *arg)
{
    unsigned long page = PyLong_AsUnsignedLong(arg);
    uint32_t ipa;
    if (PyErr_Occurred() || !page_at(self, page, &ipa))
        return NULL;
    return PyLong_FromUnsignedLongLong(atomic_load(page_entry(&self->m.pages, ipa)));
}

/* ---- requests to vCPUs of other hosts ---- */

static PyObject *memory_take_outbox(NodeMemory *self, PyObject *unused)
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

static PyObject *memory_end_stay(NodeMemory *self, PyObject *arg)
{
    struct cp_vcpu *v = slot_of(self, PyLong_AsUnsignedLong(arg));
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

static struct cp_vcpu *own_slot_of(NodeMemory *self, unsigned long vcpu)
{
    struct cp_vcpu *v = slot_of(self, vcpu);
    if (v && cp_is_remote(v)) {
        PyErr_Format(PyExc_ValueError, "vCPU %lu is not on this host", vcpu);
        return NULL;
    }
    return v;
}

static PyObject *memory_deliver(NodeMemory *self, PyObject *args)
{
    unsigned long vcpu;
    unsigned bits;
    unsigned long long line;
    if (!PyArg_ParseTuple(args, "kIK", &vcpu, &bits, &line))
        return NULL;
    struct cp_vcpu *v = own_slot_of(self, vcpu);
    if (v == NULL)
        return NULL;
    bits &= ~(uint32_t)CP_STOP;
    if (cp_set_line(v, line))
        bits |= CP_INTERRUPT;
    uint32_t ticket = 0;
    if (bits & FLUSHES)
        ticket = atomic_fetch_add(&v->flush_posted, 1) + 1;
    uint32_t exiting = bits ? cp_post(v, bits) : 0;
    return Py_BuildValue("(II)", exiting, ticket);
}

static PyObject *memory_stop(NodeMemory *self, PyObject *arg)
{
    unsigned long vcpu = PyLong_AsUnsignedLong(arg);
    struct cp_vcpu *v = PyErr_Occurred() ? NULL : own_slot_of(self, vcpu);
    return v ? PyLong_FromUnsignedLong(cp_post(v, CP_STOP)) : NULL;
}

static PyObject *memory_resume(NodeMemory *self, PyObject *arg)
{
    unsigned long vcpu = PyLong_AsUnsignedLong(arg);
    struct cp_vcpu *v = PyErr_Occurred() ? NULL : own_slot_of(self, vcpu);
    if (v == NULL)
        return NULL;
    cp_clear(v, CP_STOP);
    Py_RETURN_NONE;
}

static PyObject *memory_has_left(NodeMemory *self, PyObject *args)
{
    unsigned long vcpu;
    unsigned exiting, ticket;
    int ipi;
    if (!PyArg_ParseTuple(args, "kIIp", &vcpu, &exiting, &ticket, &ipi))
        return NULL;
    struct cp_vcpu *v = slot_of(self, vcpu);
    if (v == NULL)
        return NULL;
    bool left = exiting == 0 || atomic_load(&v->mode) != exiting;
    if (left && ipi && ticket)
        left = (int32_t)(atomic_load(&v->flush_served) - ticket) >= 0
            || (atomic_load(&v->mode) & CP_MODE_MASK) == CP_SLEEPING || atomic_load(&v->power) != CP_POWER_ON;
    return PyBool_FromLong(left);
}

static PyObject *memory_wait_left(NodeMemory *self, PyObject *args)
{
    unsigned long vcpu;
    unsigned exiting;
    double timeout_s;
    if (!PyArg_ParseTuple(args, "kId", &vcpu, &exiting, &timeout_s))
        return NULL;
    struct cp_vcpu *v = slot_of(self, vcpu);
    if (v == NULL)
        return NULL;
    bool left = true;
    Py_BEGIN_ALLOW_THREADS
    if (exiting)
        left = cp_wait_left(v, exiting, cp_now_ns() + (uint64_t)(timeout_s * 1e9));
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(left);
}

static PyObject *memory_invalidation(NodeMemory *self, PyObject *arg)
{
    int done = PyObject_IsTrue(arg);
    if (done < 0)
        return NULL;
    atomic_fetch_add(done ? &self->m.host->invalidations_done : &self->m.host->invalidations_begun, 1);
    Py_RETURN_NONE;
}

static PyObject *memory_is_idle(NodeMemory *self, PyObject *unused)
{
    for (uint32_t i = 0; i < self->m.host->vcpus; i++) {
        struct cp_vcpu *v = cp_vcpu(self->m.host, i);
        bool sleeps = (atomic_load(&v->mode) & CP_MODE_MASK) == CP_SLEEPING && atomic_load(&v->want) == 0;
        if (!cp_is_remote(v) && !sleeps && atomic_load(&v->power) != CP_POWER_OFF)
            Py_RETURN_FALSE;
    }
    Py_RETURN_TRUE;
}

static PyObject *memory_may_poll(NodeMemory *self, PyObject *unused)
{
    return PyBool_FromLong(cp_is_a_core_free(self->m.host, CP_MAX_VCPUS, 1));
}

static PyObject *memory_set_power(NodeMemory *self, PyObject *args)
{
    unsigned long vcpu;
    unsigned power;
    if (!PyArg_ParseTuple(args, "kI", &vcpu, &power))
        return NULL;
    struct cp_vcpu *v = slot_of(self, vcpu);
    if (v == NULL)
        return NULL;
    uint32_t pending = CP_POWER_PENDING;
    if (!self->m.host->has_coordinator)
        atomic_store(&v->power, power);
    else if (power == CP_POWER_ON) /* power is what the coordinator says, whose word may be newer; but for this */
        atomic_compare_exchange_strong(&v->power, &pending, power);
    Py_RETURN_NONE;
}

/* What a worker tells of itself and has counted, from `process` to the end of its slot. */
#define TOLD_FROM offsetof(struct cp_vcpu, process)

static PyObject *memory_told(NodeMemory *self, PyObject *args)
{
    unsigned long vcpu;
    int all;
    if (!PyArg_ParseTuple(args, "kp", &vcpu, &all))
        return NULL;
    struct cp_vcpu *v = slot_of(self, vcpu);
    if (v == NULL)
        return NULL;
    size_t end = all ? offsetof(struct cp_vcpu, pad3) : offsetof(struct cp_vcpu, performed);
    return PyBytes_FromStringAndSize((char *)v + TOLD_FROM, (Py_ssize_t)(end - TOLD_FROM));
}

static PyObject *memory_tell(NodeMemory *self, PyObject *args)
{
    unsigned long vcpu;
    Py_buffer told;
    if (!PyArg_ParseTuple(args, "ky*", &vcpu, &told))
        return NULL;
    struct cp_vcpu *v = slot_of(self, vcpu);
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
    .tp_name = "allstop.machine.node_memory.NodeMemory",
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
        || PyModule_AddIntConstant(module, "FLUSHES", FLUSHES) < 0)
        return NULL;
    return module;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a host's node does to its host's pages.
 *
 * To take a page away from its host, the node does what every process does that changes one: it breaks the entry, has
 * all vCPUs of this host flush, waits for those in the guest, and then makes the entry what it is to be. When it gives
 * a page to its host, the frame is filled before the entry says so. A page that was ever executed here is dropped from
 * every vCPU's translated code before it can be executed again: a request that is posted before the entry is made is
 * served before the first block of that page, for a block begins with a look at the requests.
 */
#include "node_memory.h"

/* The word by which this slot, a vCPU's, the coordinator's or the devices', says what it needs. NULL with an
 * exception set. */
static _Atomic uint32_t *want_of(NodeMemory *self, unsigned long slot)
{
    if (slot == COORDINATOR_SLOT)
        return &self->m.host->coordinator_want;
    if (slot == DEVICES_SLOT)
        return &self->m.host->devices_want;
    struct cp_vcpu *v = node_slot(self, slot);
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

static void flush(NodeMemory *self, uint32_t ipa, bool code)
{
    struct cp_host *host = self->m.host;
    if (code) { /* a process that reads code by hand has to look again; other pages have no such readers */
        atomic_fetch_add(&host->invalidations_begun, 1);
        cp_log_code(host, ipa >> 12);
    }
    mapped_shootdown(&self->m, CP_TLB_FLUSH | (code ? CP_CODE_FLUSH : 0), NULL);
    if (code)
        atomic_fetch_add(&host->invalidations_done, 1);
}

static bool ever_executed(uint64_t entry)
{
    return (entry & VALID) && (!(entry & XN) || entry & TOGGLE_MASK);
}

static bool is_zero(const uint64_t *page)
{
    for (unsigned i = 0; i < SWAP_PAGE / 8; i++)
        if (page[i])
            return false;
    return true;
}

PyObject *memory_revoke(NodeMemory *self, PyObject *args)
{
    unsigned long page;
    int share, want_data;
    uint32_t ipa;
    if (!PyArg_ParseTuple(args, "kpp", &page, &share, &want_data) || !page_at(self, page, &ipa))
        return NULL;
    uint64_t frame[SWAP_PAGE / 8];
    struct taken_page taken = { 0 };
    enum taken result;
    Py_BEGIN_ALLOW_THREADS result = mapped_take(&self->m, ipa, false, NULL, &taken);
    if (result == TAKEN) {
        uint64_t was = taken.was;
        bool writable = (was & ACCESS_MASK) == READ_WRITE;
        if ((was & VALID) && (!share || writable))
            flush(self, ipa, ever_executed(was));
        memcpy(frame, self->m.pages.ram + (ipa - RAM_BASE), SWAP_PAGE);
        uint64_t entry = 0;
        if (share) /* a page that was writable and executable stays executable: its code was just flushed */
            entry = ipa | ATTRIBUTES | READ_ONLY | (was & VALID && !(was & XN) ? 0 : XN) | (was & TOGGLE_MASK);
        atomic_store(page_entry(&self->m.pages, ipa), entry);
    }
    Py_END_ALLOW_THREADS if (result == TAKEN_FAILED)
    {
        PyErr_SetString(PyExc_RuntimeError, taken.sentence);
        return NULL;
    }
    if (result != TAKEN)
        Py_RETURN_NONE;
    PyObject *had_code = ever_executed(taken.was) ? Py_True : Py_False;
    if (!want_data)
        return Py_BuildValue("(yO)", "", had_code);
    return Py_BuildValue("(y#O)", (char *)frame, (Py_ssize_t)(is_zero(frame) ? 0 : SWAP_PAGE), had_code);
}

PyObject *memory_install(NodeMemory *self, PyObject *args)
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
        atomic_fetch_add(&self->m.host->arrivals, 1); /* readers of frames look at this: stage2.py */
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

PyObject *memory_upgrade(NodeMemory *self, PyObject *arg)
{
    unsigned long page = PyLong_AsUnsignedLong(arg);
    uint32_t ipa;
    if (PyErr_Occurred() || !page_at(self, page, &ipa))
        return NULL;
    struct taken_page taken;
    enum taken result;
    Py_BEGIN_ALLOW_THREADS result = mapped_take(&self->m, ipa, false, NULL, &taken);
    if (result == TAKEN) /* no vCPU loses a right, so none flushes; a write to an executable page toggles it */
        atomic_store(page_entry(&self->m.pages, ipa), taken.was | OWNED | (taken.was & XN ? READ_WRITE : 0));
    Py_END_ALLOW_THREADS if (result == TAKEN_FAILED)
    {
        PyErr_SetString(PyExc_RuntimeError, taken.sentence);
        return NULL;
    }
    return PyBool_FromLong(result == TAKEN);
}

PyObject *memory_wants(NodeMemory *self, PyObject *unused)
{
    PyObject *list = PyList_New(0);
    for (uint32_t i = 0, vcpus = self->m.host->vcpus; list && i < vcpus + 2; i++) {
        uint32_t slot = i < vcpus ? i : COORDINATOR_SLOT + (i - vcpus);
        if (i < vcpus && cp_is_remote(cp_vcpu(self->m.host, i)))
            continue;
        uint32_t want = atomic_load(want_of(self, slot));
        if (want == 0)
            continue;
        PyObject *item = Py_BuildValue("(IIOOI)", slot, cp_wanted_page(want), want & 1 ? Py_True : Py_False,
                                       want & 2 ? Py_True : Py_False, want >> 23 << 3);
        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

PyObject *memory_have(NodeMemory *self, PyObject *args)
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
    if (seen && cp_wanted_page(seen) == page && (write || !(seen & 1))
        && atomic_compare_exchange_strong(want, &seen, 0))
        cp_futex_wake(want);
    return PyLong_FromUnsignedLong(progress_of(self, slot));
}

PyObject *memory_progress(NodeMemory *self, PyObject *args)
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

PyObject *memory_is_page(NodeMemory *self, PyObject *arg)
{
    unsigned long page = PyLong_AsUnsignedLong(arg);
    if (PyErr_Occurred())
        return NULL;
    return PyBool_FromLong(page >= RAM_BASE >> 12 && (page - (RAM_BASE >> 12)) < self->m.pages.ram_bytes / SWAP_PAGE);
}

PyObject *memory_is_here(NodeMemory *self, PyObject *args)
{
    unsigned long page;
    int write;
    uint32_t ipa;
    if (!PyArg_ParseTuple(args, "kp", &page, &write) || !page_at(self, page, &ipa))
        return NULL;
    return PyBool_FromLong(!page_is_away(atomic_load(page_entry(&self->m.pages, ipa)), write));
}

PyObject *memory_entry(NodeMemory *self, PyObject *arg)
{
    unsigned long page = PyLong_AsUnsignedLong(arg);
    uint32_t ipa;
    if (PyErr_Occurred() || !page_at(self, page, &ipa))
        return NULL;
    return PyLong_FromUnsignedLongLong(atomic_load(page_entry(&self->m.pages, ipa)));
}

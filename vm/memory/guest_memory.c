/* SPDX-License-Identifier: GPL-2.0-or-later */
/* allstop.vm.memory.guest_memory: guest RAM for a device that reads and writes it by itself, beside the vCPUs (DMA).
 *
 * A device D does not go through stage 2, so it has to respect by hand what stage 2 promises to the vCPUs. It takes a
 * page before it touches the frame, as every process that changes a page does: it breaks the level-3 entry, and makes
 * it good again (mapped_take). While the entry is broken no process toggles the page, swaps it out or starts to use it;
 * a vCPU that has it in its TLB goes on using it, as on hardware. A page that is swapped out is brought in first.
 *
 *   D writes to a page that may be executed            a vCPU V that executes from it
 *   break the entry                                    faults from now on where it has no translation, and waits
 *   invalidations_begun, code_writes; the code log
 *   TLB_FLUSH and CODE_FLUSH to all, wait              leaves the guest; flushes both before it enters again
 *   write
 *   make the entry good, invalidations_done            translates what D has written
 *
 * So when D's write is done, no vCPU executes what was there before. A V that waits for a device's answer is outside
 * the guest, so D never waits for a V that waits for D. But an A that swaps the page out may have broken the entry, and
 * may wait (`ipi`) for a V in an exit that waits for D. So D marks such an entry WANTED, and A gives way.
 *
 * A stop of the world does not stop D. A process that reads code in a stopped world has to look at `code_writes` before
 * and after (vcpu_worker/fetch/fetch.py).
 *
 * Order: each call here ends with a full fence (the entry's store), so what one call has written is visible before
 * anything that the next call reads or writes. Two-byte cells are read and written in one piece.
 */
#include "vm/control/method.h"

#include <structmember.h>

#include "mapped_machine.h"

typedef struct {
    PyObject_HEAD
    struct mapped_machine m;
    int as_shipped;
    unsigned long long swapped_in, written_while_out;
} GuestMemory;

static PyObject *access_error;

static PyObject *memory_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = { "control_fd", "ram_fd", "stage2_fd", "swap_fd", "as_shipped", NULL };
    int control_fd, ram_fd, stage2_fd, swap_fd = -1, as_shipped = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iii|ip", names, &control_fd, &ram_fd, &stage2_fd, &swap_fd,
                                     &as_shipped))
        return NULL;
    GuestMemory *self = (GuestMemory *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->as_shipped = as_shipped;
    if (!mapped_open(&self->m, control_fd, ram_fd, stage2_fd, swap_fd))
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void memory_dealloc(GuestMemory *self)
{
    mapped_close(&self->m);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static bool can_be_executed(GuestMemory *self, uint64_t entry)
{
    return (entry & VALID) && !(entry & XN) && !self->as_shipped;
}

/* Wait for another host's page. It may be gone again at once. False with an exception set. */
static bool want(GuestMemory *self, uint32_t ipa, bool write)
{
    uint32_t wanted = cp_want(ipa, write, false);
    cp_want_page(self->m.host, &self->m.host->devices_want, wanted);
    while (atomic_load(&self->m.host->devices_want) == wanted) {
        if (mapped_run_is_over(&self->m)) {
            PyErr_SetString(access_error, "the run is over");
            return false;
        }
        cp_beat(&self->m.host->devices);
        cp_futex_wait(&self->m.host->devices_want, wanted, MAPPED_SLICE_NS);
    }
    return true;
}

/* Take the page that begins at `ipa`: its entry as it was is in *was. False with an exception set. */
static bool take(GuestMemory *self, uint32_t ipa, bool write, uint64_t *was)
{
    for (;;) {
        struct taken_page page;
        enum taken result = mapped_take(&self->m, ipa, write, &self->m.host->devices, &page);
        self->swapped_in += page.swapped_in;
        self->written_while_out += page.written;
        switch (result) {
        case TAKEN:
            *was = page.was;
            return true;
        case TAKEN_AWAY:
            if (!want(self, ipa, write))
                return false;
            continue;
        case TAKEN_OVER:
            PyErr_SetString(access_error, "the run is over");
            return false;
        case TAKEN_FAILED:
            PyErr_SetString(PyExc_RuntimeError, page.sentence);
            return false;
        }
    }
}

/* The page of `ipa`, whose entry is broken, is about to be written to: after this no vCPU executes from it, or keeps
 * what was translated from it. */
static void drop_code(GuestMemory *self, uint32_t ipa)
{
    struct cp_host *host = self->m.host;
    atomic_fetch_add(&host->invalidations_begun, 1);
    atomic_fetch_add(&host->code_writes, 1);
    cp_log_code(host, ipa >> 12);
    /* This host's: the page is writable here, so it is nowhere else. */
    mapped_shootdown(&self->m, CP_TLB_FLUSH | CP_CODE_FLUSH, &host->devices);
}

/* All of the bytes are in RAM; else an exception is set. */
static bool in_ram(GuestMemory *self, unsigned long long ipa, unsigned long long bytes)
{
    uint64_t ram_bytes = self->m.pages.ram_bytes;
    if (ipa >= RAM_BASE && ipa - RAM_BASE <= ram_bytes && bytes <= ram_bytes - (ipa - RAM_BASE))
        return true;
    PyErr_Format(access_error, "the %llu bytes at 0x%llx are not in the guest's memory", bytes, ipa);
    return false;
}

/* Copy page by page between RAM and `data`. Two bytes go in one piece: they do not cross a page then. */
static bool copy(GuestMemory *self, uint32_t ipa, unsigned char *data, size_t bytes, bool write, bool one_piece)
{
    cp_beat(&self->m.host->devices);
    while (bytes) {
        uint32_t page = ipa & ~(SWAP_PAGE - 1);
        size_t piece = SWAP_PAGE - (ipa - page) < bytes ? SWAP_PAGE - (ipa - page) : bytes;
        unsigned char *at = self->m.pages.ram + (ipa - RAM_BASE);
        uint64_t was;
        if (!take(self, page, write, &was))
            return false;
        bool code = write && can_be_executed(self, was);
        if (code)
            drop_code(self, page);
        if (one_piece && write)
            __atomic_store_n((uint16_t *)(void *)at, *(uint16_t *)(void *)data, __ATOMIC_RELEASE);
        else if (one_piece)
            *(uint16_t *)(void *)data = __atomic_load_n((uint16_t *)(void *)at, __ATOMIC_ACQUIRE);
        else
            memcpy(write ? at : data, write ? data : at, piece);
        atomic_store(page_entry(&self->m.pages, page), was);
        if (code)
            atomic_fetch_add(&self->m.host->invalidations_done, 1);
        ipa += (uint32_t)piece;
        data += piece;
        bytes -= piece;
    }
    return true;
}

static PyObject *memory_read(GuestMemory *self, PyObject *args)
{
    unsigned long long ipa, bytes;
    if (!PyArg_ParseTuple(args, "KK", &ipa, &bytes) || !in_ram(self, ipa, bytes))
        return NULL;
    PyObject *result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)bytes);
    if (result && !copy(self, (uint32_t)ipa, (unsigned char *)PyBytes_AS_STRING(result), bytes, false, false))
        Py_CLEAR(result);
    return result;
}

static PyObject *memory_write(GuestMemory *self, PyObject *args)
{
    unsigned long long ipa;
    Py_buffer data;
    if (!PyArg_ParseTuple(args, "Ky*", &ipa, &data))
        return NULL;
    bool good = in_ram(self, ipa, (unsigned long long)data.len)
        && copy(self, (uint32_t)ipa, data.buf, (size_t)data.len, true, false);
    PyBuffer_Release(&data);
    return good ? Py_NewRef(Py_None) : NULL;
}

static bool cell(GuestMemory *self, unsigned long long ipa)
{
    if (ipa & 1) {
        PyErr_Format(access_error, "0x%llx is no address of a half-word", ipa);
        return false;
    }
    return in_ram(self, ipa, 2);
}

static PyObject *memory_load16(GuestMemory *self, PyObject *arg)
{
    unsigned long long ipa = PyLong_AsUnsignedLongLong(arg);
    uint16_t value;
    if (PyErr_Occurred() || !cell(self, ipa) || !copy(self, (uint32_t)ipa, (unsigned char *)&value, 2, false, true))
        return NULL;
    return PyLong_FromLong(value);
}

static PyObject *memory_store16(GuestMemory *self, PyObject *args)
{
    unsigned long long ipa;
    unsigned short value; /* H does not check: high bits are cut off */
    if (!PyArg_ParseTuple(args, "KH", &ipa, &value) || !cell(self, ipa)
        || !copy(self, (uint32_t)ipa, (unsigned char *)&value, 2, true, true))
        return NULL;
    Py_RETURN_NONE;
}

#define M(...) METHOD(memory, __VA_ARGS__)

static PyMethodDef memory_methods[] = {
    M(read, METH_VARARGS, "ipa, n, /", "n bytes. Raises AccessError outside RAM."),
    M(write, METH_VARARGS, "ipa, data, /",
      "Write them; afterwards no vCPU executes what was there before. Raises AccessError outside RAM."),
    M(load16, METH_O, "ipa, /", "A half-word, with acquire. Raises AccessError."),
    M(store16, METH_VARARGS, "ipa, value, /",
      "Store a half-word with release, and a full fence behind it. Raises AccessError."),
    NO_METHOD,
};

static PyMemberDef memory_members[] = {
    { "swapped_in", T_ULONGLONG, offsetof(GuestMemory, swapped_in), READONLY, "pages brought in from the swap file" },
    { "written_while_out", T_ULONGLONG, offsetof(GuestMemory, written_while_out), READONLY,
      "of those, pages whose frame was written to meanwhile" },
    { NULL, 0, 0, 0, NULL },
};

static PyTypeObject memory_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "allstop.vm.memory.guest_memory.GuestMemory",
    .tp_doc = "GuestMemory(control_fd, ram_fd, stage2_fd, swap_fd=-1, as_shipped=False)\n--\n\n"
              "Guest RAM for devices that read and write it by themselves.",
    .tp_basicsize = sizeof(GuestMemory),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = memory_new,
    .tp_dealloc = (destructor)memory_dealloc,
    .tp_methods = memory_methods,
    .tp_members = memory_members,
};

static struct PyModuleDef memory_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "guest_memory",
    .m_doc = "Guest RAM for devices that read and write it by themselves, in step with stage 2.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit_guest_memory(void)
{
    if (PyType_Ready(&memory_type) < 0)
        return NULL;
    PyObject *module = PyModule_Create(&memory_module);
    if (module == NULL || PyModule_AddObjectRef(module, "GuestMemory", (PyObject *)&memory_type) < 0)
        return NULL;
    access_error = PyErr_NewExceptionWithDoc("allstop.vm.memory.guest_memory.AccessError",
                                             "A device cannot read or write there; the text says why.",
                                             PyExc_ValueError, NULL);
    if (PyModule_AddIntConstant(module, "SWAPPED", (long)SWAPPED) < 0
        || PyModule_AddIntConstant(module, "BROKEN", (long)BROKEN) < 0)
        return NULL;
    if (access_error == NULL || PyModule_AddObjectRef(module, "AccessError", access_error) < 0)
        return NULL;
    return module;
}

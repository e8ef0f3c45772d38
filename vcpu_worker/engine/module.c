/* SPDX-License-Identifier: GPL-2.0-or-later */
/* allstop.vcpu_worker.engine._engine: the vCPU for Python. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "vcpu.h"
#include <unicorn/arm.h>

typedef struct {
    PyObject_HEAD
    struct exit_record record;
} Exit;

static PyMemberDef exit_members[] = {
#define FIELD(name, type, text) { #name, type, offsetof(Exit, record.name), READONLY, text }
    FIELD(kind, T_UINT, "one of the EXIT_ constants"),
    FIELD(hsr, T_UINT, "the syndrome"),
    FIELD(hdfar, T_UINT, "virtual address of a data abort"),
    FIELD(hifar, T_UINT, "virtual address of an instruction abort"),
    FIELD(hpfar, T_UINT, "IPA page of a stage-2 abort, as the register has it"),
    FIELD(ipa, T_UINT, "intermediate physical address of a stage-2 abort"),
    FIELD(pc, T_UINT, "address of the instruction; of the next one after HVC"),
    FIELD(cpsr, T_UINT, "the guest's CPSR, ITSTATE of the instruction included"),
    FIELD(instruction, T_UINT, "the instruction as it was translated; see length"),
    FIELD(length, T_UINT, "its length in bytes; 0 where it is not known"),
    FIELD(size, T_UINT, "MMIO: bytes of the access"),
    FIELD(is_write, T_UINT, "MMIO: 1 for a store"),
    FIELD(value, T_ULONGLONG, "MMIO: what a store stores, in the order of the device's bytes"),
    FIELD(epoch, T_ULONGLONG, "invalidations begun, host-wide, when the guest was left"),
    FIELD(settled, T_UINT, "1 when all of these were done then"),
    FIELD(timers, T_UINT, "1 when the timers' interrupt lines are not as timer_levels() said last"),
    FIELD(executed, T_ULONGLONG, "under a budget: instructions executed by this run, without one that waits to be served"),
#undef FIELD
    { NULL, 0, 0, 0, NULL },
};

static const char *const exit_names[] = {
#define X(name) #name,
    EXITS(X)
#undef X
};

static PyObject *exit_repr(Exit *self)
{
    const struct exit_record *x = &self->record;
    char text[160];
    snprintf(text, sizeof text, "<Exit %s pc=%#x hsr=%#x ipa=%#x instruction=%#x/%u>",
             x->kind < EXIT_KINDS ? exit_names[x->kind] : "?", x->pc, x->hsr, x->ipa, x->instruction, x->length);
    return PyUnicode_FromString(text);
}

static PyTypeObject exit_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "allstop.vcpu_worker.engine.Exit",
    .tp_doc = "Why the vCPU left the guest, with everything read in one call.",
    .tp_basicsize = sizeof(Exit),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_members = exit_members,
    .tp_repr = (reprfunc)exit_repr,
};

typedef struct {
    PyObject_HEAD
    struct vcpu v;
    size_t host_bytes;
    PyObject *journal; /* what keeps v.journal alive */
    bool open;
} Vcpu;

static PyObject *engine_error;

static void *map_file(int fd, size_t *bytes)
{
    struct stat status;
    if (fstat(fd, &status) != 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return NULL;
    }
    void *at = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (at == MAP_FAILED) {
        PyErr_SetFromErrno(PyExc_OSError);
        return NULL;
    }
    *bytes = (size_t)status.st_size;
    return at;
}

static void unmap(Vcpu *self)
{
    if (self->open)
        vcpu_close(&self->v);
    self->open = false;
    if (self->v.host)
        munmap(self->v.host, self->host_bytes);
    if (self->v.ram)
        munmap(self->v.ram, self->v.ram_bytes);
    if (self->v.stage2)
        munmap((void *)self->v.stage2, self->v.stage2_bytes);
    self->v.host = NULL;
    self->v.ram = NULL;
    self->v.stage2 = NULL;
}

static PyObject *vcpu_new_object(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = { "control_fd", "ram_fd", "stage2_fd", "vcpu", "mpidr", "as_shipped", NULL };
    int control, ram, stage2;
    unsigned number, mpidr;
    int as_shipped = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iiiII|p", names, &control, &ram, &stage2, &number, &mpidr,
                                     &as_shipped))
        return NULL;
    const char *refusal = seam_open(NULL);
    if (refusal != NULL) {
        PyErr_SetString(engine_error, refusal);
        return NULL;
    }
    Vcpu *self = (Vcpu *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    size_t ram_bytes = 0, stage2_bytes = 0;
    if ((self->v.host = map_file(control, &self->host_bytes)) == NULL
        || (self->v.ram = map_file(ram, &ram_bytes)) == NULL
        || (self->v.stage2 = map_file(stage2, &stage2_bytes)) == NULL)
        goto fail;
    self->v.ram_bytes = ram_bytes;
    self->v.stage2_bytes = stage2_bytes;
    if (self->v.host->magic != CP_MAGIC || self->v.host->version != CP_VERSION) {
        PyErr_SetString(engine_error, "control_fd is not a control page of this version of allstop");
        goto fail;
    }
    if (number >= self->v.host->vcpus) {
        PyErr_Format(engine_error, "the machine has %u vCPUs and no vCPU %u", self->v.host->vcpus, number);
        goto fail;
    }
    if (stage2_bytes < STAGE2_PAGES_OFFSET + ram_bytes / 4096 * 8) {
        PyErr_SetString(engine_error, "the stage-2 tables are too small for the RAM: build them with machine.stage2");
        goto fail;
    }
    self->v.swap_fd = -1;
    self->v.number = number;
    self->v.as_shipped = as_shipped;
    self->v.slot = cp_vcpu(self->v.host, number);
    if (!vcpu_open(&self->v, mpidr)) {
        PyErr_SetString(engine_error, self->v.sentence);
        goto fail;
    }
    self->open = true;
    return (PyObject *)self;
fail:
    Py_DECREF(self);
    return NULL;
}

static void vcpu_dealloc(Vcpu *self)
{
    unmap(self);
    Py_XDECREF(self->journal);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static bool usable(Vcpu *self)
{
    if (!self->open)
        PyErr_SetString(engine_error, "the vCPU is closed");
    return self->open;
}

static PyObject *method_keep_journal(Vcpu *self, PyObject *native)
{
    struct journal *journal = PyCapsule_GetPointer(native, JOURNAL_CAPSULE);
    if (journal == NULL)
        return NULL;
    Py_INCREF(native);
    Py_XSETREF(self->journal, native);
    self->v.journal = journal;
    Py_RETURN_NONE;
}

static PyObject *method_close(Vcpu *self, PyObject *unused)
{
    unmap(self);
    Py_RETURN_NONE;
}

static PyObject *method_run(Vcpu *self, PyObject *args)
{
    unsigned long long budget = 0;
    int owner = 0;
    if (!PyArg_ParseTuple(args, "|Kp", &budget, &owner) || !usable(self))
        return NULL;
    if (!vcpu_run(&self->v, budget, owner)) {
        PyErr_SetString(engine_error, self->v.sentence);
        return NULL;
    }
    Exit *x = PyObject_New(Exit, &exit_type);
    if (x != NULL)
        x->record = self->v.exit;
    return (PyObject *)x;
}

static PyObject *method_power_on(Vcpu *self, PyObject *args)
{
    unsigned entry;
    uint32_t r[3];
    if (!PyArg_ParseTuple(args, "IIII", &entry, &r[0], &r[1], &r[2]) || !usable(self))
        return NULL;
    if (!vcpu_power_on(&self->v, entry, r)) {
        PyErr_SetString(engine_error, self->v.sentence);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *method_answer(Vcpu *self, PyObject *arg)
{
    unsigned long long value = PyLong_AsUnsignedLongLong(arg);
    if ((value == (unsigned long long)-1 && PyErr_Occurred()) || !usable(self))
        return NULL;
    vcpu_answer(&self->v, value);
    Py_RETURN_NONE;
}

static PyObject *method_retire(Vcpu *self, PyObject *arg)
{
    unsigned long length = PyLong_AsUnsignedLong(arg);
    if ((length == (unsigned long)-1 && PyErr_Occurred()) || !usable(self))
        return NULL;
    vcpu_retire(&self->v, (uint32_t)length);
    Py_RETURN_NONE;
}

static PyObject *method_core(Vcpu *self, PyObject *unused)
{
    if (!usable(self))
        return NULL;
    PyObject *result = PyTuple_New(17);
    for (int i = 0; result && i < 17; i++) {
        uint32_t value = i < 15 ? vcpu_register(&self->v, vcpu_core_id((unsigned)i)) : i == 15 ? self->v.pc : self->v.cpsr;
        PyTuple_SET_ITEM(result, i, PyLong_FromUnsignedLong(value));
    }
    return result;
}

static PyObject *method_set_core(Vcpu *self, PyObject *args)
{
    unsigned n, value;
    if (!PyArg_ParseTuple(args, "II", &n, &value) || !usable(self))
        return NULL;
    if (n > 16)
        return PyErr_Format(PyExc_IndexError, "r0 to r15, and 16 for CPSR, not %u", n);
    if (n == 15) {
        self->v.pc = value & ~1u;
    } else if (n == 16) {
        vcpu_set_cpsr(&self->v, value);
    } else {
        vcpu_set_register(&self->v, vcpu_core_id(n), value);
    }
    Py_RETURN_NONE;
}

/* Registers of another mode: switch there, look, and come back. */
static PyObject *method_banked(Vcpu *self, PyObject *args)
{
    unsigned mode, n, value = 0;
    if (!PyArg_ParseTuple(args, "II|I", &mode, &n, &value) || !usable(self))
        return NULL;
    if (n > 14 && n != 16)
        return PyErr_Format(PyExc_IndexError, "r0 to r14, and 16 for SPSR, not %u", n);
    if (!vcpu_is_mode(mode))
        return PyErr_Format(PyExc_ValueError, "a guest has no mode 0x%x", mode);
    int id = n == 16 ? UC_ARM_REG_SPSR : vcpu_core_id(n);
    uint32_t cpsr = vcpu_register(&self->v, UC_ARM_REG_CPSR);
    vcpu_set_register(&self->v, UC_ARM_REG_CPSR, (cpsr & ~0x1fu) | mode);
    if (PyTuple_GET_SIZE(args) == 3)
        vcpu_set_register(&self->v, id, value);
    uint32_t result = vcpu_register(&self->v, id);
    vcpu_set_register(&self->v, UC_ARM_REG_CPSR, cpsr);
    return PyLong_FromUnsignedLong(result);
}

static PyObject *method_d(Vcpu *self, PyObject *arg)
{
    unsigned long n = PyLong_AsUnsignedLong(arg);
    if ((n == (unsigned long)-1 && PyErr_Occurred()) || !usable(self))
        return NULL;
    if (n > 31)
        return PyErr_Format(PyExc_IndexError, "d0 to d31, not %lu", n);
    uint64_t value = 0;
    uc.reg_read(self->v.uc, UC_ARM_REG_D0 + (int)n, &value);
    return PyLong_FromUnsignedLongLong(value);
}

static PyObject *method_set_d(Vcpu *self, PyObject *args)
{
    unsigned n;
    unsigned long long value;
    if (!PyArg_ParseTuple(args, "IK", &n, &value) || !usable(self))
        return NULL;
    if (n > 31)
        return PyErr_Format(PyExc_IndexError, "d0 to d31, not %u", n);
    uint64_t word = value;
    uc.reg_write(self->v.uc, UC_ARM_REG_D0 + (int)n, &word);
    Py_RETURN_NONE;
}

static PyObject *method_fpexc(Vcpu *self, PyObject *args)
{
    unsigned value;
    if (!PyArg_ParseTuple(args, "|I", &value) || !usable(self))
        return NULL;
    if (PyTuple_GET_SIZE(args) == 1)
        vcpu_set_register(&self->v, UC_ARM_REG_FPEXC, value);
    return PyLong_FromUnsignedLong(vcpu_register(&self->v, UC_ARM_REG_FPEXC));
}

static PyObject *method_fpscr(Vcpu *self, PyObject *args)
{
    unsigned value;
    if (!PyArg_ParseTuple(args, "|I", &value) || !usable(self))
        return NULL;
    if (PyTuple_GET_SIZE(args) == 1)
        vcpu_set_register(&self->v, UC_ARM_REG_FPSCR, value);
    return PyLong_FromUnsignedLong(vcpu_register(&self->v, UC_ARM_REG_FPSCR));
}

static PyObject *method_cp15(Vcpu *self, PyObject *args)
{
    unsigned crn, crm, opc1, opc2;
    int wide = 0;
    PyObject *value = NULL;
    if (!PyArg_ParseTuple(args, "IIII|pO", &crn, &crm, &opc1, &opc2, &wide, &value) || !usable(self))
        return NULL;
    if (value != NULL) {
        unsigned long long word = PyLong_AsUnsignedLongLong(value);
        if (word == (unsigned long long)-1 && PyErr_Occurred())
            return NULL;
        vcpu_set_cp(&self->v, (uint32_t)wide, crn, crm, opc1, opc2, word);
    }
    return PyLong_FromUnsignedLongLong(vcpu_cp(&self->v, (uint32_t)wide, crn, crm, opc1, opc2));
}

static PyObject *method_translate(Vcpu *self, PyObject *args)
{
    unsigned gva;
    int write, privileged;
    uint32_t ipa;
    if (!PyArg_ParseTuple(args, "Ipp", &gva, &write, &privileged) || !usable(self))
        return NULL;
    if (!vcpu_translate(&self->v, gva, write, privileged, &ipa))
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLong(ipa);
}

static PyObject *method_translation_fault(Vcpu *self, PyObject *unused)
{
    return usable(self) ? Py_BuildValue("II", self->v.fault_lpae, self->v.fault_short) : NULL;
}

static PyObject *method_read_ram(Vcpu *self, PyObject *args)
{
    unsigned ipa, bytes;
    if (!PyArg_ParseTuple(args, "II", &ipa, &bytes) || !usable(self))
        return NULL;
    if (!stage2_all_in_ram(&self->v, ipa, bytes))
        Py_RETURN_NONE;
    stage2_bring_in(&self->v, ipa, bytes);
    return PyBytes_FromStringAndSize((char *)self->v.ram + (ipa - RAM_BASE), bytes);
}

static PyObject *method_read_frame(Vcpu *self, PyObject *args)
{
    unsigned ipa, bytes;
    if (!PyArg_ParseTuple(args, "II", &ipa, &bytes) || !usable(self))
        return NULL;
    if (!stage2_all_in_ram(&self->v, ipa, bytes))
        Py_RETURN_NONE;
    return PyBytes_FromStringAndSize((char *)self->v.ram + (ipa - RAM_BASE), bytes);
}

static PyObject *method_bring_in(Vcpu *self, PyObject *args)
{
    unsigned ipa, bytes;
    if (!PyArg_ParseTuple(args, "II", &ipa, &bytes) || !usable(self))
        return NULL;
    stage2_bring_in(&self->v, ipa, bytes);
    Py_RETURN_NONE;
}

static PyObject *method_keep_swap(Vcpu *self, PyObject *arg)
{
    long fd = PyLong_AsLong(arg);
    if ((fd == -1 && PyErr_Occurred()) || !usable(self))
        return NULL;
    self->v.swap_fd = (int)fd;
    Py_RETURN_NONE;
}

/* "" when it is done, else what is in the way. */
static PyObject *swapped(Vcpu *self, enum swap_result result)
{
    static const char *const reasons[] = { "", "the page is not in use", "somebody else is at the page", "" };
    return PyUnicode_FromString(result == SWAP_FAILED ? self->v.sentence : reasons[result]);
}

static PyObject *method_swap_out(Vcpu *self, PyObject *args)
{
    unsigned ipa, fill;
    int ipi = 0;
    if (!PyArg_ParseTuple(args, "II|p", &ipa, &fill, &ipi) || !usable(self))
        return NULL;
    return swapped(self, stage2_swap_out(&self->v, ipa, fill, ipi));
}

static PyObject *method_swap_in(Vcpu *self, PyObject *arg)
{
    unsigned long ipa = PyLong_AsUnsignedLong(arg);
    if ((ipa == (unsigned long)-1 && PyErr_Occurred()) || !usable(self))
        return NULL;
    return swapped(self, stage2_swap_in(&self->v, (uint32_t)ipa));
}

static PyObject *method_reuse_frame(Vcpu *self, PyObject *args)
{
    unsigned ipa, fill;
    if (!PyArg_ParseTuple(args, "II", &ipa, &fill) || !usable(self))
        return NULL;
    return PyBool_FromLong(stage2_reuse(&self->v, ipa, fill));
}

static PyObject *method_allow_semihosting(Vcpu *self, PyObject *arg)
{
    int allowed = PyObject_IsTrue(arg);
    if (allowed < 0 || !usable(self))
        return NULL;
    self->v.semihosting = allowed;
    Py_RETURN_NONE;
}

static PyObject *method_set_breakpoints(Vcpu *self, PyObject *arg)
{
    uint32_t addresses[SEAM_BREAKPOINTS];
    PyObject *sequence = PySequence_Fast(arg, "breakpoints are a sequence of addresses");
    if (sequence == NULL || !usable(self)) {
        Py_XDECREF(sequence);
        return NULL;
    }
    Py_ssize_t n = PySequence_Fast_GET_SIZE(sequence);
    for (Py_ssize_t i = 0; i < n && i < (Py_ssize_t)SEAM_BREAKPOINTS; i++)
        addresses[i] = (uint32_t)PyLong_AsUnsignedLongMask(PySequence_Fast_GET_ITEM(sequence, i));
    Py_DECREF(sequence);
    if (PyErr_Occurred())
        return NULL;
    if (n > (Py_ssize_t)SEAM_BREAKPOINTS)
        return PyErr_Format(PyExc_ValueError, "at most %u breakpoints, not %zd", SEAM_BREAKPOINTS, n);
    seam_set_breakpoints(addresses, (unsigned)n);
    Py_RETURN_NONE;
}

static PyObject *method_set_watchpoints(Vcpu *self, PyObject *arg)
{
    struct seam_watchpoint wanted[SEAM_WATCHPOINTS];
    PyObject *sequence = PySequence_Fast(arg, "watchpoints are a sequence of (address, bytes, kinds)");
    if (sequence == NULL || !usable(self)) {
        Py_XDECREF(sequence);
        return NULL;
    }
    Py_ssize_t n = PySequence_Fast_GET_SIZE(sequence);
    bool good = true;
    for (Py_ssize_t i = 0; good && i < n && i < (Py_ssize_t)SEAM_WATCHPOINTS; i++)
        good = PyArg_ParseTuple(PySequence_Fast_GET_ITEM(sequence, i), "III", &wanted[i].address, &wanted[i].bytes,
                                &wanted[i].kinds);
    Py_DECREF(sequence);
    if (!good)
        return NULL;
    if (n > (Py_ssize_t)SEAM_WATCHPOINTS)
        return PyErr_Format(PyExc_ValueError, "at most %u watchpoints, not %zd", SEAM_WATCHPOINTS, n);
    seam_set_watchpoints(wanted, (unsigned)n);
    Py_RETURN_NONE;
}

static PyObject *method_rest(Vcpu *self, PyObject *arg)
{
    int yes = PyObject_IsTrue(arg);
    if (yes < 0 || !usable(self))
        return NULL;
    vcpu_rest(&self->v, yes);
    Py_RETURN_NONE;
}

static PyObject *method_spoil_invalidation(Vcpu *self, PyObject *arg)
{
    unsigned long how = PyLong_AsUnsignedLong(arg);
    if ((how == (unsigned long)-1 && PyErr_Occurred()) || !usable(self))
        return NULL;
    if (how > INVALIDATION_DOUBLED)
        return PyErr_Format(PyExc_ValueError, "an invalidation is late (1), dropped (2) or doubled (3), not %lu", how);
    self->v.next_invalidation = (enum invalidation)how;
    Py_RETURN_NONE;
}

static PyObject *method_write_ram(Vcpu *self, PyObject *args)
{
    unsigned ipa;
    Py_buffer data;
    if (!PyArg_ParseTuple(args, "Iy*", &ipa, &data))
        return NULL;
    bool done = usable(self) && vcpu_write_ram(&self->v, ipa, data.buf, (size_t)data.len);
    PyBuffer_Release(&data);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(done);
}

static PyObject *method_monitor(Vcpu *self, PyObject *unused)
{
    uint64_t address, value;
    if (!usable(self))
        return NULL;
    seam_monitor(&address, &value);
    if (address == UINT64_MAX)
        Py_RETURN_NONE;
    return Py_BuildValue("KK", address, value);
}

static PyObject *method_set_monitor(Vcpu *self, PyObject *args)
{
    PyObject *address;
    unsigned long long value = 0;
    if (!PyArg_ParseTuple(args, "O|K", &address, &value) || !usable(self))
        return NULL;
    if (address == Py_None) {
        seam_set_monitor(UINT64_MAX, 0);
    } else {
        unsigned long long number = PyLong_AsUnsignedLongLong(address);
        if (number == (unsigned long long)-1 && PyErr_Occurred())
            return NULL;
        seam_set_monitor(number, value);
    }
    Py_RETURN_NONE;
}

static PyObject *method_abort(Vcpu *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = { "address", "prefetch", "is_write", "lpae_status", "short_status", NULL };
    unsigned address, lpae = 0x10, brief = 0x08; /* synchronous external abort, not on a walk */
    int prefetch = 0, is_write = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "I|ppII", names, &address, &prefetch, &is_write, &lpae, &brief)
        || !usable(self))
        return NULL;
    vcpu_abort(&self->v, prefetch, address, is_write, lpae, brief);
    Py_RETURN_NONE;
}

static PyObject *method_undefined(Vcpu *self, PyObject *unused)
{
    if (!usable(self))
        return NULL;
    vcpu_undefined(&self->v);
    Py_RETURN_NONE;
}

static PyObject *method_wait_for_interrupt(Vcpu *self, PyObject *unused)
{
    if (!usable(self))
        return NULL;
    vcpu_wait_for_interrupt(&self->v);
    Py_RETURN_NONE;
}

static PyObject *method_shootdown(Vcpu *self, PyObject *args)
{
    int ipi = 0, wait = 1;
    unsigned bits = CP_TLB_FLUSH;
    if (!PyArg_ParseTuple(args, "|ppI", &ipi, &wait, &bits) || !usable(self))
        return NULL;
    vcpu_shootdown(&self->v, bits, ipi, wait);
    Py_RETURN_NONE;
}

static PyObject *method_timer_levels(Vcpu *self, PyObject *unused)
{
    if (!usable(self))
        return NULL;
    uint32_t levels = self->v.timer_told = self->v.timer_levels;
    return Py_BuildValue("(ii)", levels >> TIMER_PHYSICAL & 1, levels >> TIMER_VIRTUAL & 1);
}

static PyObject *method_save(Vcpu *self, PyObject *unused)
{
    if (!usable(self))
        return NULL;
    uc_context *context = NULL;
    vcpu_set_register(&self->v, UC_ARM_REG_R15, self->v.pc | (self->v.cpsr >> 5 & 1));
    if (uc.context_alloc(self->v.uc, &context) != UC_ERR_OK)
        return PyErr_NoMemory();
    size_t bytes;
    char *state = seam_context_state(context, &bytes);
    memset(state, 0, bytes); /* it saves a little less than it takes */
    uc.context_save(self->v.uc, context);
    PyObject *result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(bytes + sizeof self->v.timers));
    if (result != NULL) {
        char *to = PyBytes_AS_STRING(result);
        memcpy(to, state, bytes);
        memcpy(to + bytes, self->v.timers, sizeof self->v.timers);
    }
    uc.context_free(context);
    return result;
}

static PyObject *method_restore(Vcpu *self, PyObject *arg)
{
    char *data;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(arg, &data, &size) < 0 || !usable(self))
        return NULL;
    uc_context *context = NULL;
    if (uc.context_alloc(self->v.uc, &context) != UC_ERR_OK)
        return PyErr_NoMemory();
    size_t bytes;
    char *state = seam_context_state(context, &bytes);
    bool fits = (size_t)size == bytes + sizeof self->v.timers;
    if (fits) {
        memcpy(state, data, bytes);
        uc.context_restore(self->v.uc, context);
        vcpu_restored(&self->v);
        memcpy(self->v.timers, data + bytes, sizeof self->v.timers);
        timers_update(&self->v);
    } else {
        PyErr_SetString(engine_error, "this is not a state that save() of this engine made");
    }
    uc.context_free(context);
    return fits ? Py_NewRef(Py_None) : NULL;
}

#define NOARGS(name, text) { #name, (PyCFunction)method_##name, METH_NOARGS, text }
#define ONE(name, text) { #name, (PyCFunction)method_##name, METH_O, text }
#define SOME(name, text) { #name, (PyCFunction)method_##name, METH_VARARGS, text }

static PyMethodDef vcpu_methods[] = {
    SOME(run, "run(budget=0, owner=False) -> Exit: enter the guest until Python is needed, or `budget` instructions are done. The "
              "owner of a stopped world enters although STOP is requested."),
    SOME(power_on, "power_on(entry, r0, r1, r2): reset; SVC mode, MMU off, interrupts masked; bit 0 of entry is Thumb."),
    ONE(answer, "answer(value): complete the latched MMIO access, once; the instruction retires."),
    ONE(retire, "retire(length): PC and ITSTATE go on over an instruction that was served."),
    NOARGS(core, "core() -> (r0, ..., r14, pc, cpsr) of the current mode."),
    SOME(set_core, "set_core(n, value): r0 to r14, 15 for PC, 16 for CPSR, whose mode stays where a guest cannot have it."),
    SOME(banked, "banked(mode, n[, value]) -> value: r0 to r14 as `mode` sees them, 16 for its SPSR."),
    ONE(d, "d(n) -> 64 bits of VFP register d0 to d31."),
    SOME(set_d, "set_d(n, value)."),
    SOME(fpexc, "fpexc([value]) -> value: bit 30 enables VFP and NEON, where CPACR does too."),
    SOME(fpscr, "fpscr([value]) -> value."),
    SOME(cp15, "cp15(crn, crm, opc1, opc2, wide=False[, value]) -> value: read, or write and read back."),
    SOME(translate, "translate(gva, write, privileged) -> IPA by the guest's stage 1, None where it faults."),
    NOARGS(translation_fault, "translation_fault() -> (lpae_status, short_status) of the last translate() that said None."),
    SOME(read_ram, "read_ram(ipa, bytes) -> bytes, None outside RAM. A page that is swapped out is brought in."),
    SOME(read_frame, "read_frame(ipa, bytes) -> bytes, None outside RAM: what the frames hold, whosever they are."),
    SOME(bring_in, "bring_in(ipa, bytes): have these pages in their frames."),
    ONE(keep_swap, "keep_swap(fd): the file to swap out to."),
    SOME(swap_out, "swap_out(ipa, fill, ipi=False) -> \"\" when the page is out and its frame filled, else what is in the way."),
    ONE(swap_in, "swap_in(ipa) -> \"\" when the page is back, else what is in the way."),
    SOME(reuse_frame, "reuse_frame(ipa, fill): fill the frame, when the world is not stopped; False outside RAM."),
    ONE(allow_semihosting, "allow_semihosting(allowed): leave with EXIT_SEMIHOSTING at the guest's calls to its host."),
    ONE(set_breakpoints, "set_breakpoints(addresses): leave with EXIT_BREAKPOINT before these instructions; between runs."),
    ONE(set_watchpoints, "set_watchpoints([(address, bytes, kinds)]): leave with EXIT_WATCHPOINT after an instruction that reads (1) "
                         "or writes (2) there; virtual addresses, RAM only; between runs."),
    ONE(rest, "rest(yes): while it is held outside, nobody who invalidates waits for this vCPU."),
    ONE(spoil_invalidation, "spoil_invalidation(how): the guest's next TLB invalidation is late, dropped or doubled (1 to 3)."),
    SOME(write_ram, "write_ram(ipa, data) -> False outside RAM; translated code of these pages is dropped everywhere."),
    NOARGS(monitor, "monitor() -> (address, value) of the exclusive monitor, None when it is open."),
    SOME(set_monitor, "set_monitor(address | None, value=0)."),
    { "abort", (PyCFunction)(void (*)(void))method_abort, METH_VARARGS | METH_KEYWORDS,
      "abort(address, prefetch=False, is_write=False, lpae_status=0x10, short_status=0x08): the guest takes an abort." },
    NOARGS(undefined, "undefined(): the guest takes an undefined-instruction exception."),
    NOARGS(wait_for_interrupt, "wait_for_interrupt(): sleep as WFI does; EVENT and QUIT end the sleep too."),
    SOME(shootdown, "shootdown(ipi=False, wait=True, bits=TLB_FLUSH): ask every vCPU, wait, do it here."),
    NOARGS(timer_levels, "timer_levels() -> (physical, virtual): the timers' interrupt lines, for the interrupt controller."),
    NOARGS(save, "save() -> the whole vCPU as bytes."),
    ONE(restore, "restore(state): inverse of save()."),
    ONE(keep_journal, "keep_journal(native): write what is served natively into the journal of a Recorder, its native()."),
    NOARGS(close, "close(): free the engine and the mappings."),
    { NULL, NULL, 0, NULL },
};

static PyTypeObject vcpu_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "allstop.vcpu_worker.engine.Vcpu",
    .tp_doc = "Vcpu(control_fd, ram_fd, stage2_fd, vcpu, mpidr, as_shipped=False): one ARMv7 vCPU at EL1/EL0; the caller is "
              "its EL2. With as_shipped the library behaves as it is: exclusives, fences, TLB maintenance and code writes do "
              "not reach other processes; for the test that shows the conformance gate red.",
    .tp_basicsize = sizeof(Vcpu),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = vcpu_new_object,
    .tp_dealloc = (destructor)vcpu_dealloc,
    .tp_methods = vcpu_methods,
};

static PyObject *engine_open(PyObject *module, PyObject *arg)
{
    const char *path = PyUnicode_AsUTF8(arg);
    if (path == NULL)
        return NULL;
    const char *sentence = seam_open(path);
    if (sentence != NULL) {
        PyErr_SetString(engine_error, sentence);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *engine_facts(PyObject *module, PyObject *unused)
{
    PyObject *result = PyList_New(0);
    const char *name;
    uint64_t expected, found;
    for (size_t i = 0; result && seam_fact(i, &name, &expected, &found); i++) {
        PyObject *item = Py_BuildValue("sKK", name, expected, found);
        if (item == NULL || PyList_Append(result, item) < 0)
            Py_CLEAR(result);
        Py_XDECREF(item);
    }
    return result;
}

static PyMethodDef engine_methods[] = {
    { "open_library", engine_open, METH_O, "open_library(path): load libunicorn and check that it is the one known." },
    { "facts", engine_facts, METH_NOARGS, "facts() -> [(function, expected hash, found hash)] of the machine code relied on." },
    { NULL, NULL, 0, NULL },
};

static struct PyModuleDef engine_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_engine",
    .m_doc = "The engine over libunicorn.",
    .m_size = -1,
    .m_methods = engine_methods,
};

PyMODINIT_FUNC PyInit__engine(void)
{
    if (PyType_Ready(&exit_type) < 0 || PyType_Ready(&vcpu_type) < 0)
        return NULL;
    PyObject *module = PyModule_Create(&engine_module);
    engine_error = PyErr_NewExceptionWithDoc("allstop.vcpu_worker.engine.EngineError",
                                             "The engine cannot be used, or not like this; the text is one sentence.",
                                             PyExc_RuntimeError, NULL);
    if (module == NULL || engine_error == NULL || PyModule_AddObjectRef(module, "EngineError", engine_error) < 0
        || PyModule_AddObjectRef(module, "Exit", (PyObject *)&exit_type) < 0
        || PyModule_AddObjectRef(module, "Vcpu", (PyObject *)&vcpu_type) < 0)
        return NULL;
    for (int i = 0; i < EXIT_KINDS; i++) {
        char name[32];
        snprintf(name, sizeof name, "EXIT_%s", exit_names[i]);
        if (PyModule_AddIntConstant(module, name, i) < 0)
            return NULL;
    }
    return module;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Run, and complete what an exit asked for. */
#include "vcpu_worker/engine/binding/binding.h"
#include "vcpu_worker/engine/binding/exit.h"
#include "vcpu_worker/engine/binding/methods.h"
#include "vcpu_worker/engine/cpu/arm/exceptions.h"
#include "vcpu_worker/engine/cpu/arm/registers.h"
#include "vcpu_worker/engine/guest_memory/shootdown.h"
#include "vcpu_worker/engine/run/arm/exits.h"
#include "vcpu_worker/engine/run/run.h"
#include "vcpu_worker/engine/run/setup.h"
#include "vcpu_worker/engine/run/wait.h"

static PyObject *method_run(Vcpu *self, PyObject *args)
{
    unsigned long long budget = 0;
    int owner = 0;
    if (!PyArg_ParseTuple(args, "|Kp", &budget, &owner) || !usable(self))
        return NULL;
    return vcpu_run(&self->v, budget, owner) ? exit_object(&self->v.exit) : failed(self);
}

static PyObject *method_power_on(Vcpu *self, PyObject *args)
{
    unsigned entry;
    uint32_t r[3];
    if (!PyArg_ParseTuple(args, "IIII", &entry, &r[0], &r[1], &r[2]) || !usable(self))
        return NULL;
    return vcpu_power_on(&self->v, entry, r) ? Py_NewRef(Py_None) : failed(self);
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

static PyObject *method_timer_levels(Vcpu *self, PyObject *unused)
{
    if (!usable(self))
        return NULL;
    uint32_t levels = self->v.timer_told = self->v.timer_levels;
    return Py_BuildValue("(ii)", levels >> TIMER_PHYSICAL & 1, levels >> TIMER_VIRTUAL & 1);
}

static PyObject *method_rest(Vcpu *self, PyObject *arg)
{
    int yes = PyObject_IsTrue(arg);
    if (yes < 0 || !usable(self))
        return NULL;
    vcpu_rest(&self->v, yes);
    Py_RETURN_NONE;
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

const PyMethodDef run_methods[] = {
    SOME(run,
         "run(budget=0, owner=False) -> Exit: enter the guest until Python is needed, or `budget` "
         "instructions are done. The owner of a stopped world enters although STOP is requested."),
    SOME(power_on,
         "power_on(entry, r0, r1, r2): reset; SVC mode, MMU off, interrupts masked; bit 0 of entry is "
         "Thumb."),
    ONE(answer, "answer(value): complete the latched MMIO access, once; the instruction retires."),
    ONE(retire, "retire(length): PC and ITSTATE go on over an instruction that was served."),
    NOARGS(undefined, "undefined(): the guest takes an undefined-instruction exception."),
    NOARGS(wait_for_interrupt, "wait_for_interrupt(): sleep as WFI does; EVENT and QUIT end the sleep too."),
    NOARGS(timer_levels,
           "timer_levels() -> (physical, virtual): the timers' interrupt lines, for the interrupt "
           "controller."),
    ONE(rest, "rest(yes): while it is held outside, no vCPU that invalidates waits for this one."),
    ONE(keep_journal,
        "keep_journal(native): write what is served natively into the journal of a Recorder, its "
        "native()."),
    NAMED(abort,
          "abort(address, prefetch=False, is_write=False, lpae_status=0x10, short_status=0x08): the guest takes "
          "an abort."),
    { NULL, NULL, 0, NULL },
};

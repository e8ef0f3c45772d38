/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Guest memory, past the guest's own accesses. */
#include "vcpu_worker/engine/binding/binding.h"
#include "vcpu_worker/engine/binding/methods.h"
#include "vcpu_worker/engine/guest_memory/access.h"
#include "vcpu_worker/engine/guest_memory/shootdown.h"
#include "vcpu_worker/engine/guest_memory/swap.h"

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
    if (!all_is_in_ram(&self->v, ipa, bytes))
        Py_RETURN_NONE;
    stage2_bring_in(&self->v, ipa, bytes);
    return PyBytes_FromStringAndSize((char *)self->v.ram + (ipa - RAM_BASE), bytes);
}

static PyObject *method_read_frame(Vcpu *self, PyObject *args)
{
    unsigned ipa, bytes;
    if (!PyArg_ParseTuple(args, "II", &ipa, &bytes) || !usable(self))
        return NULL;
    if (!all_is_in_ram(&self->v, ipa, bytes))
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
    static const char *const reasons[] = { "", "the page is not in use", "another process is changing the page", "" };
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

static PyObject *method_shootdown(Vcpu *self, PyObject *args)
{
    int ipi = 0, wait = 1;
    unsigned bits = CP_TLB_FLUSH;
    if (!PyArg_ParseTuple(args, "|ppI", &ipi, &wait, &bits) || !usable(self))
        return NULL;
    vcpu_shootdown(&self->v, bits, ipi, wait);
    Py_RETURN_NONE;
}

const PyMethodDef memory_methods[] = {
    SOME(translate, "translate(gva, write, privileged) -> IPA by the guest's stage 1, None where it faults."),
    NOARGS(translation_fault,
           "translation_fault() -> (lpae_status, short_status) of the last translate() that "
           "said None."),
    SOME(read_ram, "read_ram(ipa, bytes) -> bytes, None outside RAM. A page that is swapped out is brought in."),
    SOME(read_frame, "read_frame(ipa, bytes) -> bytes, None outside RAM: what the frames hold, whosever they are."),
    SOME(bring_in, "bring_in(ipa, bytes): have these pages in their frames."),
    SOME(write_ram,
         "write_ram(ipa, data) -> False outside RAM; translated code of these pages is dropped "
         "everywhere."),
    ONE(keep_swap, "keep_swap(fd): the file to swap out to."),
    SOME(swap_out,
         "swap_out(ipa, fill, ipi=False) -> \"\" when the page is out and its frame filled, else what is "
         "in the way."),
    ONE(swap_in, "swap_in(ipa) -> \"\" when the page is back, else what is in the way."),
    SOME(reuse_frame, "reuse_frame(ipa, fill): fill the frame, when the world is not stopped; False outside RAM."),
    SOME(shootdown, "shootdown(ipi=False, wait=True, bits=TLB_FLUSH): ask every vCPU, wait, do it here."),
    { NULL, NULL, 0, NULL },
};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Vcpu: the object, its mappings and its life. */
#include "vcpu_worker/engine/binding/vcpu_type.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include "vcpu_worker/engine/binding/binding.h"
#include "vcpu_worker/engine/binding/methods.h"
#include "vcpu_worker/engine/interpose/library.h"
#include "vcpu_worker/engine/run/setup.h"

/* A worker holds one vCPU; a second one in a process is a mistake. Nothing else here or below depends on there being
 * one. */
static bool process_holds_one;

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
    if (self->open) {
        vcpu_close(&self->v);
        process_holds_one = false;
    }
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

/* Map the machine's files, and check that they fit together. False with an exception set. */
static bool map_machine(Vcpu *self, int control, int ram, int stage2, unsigned number)
{
    struct vcpu *v = &self->v;
    size_t ram_bytes = 0, stage2_bytes = 0;
    if ((v->host = map_file(control, &self->host_bytes)) == NULL || (v->ram = map_file(ram, &ram_bytes)) == NULL)
        return false;
    v->ram_bytes = ram_bytes;
    if ((v->stage2 = map_file(stage2, &stage2_bytes)) == NULL)
        return false;
    v->stage2_bytes = stage2_bytes;
    if (v->host->magic != CP_MAGIC || v->host->version != CP_VERSION)
        PyErr_SetString(engine_error, "control_fd is not a control page of this version of allstop");
    else if (number >= v->host->vcpus)
        PyErr_Format(engine_error, "the machine has %u vCPUs and no vCPU %u", v->host->vcpus, number);
    else if (stage2_bytes < STAGE2_PAGES_OFFSET + ram_bytes / PAGE_BYTES * 8)
        PyErr_SetString(engine_error, "the stage-2 tables are too small for the RAM: build them with vm.memory.stage2");
    else
        return true;
    return false;
}

static bool open_vcpu(Vcpu *self, unsigned number, unsigned mpidr, bool as_shipped)
{
    struct vcpu *v = &self->v;
    if (process_holds_one) {
        PyErr_SetString(engine_error, "a process holds one vCPU, and this one has one already");
        return false;
    }
    v->swap_fd = -1;
    v->number = number;
    v->as_shipped = as_shipped;
    v->slot = cp_vcpu(v->host, number);
    self->open = vcpu_open(v, mpidr);
    process_holds_one = self->open;
    if (!self->open)
        failed(self);
    return self->open;
}

static PyObject *vcpu_new_object(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = { "control_fd", "ram_fd", "stage2_fd", "vcpu", "mpidr", "as_shipped", NULL };
    int control, ram, stage2, as_shipped = 0;
    unsigned number, mpidr;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iiiII|p", names, &control, &ram, &stage2, &number, &mpidr,
                                     &as_shipped))
        return NULL;
    const char *refusal = library_open(NULL);
    if (refusal != NULL) {
        PyErr_SetString(engine_error, refusal);
        return NULL;
    }
    Vcpu *self = (Vcpu *)type->tp_alloc(type, 0);
    if (self != NULL && map_machine(self, control, ram, stage2, number) && open_vcpu(self, number, mpidr, as_shipped))
        return (PyObject *)self;
    Py_XDECREF(self);
    return NULL;
}

static void vcpu_dealloc(Vcpu *self)
{
    unmap(self);
    Py_XDECREF(self->journal);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *method_close(Vcpu *self, PyObject *unused)
{
    unmap(self);
    Py_RETURN_NONE;
}

static const PyMethodDef own_methods[] = {
    NOARGS(close, "close(): free the engine and the mappings."),
    { NULL, NULL, 0, NULL },
};

static PyMethodDef methods[64];

PyTypeObject vcpu_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "allstop.vcpu_worker.engine.Vcpu",
    .tp_doc = "Vcpu(control_fd, ram_fd, stage2_fd, vcpu, mpidr, as_shipped=False): one ARMv7 vCPU at EL1/EL0, with the "
              "caller as its EL2. With as_shipped the library behaves as it is: exclusives, fences, TLB maintenance "
              "and code writes do not reach other processes; for the test that shows the conformance gate red.",
    .tp_basicsize = sizeof(Vcpu),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = vcpu_new_object,
    .tp_dealloc = (destructor)vcpu_dealloc,
    .tp_methods = methods,
};

bool vcpu_type_ready(void)
{
    const PyMethodDef *tables[] = { run_methods, registers_methods, memory_methods, debug_methods, own_methods };
    size_t count = 0;
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        for (const PyMethodDef *method = tables[i]; method->ml_name != NULL; method++) {
            if (count + 1 == sizeof methods / sizeof *methods) { /* the last one ends the table */
                PyErr_SetString(PyExc_SystemError, "Vcpu has more methods than its table has room for");
                return false;
            }
            methods[count++] = *method;
        }
    return PyType_Ready(&vcpu_type) == 0;
}

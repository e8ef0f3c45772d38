/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of allstop.coordinator.node.memory.node_memory share. */
#ifndef ALLSTOP_NODE_MEMORY_H
#define ALLSTOP_NODE_MEMORY_H

#include "vm/control/method.h"
#include "vm/memory/mapped_machine.h"

#define NODE_FLUSHES (CP_TLB_FLUSH | CP_CODE_FLUSH)
#define COORDINATOR_SLOT CP_MAX_VCPUS
#define DEVICES_SLOT (CP_MAX_VCPUS + 1)

typedef struct {
    PyObject_HEAD
    struct mapped_machine m;
} NodeMemory;

/* The slot of a vCPU. NULL with an exception set. */
static inline struct cp_vcpu *node_slot(NodeMemory *self, unsigned long vcpu)
{
    if (vcpu < self->m.host->vcpus)
        return cp_vcpu(self->m.host, (uint32_t)vcpu);
    PyErr_Format(PyExc_ValueError, "there is no vCPU %lu", vcpu);
    return NULL;
}

/* Methods: the table in node_memory.c says what they do. */
/* node_pages.c */
PyObject *memory_revoke(NodeMemory *self, PyObject *args);
PyObject *memory_install(NodeMemory *self, PyObject *args);
PyObject *memory_upgrade(NodeMemory *self, PyObject *arg);
PyObject *memory_wants(NodeMemory *self, PyObject *unused);
PyObject *memory_have(NodeMemory *self, PyObject *args);
PyObject *memory_progress(NodeMemory *self, PyObject *args);
PyObject *memory_is_page(NodeMemory *self, PyObject *arg);
PyObject *memory_is_here(NodeMemory *self, PyObject *args);
PyObject *memory_entry(NodeMemory *self, PyObject *arg);
/* node_requests.c */
PyObject *memory_take_outbox(NodeMemory *self, PyObject *unused);
PyObject *memory_end_guest_entry(NodeMemory *self, PyObject *arg);
PyObject *memory_deliver(NodeMemory *self, PyObject *args);
PyObject *memory_stop(NodeMemory *self, PyObject *arg);
PyObject *memory_resume(NodeMemory *self, PyObject *arg);
PyObject *memory_has_exited(NodeMemory *self, PyObject *args);
PyObject *memory_wait_exited(NodeMemory *self, PyObject *args);
PyObject *memory_invalidation(NodeMemory *self, PyObject *arg);
PyObject *memory_is_idle(NodeMemory *self, PyObject *unused);
PyObject *memory_may_poll(NodeMemory *self, PyObject *unused);
PyObject *memory_set_power(NodeMemory *self, PyObject *args);
PyObject *memory_told(NodeMemory *self, PyObject *args);
PyObject *memory_tell(NodeMemory *self, PyObject *args);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A small driver for virtio over MMIO, modern and legacy: one request at a time per queue, completion by interrupt.
 * Source: virtio 1.2 (OASIS), 2.7, 4.2 and 5.2 to 5.4. */
#ifndef VIRTIO_H
#define VIRTIO_H

#include "guest.h"

#define VIRTIO_TRANSPORTS 32u
#define QUEUE_ENTRIES 8u

enum { VIRTIO_BLOCK = 2, VIRTIO_CONSOLE = 3, VIRTIO_ENTROPY = 4 };

struct descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
};

/* One queue's memory, laid out as a legacy driver has to. */
struct ring {
    struct descriptor descriptors[QUEUE_ENTRIES];
    struct {
        uint16_t flags, index, ring[QUEUE_ENTRIES], used_event;
    } available;
    struct {
        uint16_t flags, index;
        struct { uint32_t head, length; } ring[QUEUE_ENTRIES];
        uint16_t available_event;
    } used ALIGNED(4096);
} ALIGNED(4096);

struct virtio {
    uint32_t base, device_id, version, features;
    unsigned transport;
    uint16_t sent[2];
    struct ring *rings[2];
    uint32_t interrupts; /* counted by the handler */
    uint32_t interrupts_seen;
    bool elsewhere;      /* another vCPU takes this device's interrupts */
};

struct piece {
    const void *data;
    uint32_t length;
    bool writable;
};

/* The next transport at or after `from` with a device of this kind; VIRTIO_TRANSPORTS if there is none. */
unsigned virtio_find(unsigned from, uint32_t device_id);
/* Reset and set up: features, `queues` queues with these rings, interrupts to the vCPU of the GIC's `target` bit. */
bool virtio_open(struct virtio *device, unsigned transport, struct ring *rings, unsigned queues, uint32_t target);
/* Hand one buffer over and wait for the interrupt that says it is back: the bytes the device has written. With
 * `indirect` its descriptors are in a table of their own. */
uint32_t virtio_request(struct virtio *device, unsigned queue, const struct piece *pieces, unsigned count, bool indirect);
uint32_t virtio_config(const struct virtio *device, unsigned offset);
/* To be called for each interrupt; false when it is none of the devices'. */
bool virtio_interrupt(unsigned intid);

#endif

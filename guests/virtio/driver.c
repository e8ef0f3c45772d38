/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "virtio.h"

#define GICD_BASE 0x08000000u
#define GICD_ISENABLER (GICD_BASE + 0x100)
#define GICD_IPRIORITYR (GICD_BASE + 0x400)
#define GICD_ITARGETSR (GICD_BASE + 0x800)
#define GICD_ICFGR (GICD_BASE + 0xc00)

#define VIRTIO_BASE 0x0a000000u
#define VIRTIO_BYTES 0x200u
#define VIRTIO_INTID 48u

enum {
    MAGIC = 0x00, VERSION = 0x04, DEVICE_ID = 0x08, DEVICE_FEATURES = 0x10, DEVICE_FEATURES_SEL = 0x14,
    DRIVER_FEATURES = 0x20, DRIVER_FEATURES_SEL = 0x24, GUEST_PAGE_SIZE = 0x28, QUEUE_SEL = 0x30, QUEUE_NUM_MAX = 0x34,
    QUEUE_NUM = 0x38, QUEUE_ALIGN = 0x3c, QUEUE_PFN = 0x40, QUEUE_READY = 0x44, QUEUE_NOTIFY = 0x50,
    INTERRUPT_STATUS = 0x60, INTERRUPT_ACK = 0x64, STATUS = 0x70, QUEUE_DESCRIPTORS = 0x80, QUEUE_DRIVER = 0x90,
    QUEUE_DEVICE = 0xa0, CONFIG = 0x100
};

#define MAGIC_VALUE 0x74726976u
#define ACKNOWLEDGE 1u
#define DRIVER 2u
#define DRIVER_OK 4u
#define FEATURES_OK 8u
#define F_INDIRECT (1u << 28)
#define F_EVENT_INDEX (1u << 29)
#define D_NEXT 1u
#define D_WRITE 2u
#define D_INDIRECT 4u

static struct virtio *devices[VIRTIO_TRANSPORTS];
static struct descriptor tables[VIRTIO_TRANSPORTS][QUEUE_ENTRIES] ALIGNED(16);

static void set(const struct virtio *device, unsigned reg, uint32_t value) { write32(device->base + reg, value); }
static uint32_t get(const struct virtio *device, unsigned reg) { return read32(device->base + reg); }

unsigned virtio_find(unsigned from, uint32_t device_id)
{
    for (; from < VIRTIO_TRANSPORTS; from++) {
        uint32_t base = VIRTIO_BASE + from * VIRTIO_BYTES;

        if (read32(base + MAGIC) == MAGIC_VALUE && read32(base + DEVICE_ID) == device_id)
            return from;
    }
    return from;
}

static void route(unsigned intid, uint32_t target)
{
    *(volatile uint8_t *)(GICD_IPRIORITYR + intid) = 0x80;
    *(volatile uint8_t *)(GICD_ITARGETSR + intid) = (uint8_t)target;
    write32(GICD_ICFGR + intid / 16 * 4, read32(GICD_ICFGR + intid / 16 * 4) | 2u << intid % 16 * 2);
    write32(GICD_ISENABLER + intid / 32 * 4, 1u << intid % 32);
}

static bool open_queue(struct virtio *device, unsigned queue, struct ring *ring)
{
    set(device, QUEUE_SEL, queue);
    if (get(device, QUEUE_NUM_MAX) < QUEUE_ENTRIES)
        return false;
    set(device, QUEUE_NUM, QUEUE_ENTRIES);
    device->rings[queue] = ring;
    device->sent[queue] = 0;
    if (device->version == 1) {
        set(device, QUEUE_ALIGN, 4096);
        set(device, QUEUE_PFN, (uint32_t)ring / 4096);
        return get(device, QUEUE_PFN) == (uint32_t)ring / 4096;
    }
    set(device, QUEUE_DESCRIPTORS, (uint32_t)ring->descriptors);
    set(device, QUEUE_DESCRIPTORS + 4, 0);
    set(device, QUEUE_DRIVER, (uint32_t)&ring->available);
    set(device, QUEUE_DRIVER + 4, 0);
    set(device, QUEUE_DEVICE, (uint32_t)&ring->used);
    set(device, QUEUE_DEVICE + 4, 0);
    set(device, QUEUE_READY, 1);
    return get(device, QUEUE_READY) == 1;
}

bool virtio_open(struct virtio *device, unsigned transport, struct ring *rings, unsigned queues, uint32_t target)
{
    device->transport = transport;
    device->base = VIRTIO_BASE + transport * VIRTIO_BYTES;
    device->version = get(device, VERSION);
    device->device_id = get(device, DEVICE_ID);
    set(device, STATUS, 0);
    set(device, STATUS, ACKNOWLEDGE | DRIVER);
    set(device, DEVICE_FEATURES_SEL, 0);
    device->features = get(device, DEVICE_FEATURES);
    set(device, DRIVER_FEATURES_SEL, 0);
    set(device, DRIVER_FEATURES, device->features & (F_INDIRECT | F_EVENT_INDEX));
    if (device->version == 1) {
        set(device, GUEST_PAGE_SIZE, 4096);
    } else {
        set(device, DRIVER_FEATURES_SEL, 1);
        set(device, DRIVER_FEATURES, 1); /* VERSION_1 */
        set(device, STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
        if (!(get(device, STATUS) & FEATURES_OK))
            return false;
    }
    for (unsigned queue = 0; queue < queues; queue++)
        if (!open_queue(device, queue, &rings[queue]))
            return false;
    devices[transport] = device;
    route(VIRTIO_INTID + transport, target);
    set(device, STATUS, get(device, STATUS) | DRIVER_OK);
    return true;
}

bool virtio_interrupt(unsigned intid)
{
    struct virtio *device = intid - VIRTIO_INTID < VIRTIO_TRANSPORTS ? devices[intid - VIRTIO_INTID] : NULL;

    if (!device)
        return false;
    set(device, INTERRUPT_ACK, get(device, INTERRUPT_STATUS));
    __atomic_fetch_add(&device->interrupts, 1, __ATOMIC_SEQ_CST);
    return true;
}

static void wait(struct virtio *device, volatile uint16_t *index, uint16_t wanted)
{
    if (device->elsewhere) {
        while (__atomic_load_n(&device->interrupts, __ATOMIC_ACQUIRE) == device->interrupts_seen || *index != wanted)
            yield();
    } else {
        irq_disable();
        while (*(volatile uint32_t *)&device->interrupts == device->interrupts_seen || *index != wanted) {
            wfi();
            irq_enable();
            isb();
            irq_disable();
        }
        irq_enable();
    }
    device->interrupts_seen = device->interrupts;
    dmb();
}

uint32_t virtio_request(struct virtio *device, unsigned queue, const struct piece *pieces, unsigned count, bool indirect)
{
    struct ring *ring = device->rings[queue];
    unsigned slot = device->sent[queue] % QUEUE_ENTRIES;
    struct descriptor *table = ring->descriptors;

    if (indirect && device->features & F_INDIRECT) {
        table = tables[device->transport];
        ring->descriptors[0] = (struct descriptor){ (uint32_t)table, count * sizeof *table, D_INDIRECT, 0 };
    }
    for (unsigned i = 0; i < count; i++)
        table[i] = (struct descriptor){ (uint32_t)pieces[i].data, pieces[i].length,
                                        (pieces[i].writable ? D_WRITE : 0) | (i + 1 < count ? D_NEXT : 0), i + 1 };
    ring->available.ring[slot] = 0;
    ring->available.used_event = device->sent[queue];
    dmb();
    *(volatile uint16_t *)&ring->available.index = ++device->sent[queue];
    dsb();
    set(device, QUEUE_NOTIFY, queue);
    wait(device, &ring->used.index, device->sent[queue]);
    return ring->used.ring[slot].length;
}

uint32_t virtio_config(const struct virtio *device, unsigned offset) { return get(device, CONFIG + offset); }

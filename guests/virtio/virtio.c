/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio devices: read and write sectors, read entropy, print on the console, each until its interrupt. Then
 * code is read from the disk into a page from which another vCPU executes all the while: what it calls after the
 * request is over must be the new code. The parameter is the number of such rounds.
 */
#include "virtio.h"

#include "gic.h"
#include "mmu.h"
#include "sync.h"

#define ROUNDS 50u
#define SECTOR 512u
#define MOVW_R0 0xe3000000u
#define BX_LR 0xe12fff1eu

enum { BLOCK_IN = 0, BLOCK_OUT = 1, BLOCK_FLUSH = 4, BLOCK_GET_ID = 8 };
#define BLOCK_F_READ_ONLY (1u << 5)

typedef uint32_t (*function)(void);

static struct ring block_rings[1], console_rings[2], entropy_rings[1];
static struct virtio block, console, entropy;
static uint32_t code[1024] ALIGNED(4096);
static uint8_t sectors[8 * SECTOR + 4] ALIGNED(4096);
static struct barrier barrier;
static uint32_t round_done, over, calls, stale, failed;
static unsigned active;
static uint32_t rounds;

static bool handle_irq(struct frame *frame)
{
    uint32_t acknowledged = gic_acknowledge();

    (void)frame;
    if (gic_intid(acknowledged) == GIC_SPURIOUS)
        return true;
    if (!virtio_interrupt(gic_intid(acknowledged))) {
        print("virtio: unknown interrupt %u\n", gic_intid(acknowledged));
        failed = 1;
    }
    gic_end(acknowledged);
    return true;
}

static void expect(const char *what, bool holds)
{
    if (holds)
        return;
    print("virtio: %s\n", what);
    failed = 1;
}

/* A request's status; the data goes in two pieces, so that the chain is a long one. */
static uint32_t block_request(uint32_t kind, uint32_t sector, void *data, uint32_t length, bool indirect)
{
    static struct { uint32_t kind, reserved; uint64_t sector; } header;
    static volatile uint8_t status;
    uint32_t half = length / 2 & ~3u;
    struct piece pieces[4] = {
        { &header, sizeof header, false }, { data, half, kind != BLOCK_OUT },
        { (uint8_t *)data + half, length - half, kind != BLOCK_OUT }, { (const void *)&status, 1, true } };

    header.kind = kind;
    header.sector = sector;
    status = 0xff;
    if (length)
        virtio_request(&block, 0, pieces, 4, indirect);
    else
        virtio_request(&block, 0, (struct piece[]){ pieces[0], pieces[3] }, 2, indirect);
    return status;
}

static void use_block(void)
{
    uint32_t capacity = virtio_config(&block, 0);
    bool read_only = block.features & BLOCK_F_READ_ONLY;
    char id[21] = "";

    expect("sector 0 cannot be read", block_request(BLOCK_IN, 0, sectors, SECTOR, false) == 0);
    sectors[16] = 0;
    print("virtio: %u sectors, the first begins \"%s\"\n", capacity, (char *)sectors);
    expect("the serial number cannot be read", block_request(BLOCK_GET_ID, 0, id, 20, true) == 0);
    for (unsigned i = 0; i < 4 * SECTOR; i++)
        sectors[i] = (uint8_t)(i * 7 + i / SECTOR);
    expect("a write ends as it should not", block_request(BLOCK_OUT, 2, sectors, 4 * SECTOR, false) == (read_only ? 1 : 0));
    if (!read_only) {
        for (unsigned i = 0; i < 4 * SECTOR; i++)
            sectors[i] = 0;
        expect("what was written cannot be read", block_request(BLOCK_IN, 2, sectors, 4 * SECTOR, true) == 0);
        for (unsigned i = 0; i < 4 * SECTOR; i++)
            if (sectors[i] != (uint8_t)(i * 7 + i / SECTOR)) {
                expect("what was written is not what is read", false);
                break;
            }
    }
    expect("a flush fails", block_request(BLOCK_FLUSH, 0, NULL, 0, false) == 0);
    expect("a read beyond the end succeeds", block_request(BLOCK_IN, capacity, sectors, SECTOR, false) == 1);
    print("virtio: serial \"%s\"\n", id);
}

static void use_entropy(void)
{
    static uint32_t words[2][8];
    uint32_t length = virtio_request(&entropy, 0, (struct piece[]){ { words, sizeof words, true } }, 1, false);

    expect("there is no entropy", length > 0 && length <= sizeof words);
    expect("entropy repeats itself", words[0][0] != words[1][0] || words[0][1] != words[1][1]);
    print("virtio: entropy %x %x\n", words[0][0], words[0][1]);
}

static void use_console(void)
{
    static const char text[] = "a line by way of virtio\n";

    virtio_request(&console, 1, (struct piece[]){ { text, 10, false }, { text + 10, sizeof text - 11, false } }, 2, false);
}

static uint32_t function_of(uint32_t round) { return MOVW_R0 | (round & 0xf000) << 4 | (round & 0xfff); }

static void load_code(void)
{
    for (uint32_t round = 1; round <= rounds && !failed; round++) {
        uint32_t *image = (uint32_t *)sectors;

        image[0] = function_of(round);
        image[1] = BX_LR;
        expect("code cannot be written", block_request(BLOCK_OUT, 8 + round % 4, sectors, SECTOR, false) == 0);
        image[0] = 0;
        expect("code cannot be read", block_request(BLOCK_IN, 8 + round % 4, code, SECTOR, false) == 0);
        code_publish(code, 8);
        if (((function)code)() != round)
            stale++;
        /* Sectors that no vCPU has written: on a copy-on-write drive these are the image's own. */
        expect("the disk cannot be read", block_request(BLOCK_IN, 16 + round % 16, sectors, SECTOR, true) == 0);
        store_release(&round_done, round);
    }
    store_release(&over, 1);
}

/* Call the code while it is loaded again and again. It is never older than the last load completed before the call. */
static void call_code(void)
{
    while (!load_acquire(&over)) {
        uint32_t least = load_acquire(&round_done);

        isb();
        if (least && ((function)code)() < least)
            stale++;
        calls++;
    }
}

static void play(unsigned id)
{
    if (id >= active)
        vcpu_retire();
    gic_init_interface();
    irq_enable();
    barrier_wait(&barrier, active);
    if (id == 0) {
        use_block();
        use_entropy();
        use_console();
        if (!(block.features & BLOCK_F_READ_ONLY))
            load_code();
        store_release(&over, 1);
    } else {
        call_code();
    }
    barrier_wait(&barrier, active);
    irq_disable();
}

static bool open(struct virtio *device, const char *name, uint32_t kind, struct ring *rings, unsigned queues, bool elsewhere)
{
    unsigned transport = virtio_find(0, kind);

    device->elsewhere = elsewhere;
    if (transport == VIRTIO_TRANSPORTS || !virtio_open(device, transport, rings, queues, elsewhere ? 2 : 1)) {
        print("virtio: no %s\n", name);
        return false;
    }
    print("virtio: %s at transport %u, version %u\n", name, transport, device->version);
    return true;
}

int main(void)
{
    bool two;

    rounds = testdev_parameter(ROUNDS);
    active = vcpu_count() < 2 ? 1 : 2;
    two = active == 2;
    exception_handlers[IRQ] = handle_irq;
    mmu_enable();
    gic_init_distributor();
    if (!open(&block, "disk", VIRTIO_BLOCK, block_rings, 1, false)
        || !open(&entropy, "entropy", VIRTIO_ENTROPY, entropy_rings, 1, two)
        || !open(&console, "console", VIRTIO_CONSOLE, console_rings, 2, two))
        return 1;
    on_all_vcpus(play);
    print("result: guest=virtio vcpus=%u rounds=%u calls=%u stale=%u interrupts=%u\n", active, round_done, calls, stale,
          block.interrupts + console.interrupts + entropy.interrupts);
    return failed || stale;
}

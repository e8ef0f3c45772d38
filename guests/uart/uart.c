/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A minimal line editor: an interrupt handler echoes the PL011's input, each line is printed reversed, and "quit"
 * passes. The parameter is the number of characters that end the guest without "quit".
 *
 * Interrupts: RX at the trigger level of 8 and the receive timeout for what stays below it, with the FIFO on.
 */
#include "gic.h"
#include "guest.h"

#define PL011_BASE 0x09000000u
#define PL011_DR (PL011_BASE + 0x00)
#define PL011_FR (PL011_BASE + 0x18)
#define PL011_LCR_H (PL011_BASE + 0x2c)
#define PL011_CR (PL011_BASE + 0x30)
#define PL011_IFLS (PL011_BASE + 0x34)
#define PL011_IMSC (PL011_BASE + 0x38)
#define PL011_MIS (PL011_BASE + 0x40)

#define FR_RXFE (1u << 4)
#define INT_RX (1u << 4)
#define INT_RT (1u << 6)
#define PL011_INTID 33u

#define GICD_ISENABLER1 0x08000104u
#define GICD_IPRIORITY_UART (0x08000400u + PL011_INTID)
#define GICD_ITARGETS_UART (0x08000800u + PL011_INTID)

static char line[128];
static unsigned length;
static volatile uint32_t characters, lines, interrupts, strays;
static volatile bool quit;

static bool is_quit(void)
{
    return length == 4 && line[0] == 'q' && line[1] == 'u' && line[2] == 'i' && line[3] == 't';
}

static void end_of_line(void)
{
    pl011_put('\n');
    if (is_quit())
        quit = true;
    pl011_put('<');
    for (unsigned place = length; place; place--)
        pl011_put(line[place - 1]);
    pl011_put('>');
    pl011_put('\n');
    length = 0;
    lines++;
}

static bool on_irq(struct frame *frame)
{
    uint32_t acknowledged = gic_acknowledge();

    (void)frame;
    if (gic_intid(acknowledged) != PL011_INTID) {
        strays++;
        return true;
    }
    interrupts++;
    if (!(read32(PL011_MIS) & (INT_RX | INT_RT)))
        strays++;
    while (!(read32(PL011_FR) & FR_RXFE)) {
        char character = (char)read32(PL011_DR);

        characters++;
        if (character == '\r' || character == '\n') {
            end_of_line();
        } else {
            pl011_put(character);
            if (length < sizeof line)
                line[length++] = character;
        }
    }
    gic_end(acknowledged);
    return true;
}

int main(void)
{
    uint32_t limit = testdev_parameter(0);

    exception_handlers[IRQ] = on_irq;
    gic_init_distributor();
    gic_init_interface();
    *(volatile uint8_t *)GICD_IPRIORITY_UART = 0x80;
    *(volatile uint8_t *)GICD_ITARGETS_UART = 1;
    write32(GICD_ISENABLER1, 1u << (PL011_INTID - 32));
    write32(PL011_CR, 0);
    write32(PL011_LCR_H, 0x70); /* eight bits, FIFO */
    write32(PL011_IFLS, 2u << 3);
    write32(PL011_IMSC, INT_RX | INT_RT);
    write32(PL011_CR, 0x301);
    print("ready\n");
    irq_enable();
    while (!quit && !(limit && characters >= limit)) {
        irq_disable(); /* WFI wakes for an interrupt that is masked, too: none is missed between look and sleep */
        if (!quit && !(limit && characters >= limit))
            wfi();
        irq_enable();
    }
    irq_disable();
    print("result: guest=uart characters=%u lines=%u interrupts=%u strays=%u\n", characters, lines, interrupts, strays);
    return 0;
}

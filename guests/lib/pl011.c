/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ARM PrimeCell UART (PL011), polled. Registers: ARM DDI 0183. */
#include "guest.h"

#define PL011_BASE 0x09000000u
#define PL011_DR (PL011_BASE + 0x00)
#define PL011_FR (PL011_BASE + 0x18)
#define PL011_LCR_H (PL011_BASE + 0x2c)
#define PL011_CR (PL011_BASE + 0x30)

#define FR_TXFF (1u << 5)
#define LCR_H_FEN (1u << 4)
#define LCR_H_WLEN_8 (3u << 5)
#define CR_UARTEN (1u << 0)
#define CR_TXE (1u << 8)

void pl011_init(void)
{
    write32(PL011_LCR_H, LCR_H_WLEN_8 | LCR_H_FEN);
    write32(PL011_CR, CR_UARTEN | CR_TXE);
}

void pl011_put(char character)
{
    while (read32(PL011_FR) & FR_TXFF)
        yield();
    write32(PL011_DR, (uint8_t)character);
}

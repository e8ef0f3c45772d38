/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdarg.h>

#include "guest.h"
#include "sync.h"

static struct ticket_lock console;

static void put_string(const char *text)
{
    while (*text)
        pl011_put(*text++);
}

static void put_decimal(uint32_t value)
{
    char digits[10];
    unsigned count = 0;

    do {
        digits[count++] = '0' + value % 10;
        value /= 10;
    } while (value);
    while (count)
        pl011_put(digits[--count]);
}

static void put_hex(uint32_t value)
{
    for (int shift = 28; shift >= 0; shift -= 4)
        pl011_put("0123456789abcdef"[value >> shift & 0xf]);
}

static void put_formatted(const char *format, va_list arguments)
{
    for (; *format; format++) {
        if (*format != '%') {
            pl011_put(*format);
            continue;
        }
        switch (*++format) {
        case 'u': put_decimal(va_arg(arguments, uint32_t)); break;
        case 'd': {
            int32_t value = va_arg(arguments, int32_t);
            if (value < 0)
                pl011_put('-');
            put_decimal(value < 0 ? -(uint32_t)value : (uint32_t)value);
            break;
        }
        case 'x': put_hex(va_arg(arguments, uint32_t)); break;
        case 's': put_string(va_arg(arguments, const char *)); break;
        case 'c': pl011_put((char)va_arg(arguments, int)); break;
        default: pl011_put(*format); break;
        }
    }
}

void print(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    ticket_acquire(&console);
    put_formatted(format, arguments);
    ticket_release(&console);
    va_end(arguments);
}

/* For last words: the lock's holder may be this very vCPU, or never run again. */
void print_anyway(const char *format, ...)
{
    va_list arguments;

    for (unsigned tries = 0; tries < 1000 && console.next != load_acquire(&console.owner); tries++)
        yield();
    va_start(arguments, format);
    put_formatted(format, arguments);
    va_end(arguments);
}

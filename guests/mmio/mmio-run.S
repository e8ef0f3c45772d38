/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The way into a case and out of it: mmio.h. */
#include "mmio.h"
        .syntax unified
        .arm
        .fpu    neon-vfpv4
        .text
        .global run_context
        .global run_returned
run_context:
        push    {r4-r11, lr}
        push    {r1}
        add     r2, r0, #CONTEXT_D
        vldmia  r2!, {d0-d15}
        vldmia  r2, {d16-d31}
        ldr     r3, [r0, #CONTEXT_FPSCR]
        vmsr    fpscr, r3
        add     r2, r0, #CONTEXT_SP
        ldmia   r2, {sp, lr}^
        add     r2, r0, #CONTEXT_PC
        ldmia   r2, {r3, r4}
        push    {r3, r4}
        ldmia   r0, {r0-r12}
        rfeia   sp!

        /* The exception handler comes back here, in SVC mode, with the stack as it was. */
run_returned:
        pop     {r1}
        add     r2, r1, #CONTEXT_D
        vstmia  r2!, {d0-d15}
        vstmia  r2, {d16-d31}
        vmrs    r3, fpscr
        str     r3, [r1, #CONTEXT_FPSCR]
        pop     {r4-r11, pc}

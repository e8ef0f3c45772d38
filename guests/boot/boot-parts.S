/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parts of boot.c that need registers, modes and instruction sets named: boot.h. */
#include "boot.h"
        .syntax unified
        .arch_extension virt
        .fpu    neon-vfpv4
        .text
        .arm

        .macro  function name
        .global \name
        .type   \name, %function
\name:
        .endm

function access_load
        ldr     r0, [r0]
        bx      lr
function access_store
        str     r0, [r0]
        bx      lr
function access_load_as_user
        mov     r1, r0
        ldrt    r0, [r1], #0
        bx      lr
function access_store_as_user
        mov     r1, r0
        strt    r0, [r1], #0
        bx      lr
function access_call
        bx      r0
function access_undefined
        udf     #0x10
        bx      lr

function store_four
        push    {r4, lr}
        add     r2, r1, #1
        add     r3, r1, #2
        add     r4, r1, #3
        stmia   r0!, {r1-r4}
        pop     {r4, pc}

function call_nest
        push    {r4, lr}                        @ SVC from SVC mode overwrites lr
        svc     #CALL_NEST
        pop     {r4, pc}
function call_inner
        push    {r4, lr}
        svc     #CALL_INNER
        pop     {r4, pc}

function user_run
        push    {r4-r11, lr}
        sub     sp, sp, #12
        str     r1, [sp]
        ldm     sp, {sp}^                       @ User mode's stack
        nop
        mrs     r12, cpsr
        bic     r12, r12, #0x3f
        orr     r12, r12, #0x10
        tst     r0, #1
        orrne   r12, r12, #0x20
        bic     r0, r0, #1
        str     r0, [sp, #4]
        str     r12, [sp, #8]
        mov     r0, r2
        mov     r1, r3
        add     sp, sp, #4
        rfeia   sp!
function user_returned
        pop     {r4-r11, pc}

        /* r0 rounds of a system call each, with a value on the stack; the result is what the calls made of 7. */
function user_rounds_arm
        mov     r4, r0
        mov     r0, #7
        mov     r5, sp
1:      push    {r0, r4}
        svc     #CALL_TRIPLE
        pop     {r2, r3}
        add     r2, r2, r2, lsl #1
        add     r2, r2, #1
        cmp     r0, r2
        cmpeq   r3, r4
        cmpeq   sp, r5
        movne   r0, #0
        svcne   #CALL_EXIT
        subs    r4, r4, #1
        bne     1b
        svc     #CALL_EXIT

        .thumb
function user_rounds_thumb
        mov     r4, r0
        movs    r0, #7
        mov     r5, sp
1:      push    {r0, r4}
        svc     #CALL_TRIPLE
        pop     {r2, r3}
        add     r2, r2, r2, lsl #1
        adds    r2, #1
        cmp     r0, r2
        itt     eq
        cmpeq   r3, r4
        cmpeq   sp, r5
        itt     ne
        movne   r0, #0
        svcne   #CALL_EXIT
        subs    r4, #1
        bne     1b
        svc     #CALL_EXIT

function thumb_it_block
        push    {r4, lr}
        mov     r1, r0
        movs    r0, #0
        cmp     r1, r1
        ittet   eq
        svceq   #CALL_TRIPLE                    @ r0 = 1
        ldreq.w r2, [r1], #4                    @ the page comes in on demand
        movne   r0, #99
        addeq   r0, r0, r2
        itet    ne
        movne   r0, #99
        addeq   r0, r0, #1
        svcne   #CALL_TRIPLE
        pop     {r4, pc}

function access_undefined_thumb
        udf     #0x10
        bx      lr
        .arm

        /* r0: an address that User mode must not read, r1: one of the kernel's functions. Each mishap is skipped. */
function user_trespass
        ldr     r2, [r0]
        str     r2, [r0]
        mrc     p15, 0, r2, c1, c0, 0
        mrs     r3, cpsr
        cps     #0x13                           @ without effect in User mode
        mrs     r4, cpsr
        eor     r0, r3, r4
        svc     #CALL_EXIT

function banked_write
        mrs     r12, cpsr
        mov     r1, r12
        cps     #0x11
        ldmia   r0!, {r8-r14}
        ldr     r2, [r0], #4
        msr     spsr_cxsf, r2
        .irp    mode, 0x12, 0x17, 0x1b
        cps     #\mode
        ldr     sp, [r0], #4
        ldr     lr, [r0], #4
        ldr     r2, [r0], #4
        msr     spsr_cxsf, r2
        .endr
        cps     #0x1f
        ldr     sp, [r0], #4
        ldr     lr, [r0], #4
        msr     cpsr_c, r1
        bx      lr

function banked_read
        mrs     r12, cpsr
        mov     r1, r12
        cps     #0x11
        stmia   r0!, {r8-r14}
        mrs     r2, spsr
        str     r2, [r0], #4
        .irp    mode, 0x12, 0x17, 0x1b
        cps     #\mode
        str     sp, [r0], #4
        str     lr, [r0], #4
        mrs     r2, spsr
        str     r2, [r0], #4
        .endr
        cps     #0x1f
        str     sp, [r0], #4
        str     lr, [r0], #4
        msr     cpsr_c, r1
        bx      lr

function banked_read_directly
        .irp    name, r8_fiq, r9_fiq, r10_fiq, r11_fiq, r12_fiq, sp_fiq, lr_fiq, spsr_fiq, \
                      sp_irq, lr_irq, spsr_irq, sp_abt, lr_abt, spsr_abt, sp_und, lr_und, spsr_und, sp_usr, lr_usr
        mrs     r1, \name
        str     r1, [r0], #4
        .endr
        bx      lr

function vfp_switch
        cmp     r0, #0
        movne   r0, #0x40000000
        vmsr    fpexc, r0
        bx      lr

function vfp_write
        vldmia  r0!, {d0-d15}
        vldmia  r0, {d16-d31}
        vmsr    fpscr, r1
        bx      lr

function vfp_read
        vstmia  r0!, {d0-d15}
        vstmia  r0, {d16-d31}
        vmrs    r0, fpscr
        bx      lr

function vfp_compute
        mov     r2, #0
        vmsr    fpscr, r2
        vldmia  r0, {d0, d1}
        vadd.f64 d2, d0, d1
        vstr    d2, [r1]
        vmov    d3, r2, r2
        vdiv.f64 d4, d0, d3
        vmrs    r0, fpscr
        bx      lr

function device_post_index
        mov     r2, r0
        ldr     r0, [r2], #4
        str     r2, [r1]
        bx      lr

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Entry of the boot vCPU and of the secondaries, and the exception vectors. */
        .syntax unified
        .arch_extension virt
        .arm

        .equ MODE_SVC, 0x13
        .equ STACK_SHIFT, 13                    @ 8 KiB for each vCPU

        .section .text.start, "ax"
        .global _start
_start:
        ldr     r1, =bss_start
        ldr     r2, =bss_end
        mov     r3, #0
1:      cmp     r1, r2
        strlo   r3, [r1], #4
        blo     1b
        mov     r0, #0
        bl      vcpu_setup
        bl      boot_vcpu_main
        b       .

        /* A secondary, started by PSCI CPU_ON with its number as context in r0. */
        .global secondary_entry
secondary_entry:
        bl      vcpu_setup
        bl      secondary_vcpu_main
        b       .

        /* r0: vCPU number, preserved. Stack, vectors, VFP. */
vcpu_setup:
        mcr     p15, 0, r0, c13, c0, 4          @ TPIDRPRW holds the vCPU's number
        ldr     r1, =vcpu_stacks
        add     r2, r0, #1
        add     sp, r1, r2, lsl #STACK_SHIFT
        ldr     r1, =vectors
        mcr     p15, 0, r1, c12, c0, 0          @ VBAR
        mrc     p15, 0, r1, c1, c0, 2           @ CPACR: full access to cp10 and cp11
        orr     r1, r1, #0xf00000
        mcr     p15, 0, r1, c1, c0, 2
        isb
        .fpu    neon-vfpv4
        mov     r1, #0x40000000
        vmsr    fpexc, r1
        .fpu    softvfp
        bx      lr

        .balign 32
vectors:
        b       reset_vector
        b       undefined_vector
        b       supervisor_call_vector
        b       prefetch_abort_vector
        b       data_abort_vector
        b       hyp_trap_vector
        b       irq_vector
        b       fiq_vector

        /*
         * Move to SVC mode with the frame of guest.h on its stack and hand it to exception_dispatch(). An SVC
         * stack that cannot be written is fatal, as it would be for any exception.
         */
        .macro  vector name, kind, return_offset
\name\()_vector:
        .if     \return_offset
        sub     lr, lr, #\return_offset
        .endif
        srsdb   sp!, #MODE_SVC
        cps     #MODE_SVC
        push    {r0-r12, lr}
        mov     r0, #\kind
        b       exception_common
        .endm

        vector  reset, 0, 0
        vector  undefined, 1, 0                 @ 4 or 2 by the state it came from: exception_dispatch() does it
        vector  supervisor_call, 2, 0
        vector  prefetch_abort, 3, 4
        vector  data_abort, 4, 8
        vector  hyp_trap, 5, 0
        vector  irq, 6, 4
        vector  fiq, 7, 4

exception_common:
        mov     r1, sp
        mov     r4, sp
        bic     sp, sp, #7                      @ the exception may have come between two pushes
        bl      exception_dispatch
        mov     sp, r4
        clrex                                   @ an exclusive pair that the exception split must fail
        pop     {r0-r12, lr}
        rfeia   sp!

        .section .noinit, "aw", %nobits
        .balign 4096
vcpu_stacks:
        .space  64 << STACK_SHIFT

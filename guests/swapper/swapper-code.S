/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The instructions of the fetch race. r5 is the base, in the middle of the accessor's device memory; r1 = 8.
 *
 * No two versions leave the same registers, and none can be mended from halves of two others: each Thumb version
 * differs from the others in both its halfwords. A wrong decode that is two bytes long goes on with the second
 * halfword of what is mapped, so these are harmless instructions by themselves.
 */
#include "routines.h"
        .syntax unified
        .text
        .global arm_versions
        .global thumb_versions
        .global arm_spoils
        .global thumb_spoils
        .global call_routine
        .global call_returned
        .global call_landing

        .macro  version instruction:vararg
        \instruction
        bx      lr
        .endm
        .macro  wide_version instruction:vararg
        \instruction
        bx      lr
        nop
        .endm
        .macro  check_count count, words
        .if     (. - start) - \count * \words * 4
        .error  "not as many as routines.h says"
        .endif
        .endm

        .arm
        .balign 8
arm_versions:
        .set    start, .
        version ldr r6, [r5], #4
        version ldrb r7, [r5], #1
        version ldrh r2, [r5, #-2]!
        version strh r4, [r5], #2
        version ldrd r8, r9, [r5], #8
        version ldmdb r5!, {r0, r3}
        version str r10, [r5, #-4]!
        version ldrsb r12, [r5], r1
        check_count VERSIONS, 2

        .thumb
thumb_versions:
        .set    start, .
        wide_version ldr.w r6, [r5], #4
        wide_version ldrb.w r7, [r5], #1
        wide_version ldrh.w r2, [r5, #-2]!
        wide_version strh.w r4, [r5], #2
        wide_version ldrd r8, r9, [r5], #8
        wide_version ldmdb.w r5!, {r0, r3}
        wide_version str.w r10, [r5, #-4]!
        wide_version ldrsb.w r12, [r5], #8
        check_count VERSIONS, 2

        /* What frames hold once they are used for something else, any two words in a row: other accesses, and none. */
        .arm
arm_spoils:
        .set    start, .
        .word   0xffffffff
        .word   0
        udf     #0
        b       .
        str     r6, [r5], #4
        strb    r7, [r5], #1
        ldrh    r6, [r5], #4
        ldrsh   r2, [r5, #-2]!
        strh    r4, [r5], #-2
        ldr     r4, [r5], #2
        strd    r8, r9, [r5], #8
        stmdb   r5!, {r0, r3}
        ldmia   r5!, {r0, r3}
        strb    r10, [r5, #-4]!
        swp     r6, r7, [r5]
        ldr     r5, [r5]
        check_count SPOILS, 1

        .thumb
thumb_spoils:
        .set    start, .
        .hword  0xffff, 0xffff
        .hword  0, 0
        udf.w   #0
        b.w     .
        str.w   r6, [r5], #4
        strb.w  r7, [r5], #1
        ldrh.w  r6, [r5], #4
        ldrsh.w r2, [r5, #-2]!
        strh.w  r4, [r5], #-2
        ldr.w   r4, [r5], #2
        strd    r8, r9, [r5], #8
        stmdb   r5!, {r0, r3}
        ldmia.w r5!, {r0, r3}
        strb.w  r10, [r5, #-4]!
        stmia   r5!, {r6, r7}                   @ narrow
        nop
        ldr.w   r5, [r5]
        check_count SPOILS, 1

        .arm
call_routine:
        push    {r4-r11, lr}
        add     r2, r0, #CONTEXT_SP
        ldmia   r2, {sp, lr}^
        add     r2, r0, #CONTEXT_PC
        ldmia   r2, {r3, r4}
        push    {r3, r4}
        ldmia   r0, {r0-r12}
        rfeia   sp!

        /* The exception handler comes back here, in SVC mode, with the stack as it was. */
call_returned:
        pop     {r4-r11, pc}

call_landing:
        svc     #0

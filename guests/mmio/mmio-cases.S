/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The instructions that mmio.c runs on memory and on the device.
 *
 * On entry r1, r7, r8 and sp hold the base, r3 = 8, r4 = -4, r10 = 2, r12 = 16; all else is random. The mode is
 * System, or User where asked for. A case ends with SVC; after an instruction that must branch comes UDF.
 */
#include "mmio.h"
        .syntax unified
        .fpu    neon-vfpv4
        .set    case_flags, 0
        .set    case_reach, 0
        .set    case_prelude, 0
        .set    isa, 0

        .section .rodata.cases, "a"
        .balign 4
        .global cases_start
cases_start:
        .text

        .macro  entry landing_isa, name:vararg
        .pushsection .rodata.cases
        .word   1b + isa, 9f, 2b + \landing_isa
        .hword  3b - 1b, case_reach
        .byte   case_flags, case_prelude
        .hword  0
        .popsection
        .pushsection .rodata.names, "a"
9:      .asciz  "\name"
        .popsection
        .endm

        .macro  group name
        .pushsection .rodata.cases
        .word   0, 9f, 0, 0, 0
        .popsection
        .pushsection .rodata.names, "a"
9:      .asciz  "\name"
        .popsection
        .endm

        /* A case of several instructions: open, the instructions, and done with its name. */
        .macro  open
        .balign 4
1:
        .endm
        .macro  done name:vararg
2:      svc     #0
3:      entry   isa, \name
        .endm
        .macro  done_branch name:vararg
        udf     #0
        done    \name
        .endm

        /* A case of one instruction; one that branches; one that branches and changes state. */
        .macro  I instruction:vararg
        open
        \instruction
        done    \instruction
        .endm
        .macro  B instruction:vararg
        open
        \instruction
        done_branch \instruction
        .endm
        .macro  X instruction:vararg
        open
        \instruction
        udf     #0
        .if     isa
        .balign 4
        .arm
2:      svc     #0
3:      entry   0, \instruction @ to ARM
        .thumb
        .else
        .thumb
2:      svc     #0
3:      entry   1, \instruction @ to Thumb
        .arm
        .endif
        .endm

        .macro  in_arm
        .arm
        .set    isa, 0
        .endm
        .macro  in_thumb
        .thumb
        .set    isa, 1
        .endm

        /* ------------------------------------------------------------------ A32 */
        in_arm

        group   "A32 word and byte"
        .irp    op, ldr, str, ldrb, strb
        I       \op r2, [r1]
        I       \op r2, [r1, #12]
        I       \op r2, [r1, #-12]
        I       \op r2, [r1, r3]
        I       \op r2, [r1, -r3]
        I       \op r2, [r1, r10, lsl #2]
        I       \op r2, [r1, -r12, lsr #1]
        I       \op r2, [r1, r4, asr #1]
        I       \op r2, [r1, -r12, ror #2]
        I       \op r2, [r1, #4]!
        I       \op r2, [r1, #-8]!
        I       \op r2, [r1, r3]!
        I       \op r2, [r1, -r10, lsl #3]!
        I       \op r2, [r1, r4]!
        I       \op r2, [r1], #4
        I       \op r2, [r1], #-4
        I       \op r2, [r1], #4095
        I       \op r2, [r1], #-4095
        I       \op r2, [r1], r3
        I       \op r2, [r1], -r3
        I       \op r2, [r1], r10, lsl #31
        I       \op r2, [r1], r4, asr #32
        I       \op r2, [r1], r5, lsr #32
        I       \op r2, [r1], -r5, ror #7
        I       \op r2, [r1], r5, rrx
        I       \op r14, [r8], #4
        I       \op r2, [sp], #8
        .endr
        I       str r1, [r1, #4]
        I       ldr r1, [r1, #4]

        group   "A32 half and signed"
        .irp    op, ldrh, strh, ldrsh, ldrsb
        I       \op r2, [r1]
        I       \op r2, [r1, #6]
        I       \op r2, [r1, #-6]
        I       \op r2, [r1, r3]
        I       \op r2, [r1, -r3]
        I       \op r2, [r1, #2]!
        I       \op r2, [r1, #-2]!
        I       \op r2, [r1, r3]!
        I       \op r2, [r1, -r3]!
        I       \op r2, [r1], #2
        I       \op r2, [r1], #-255
        I       \op r2, [r1], r3
        I       \op r2, [r1], -r5
        .endr

        group   "A32 unaligned"
        .irp    offset, 1, 2, 3, -1
        I       ldr r2, [r1, #\offset]
        I       str r2, [r1, #\offset]
        I       ldr r2, [r1, #\offset]!
        I       str r2, [r1, #\offset]!
        I       ldrh r2, [r1, #\offset]
        I       strh r2, [r1, #\offset]
        I       ldrsh r2, [r1, #\offset]!
        .endr

        group   "A32 unprivileged"
        .irp    op, ldrt, strt, ldrbt, strbt
        I       \op r2, [r1], #0
        I       \op r2, [r1], #4
        I       \op r2, [r1], #-4
        I       \op r2, [r1], r3
        I       \op r2, [r1], -r10, lsl #3
        .endr
        .irp    op, ldrht, strht, ldrsht, ldrsbt
        I       \op r2, [r1], #2
        I       \op r2, [r1], #-2
        I       \op r2, [r1], r3
        I       \op r2, [r1], -r3
        .endr

        group   "A32 dual"
        .irp    op, ldrd, strd
        I       \op r4, r5, [r1]
        I       \op r4, r5, [r1, #8]
        I       \op r4, r5, [r1, #-8]
        I       \op r4, r5, [r1, r3]
        I       \op r4, r5, [r1, -r3]
        I       \op r4, r5, [r1, #16]!
        I       \op r4, r5, [r1, #-16]!
        I       \op r4, r5, [r1, r3]!
        I       \op r4, r5, [r1], #8
        I       \op r4, r5, [r1], #-8
        I       \op r4, r5, [r1], -r3
        I       \op r4, r5, [r1, #4]
        .endr

        group   "A32 multiple"
        .irp    mode, ia, ib, da, db
        I       ldm\mode r1, {r2, r5, r9}
        I       ldm\mode r1!, {r2, r5, r9}
        I       ldm\mode r1, {r0, r1, r2}
        I       ldm\mode r1!, {r2}
        I       stm\mode r1, {r2, r5, r9}
        I       stm\mode r1!, {r2, r5, r9}
        I       stm\mode r1, {r0, r1, r2}
        I       stm\mode r1!, {r1, r2}
        I       stm\mode r1!, {lr}
        .endr
        .set    case_flags, CASE_WIDE
        .irp    mode, ia, ib, da, db
        I       ldm\mode r1, {r0-r12, lr}
        I       ldm\mode sp!, {r0-r12, lr}
        I       stm\mode r1, {r0-r12, lr}
        I       stm\mode r8!, {r0-r7, r9-r12, lr}
        open
        cps     #0x12
        ldm\mode r1, {r8-r14}^
        done    ldm\mode r1, {r8-r14}^ in IRQ mode
        open
        cps     #0x11
        mov     r9, #1                          @ FIQ's own r9 and r10, which must not be stored
        mov     r10, r9
        stm\mode r1, {r8-r14}^
        cps     #0x1f
        done    stm\mode r1, {r8-r14}^ in FIQ mode
        open
        cps     #0x11
        ldm\mode r1, {r2, r8-r12}^
        cps     #0x1f
        done    ldm\mode r1, {r2, r8-r12}^ in FIQ mode
        .endr
        .set    case_flags, 0

        group   "A32 stack"
        I       push {r2}
        I       push {r2, r5, lr}
        I       pop {r2}
        I       pop {r2, r5, lr}
        .set    case_flags, CASE_WIDE
        I       push {r0-r12, lr}
        I       pop {r0-r12, lr}
        .set    case_flags, 0

        group   "A32 exclusive"
        .irp    op, ldrex, ldrexb, ldrexh
        I       \op r2, [r1]
        .endr
        I       ldrexd r4, r5, [r1]
        .irp    size, , b, h
        open
        ldrex\size r2, [r1]
        strex\size r0, r5, [r1]
        done    ldrex\size, strex\size
        open
        ldrex\size r2, [r1]
        clrex
        strex\size r0, r5, [r1]
        done    ldrex\size, clrex, strex\size
        open
        clrex
        strex\size r0, r5, [r1]
        done    clrex, strex\size
        open
        ldrex\size r2, [r1]
        strex\size r0, r5, [r1]
        strex\size r9, r6, [r1]
        done    ldrex\size, strex\size twice
        .endr
        open
        ldrexd  r4, r5, [r1]
        strexd  r0, r2, r3, [r1]
        done    ldrexd, strexd
        open
        clrex
        strexd  r0, r2, r3, [r1]
        done    clrex, strexd
        open
        ldrex   r2, [r1]
        str     r5, [r1, #4]
        strex   r0, r6, [r1]
        ldr     r9, [r1]
        done    ldrex, str beside, strex, ldr

        group   "A32 swap"
        .irp    op, swp, swpb
        I       \op r2, r5, [r1]
        I       \op r2, r2, [r1]
        I       \op r9, lr, [r8]
        .endr

        .macro  vector_multiple op
        I       \op\()ia r1, {s1-s5}
        I       \op\()ia r1!, {s1-s4}
        I       \op\()db r1!, {s6-s8}
        I       \op\()ia r1, {d1-d3}
        I       \op\()ia r1!, {d15-d18}
        I       \op\()db r1!, {d28-d31}
        .endm
        .macro  vector_cases
        .irp    op, vldr, vstr
        I       \op s0, [r1]
        I       \op s3, [r1, #4]
        I       \op s30, [r1, #-12]
        I       \op d5, [r1]
        I       \op d5, [r1, #-8]
        I       \op d20, [r1, #16]
        I       \op d8, [sp, #8]
        .endr
        vector_multiple vldm
        vector_multiple vstm
        I       vpush {d8}
        I       vpush {s16-s19}
        I       vpop {d8-d10}
        I       vpop {s17}
        .set    case_flags, CASE_WIDE
        I       vldmia r1!, {d0-d15}
        I       vstmdb r1!, {d16-d31}
        I       vpush {d0-d15}
        .set    case_flags, 0
        .endm

        .macro  neon_1 op
        I       \op\().8 {d0}, [r1]
        I       \op\().16 {d0, d1}, [r1]!
        I       \op\().32 {d0-d2}, [r1], r3
        I       \op\().64 {d20-d23}, [r1]!
        I       \op\().8 {d3[5]}, [r1]
        I       \op\().16 {d3[2]}, [r1]!
        I       \op\().32 {d17[1]}, [r1], r12
        .endm
        .macro  neon_2 op
        I       \op\().8 {d0, d1}, [r1]
        I       \op\().16 {d4, d6}, [r1]!
        I       \op\().32 {d0-d3}, [r1], r3
        I       \op\().16 {d4[1], d6[1]}, [r1]!
        .endm
        .macro  neon_3 op
        I       \op\().8 {d0-d2}, [r1]!
        I       \op\().32 {d1, d3, d5}, [r1], r3
        I       \op\().8 {d0[7], d1[7], d2[7]}, [r1]!
        .endm
        .macro  neon_4 op
        I       \op\().16 {d0-d3}, [r1]!
        I       \op\().32 {d16, d18, d20, d22}, [r1]
        I       \op\().32 {d0[1], d1[1], d2[1], d3[1]}, [r1]
        .endm
        .macro  neon_cases
        neon_1  vld1
        neon_1  vst1
        neon_2  vld2
        neon_2  vst2
        neon_3  vld3
        neon_3  vst3
        neon_4  vld4
        neon_4  vst4
        I       vld1.8 {d2[]}, [r1]
        I       vld1.16 {d2[], d3[]}, [r1]!
        I       vld2.32 {d2[], d4[]}, [r1]
        I       vld3.8 {d2[], d3[], d4[]}, [r1], r3
        I       vld4.16 {d2[], d3[], d4[], d5[]}, [r1]!
        .endm

        group   "A32 VFP"
        vector_cases
        group   "A32 NEON"
        neon_cases

        group   "A32 load of PC"
        .set    case_flags, CASE_BRANCH
        B       ldr pc, [r1]
        B       ldr pc, [r1, #-4]
        B       ldr pc, [r1, r3]
        B       ldr pc, [r1, #4]!
        B       ldr pc, [r1], #4
        B       ldr pc, [r1], -r3
        B       ldm r1, {pc}
        B       ldm r1!, {r2, r5, pc}
        B       ldmib r1, {r2, pc}
        B       ldmdb r1!, {r2, r5, pc}
        B       pop {pc}
        B       pop {r2, r5, pc}
        X       ldr pc, [r1]
        X       ldr pc, [r1], #4
        X       ldr pc, [r1, #-4]!
        X       ldm r1!, {r2, r5, pc}
        X       pop {r2, pc}
        open
        cps     #0x12
        movw    r9, #0x01f                      @ back to System mode
        movt    r9, #0x9000
        msr     spsr_cxsf, r9
        ldm     r1!, {r2, r5, pc}^
        done_branch ldm r1!, {r2, r5, pc}^ in IRQ mode

        group   "A32 RFE and SRS"
        .set    case_flags, CASE_RETURN
        B       rfeia r1
        B       rfeia r1!
        B       rfedb r1!
        .set    case_flags, 0
        .irp    mode, ia, ib, da, db
        open
        cps     #0x12
        mov     sp, r1
        movw    r9, #0x01f
        msr     spsr_cxsf, r9
        mov     lr, r5
        srs\mode sp, #0x12
        done    srs\mode sp, 0x12
        open
        cps     #0x1b
        mov     sp, r1
        cps     #0x12
        movw    r9, #0x01f
        movt    r9, #0x6000
        msr     spsr_cxsf, r9
        mov     lr, r5
        srs\mode sp!, #0x1b
        cps     #0x1b
        mov     r2, sp
        done    srs\mode sp!, 0x1b in IRQ mode
        .endr

        group   "A32 conditional"
        .set    case_flags, CASE_BOTH
        I       ldreq r2, [r1], #4
        I       ldrne r2, [r1, #4]!
        I       streq r2, [r1], #4
        I       ldmne r1!, {r2, r5}
        I       stmeq r1!, {r2, r5}
        I       pushne {r2, r5}
        I       vldreq d3, [r1]
        I       strdne r4, r5, [r1], #8
        .set    case_flags, 0

        .macro  big_endian instruction:vararg
        open
        setend  be
        \instruction
        done    \instruction big-endian
        .endm

        .macro  big_endian_single op
        big_endian \op r2, [r1]
        big_endian \op r2, [r1], #4
        big_endian \op\()h r2, [r1], #2
        big_endian \op\()b r2, [r1], #1
        big_endian \op\()d r4, r5, [r1], #8
        .endm
        .macro  big_endian_cases
        big_endian_single ldr
        big_endian_single str
        big_endian ldrsh r2, [r1, #2]
        big_endian ldrsh r2, [r1, #2]!
        big_endian ldm r1!, {r2, r5, r6}
        big_endian stm r1!, {r2, r5, r6}
        big_endian push {r2, r5, r6}
        big_endian vldr s5, [r1]
        big_endian vldr d5, [r1]
        big_endian vstr d5, [r1, #8]
        big_endian vldm r1!, {d2-d4}
        big_endian vstm r1!, {s2-s4}
        big_endian vld1.32 {d0, d1}, [r1]!
        big_endian vld2.16 {d0, d1}, [r1]!
        big_endian vst1.64 {d0}, [r1]
        open
        setend  be
        ldrex   r2, [r1]
        strex   r0, r5, [r1]
        done    ldrex, strex big-endian
        open
        setend  be
        ldrexd  r4, r5, [r1]
        strexd  r0, r2, r3, [r1]
        done    ldrexd, strexd big-endian
        .endm

        group   "A32 big-endian"
        big_endian_cases
        big_endian swp r2, r5, [r1]
        big_endian str r2, [r1, #1]
        big_endian ldr r2, [r1, #3]

        group   "A32 User mode"
        .set    case_flags, CASE_USER
        I       ldr r2, [r1], #4
        I       str r2, [r1, #4]!
        I       ldrsh r2, [r1], -r3
        I       ldm r1!, {r2, r5, r9}
        I       push {r2, r5, lr}
        I       ldrd r4, r5, [r1], #8
        I       vstm r1!, {d0-d3}

        group   "A32 literal"
        .set    case_flags, CASE_LITERAL
        .set    case_reach, 3992
        I       ldr r2, [pc, #3992]
        I       ldrb r2, [pc, #3992]
        .set    case_reach, 248
        I       ldrh r2, [pc, #248]
        I       ldrsh r2, [pc, #248]
        I       ldrsb r2, [pc, #248]
        I       ldrd r4, r5, [pc, #248]
        I       vldr d3, [pc, #248]
        I       vldr s3, [pc, #248]
        .set    case_reach, 8
        I       ldr r2, [pc, r3]
        .set    case_reach, 0
        .set    case_flags, 0

        /* ------------------------------------------------------------------ Thumb */
        in_thumb

        group   "T16"
        .irp    op, ldr, str, ldrb, strb, ldrh, strh
        I       \op\().n r2, [r1]
        I       \op\().n r2, [r1, #12]
        I       \op\().n r2, [r1, r3]
        .endr
        I       ldrsb.n r2, [r1, r3]
        I       ldrsh.n r2, [r1, r3]
        I       ldr.n r2, [sp, #12]
        I       str.n r2, [sp, #12]
        I       ldm.n r1!, {r2, r5}
        I       ldm.n r1, {r1, r2}
        I       stm.n r1!, {r2, r5, r6}
        I       push.n {r2}
        I       push.n {r2, r5, lr}
        I       pop.n {r2}
        I       pop.n {r2, r5}

        group   "T32 word and byte"
        .irp    op, ldr, str, ldrb, strb
        I       \op\().w r2, [r1]
        I       \op\().w r9, [r8, #20]
        I       \op\().w r9, [r8, #-20]
        I       \op\().w r2, [r1, r10, lsl #2]
        I       \op\().w r2, [r1, r3]
        I       \op\().w r2, [r1, #4]!
        I       \op\().w r2, [r1, #-8]!
        I       \op\().w r2, [r1], #4
        I       \op\().w r2, [r1], #-255
        I       \op\().w lr, [r8], #255
        I       \op\().w r2, [sp], #8
        .endr
        I       ldr.w r2, [r1, #3]
        I       str.w r2, [r1, #1]

        group   "T32 half and signed"
        .irp    op, ldrh, strh, ldrsh, ldrsb
        I       \op\().w r2, [r1, #6]
        I       \op\().w r9, [r8, #-6]
        I       \op\().w r2, [r1, r10, lsl #2]
        I       \op\().w r2, [r1, #2]!
        I       \op\().w r2, [r1, #-2]!
        I       \op\().w r2, [r1], #2
        I       \op\().w r2, [r1], #-2
        .endr

        group   "T32 unprivileged"
        .irp    op, ldrt, strt, ldrbt, strbt, ldrht, strht, ldrsht, ldrsbt
        I       \op r2, [r1]
        I       \op r9, [r8, #20]
        .endr

        group   "T32 dual"
        .irp    op, ldrd, strd
        I       \op r2, r9, [r1]
        I       \op r2, r9, [r1, #8]
        I       \op r2, r9, [r1, #-8]
        I       \op r2, r9, [r1, #16]!
        I       \op r2, r9, [r1, #-16]!
        I       \op r2, r9, [r1], #8
        I       \op r2, r9, [r1], #-1020
        .endr

        group   "T32 multiple and stack"
        .irp    mode, ia, db
        I       ldm\mode\().w r1, {r2, r5, r9}
        I       ldm\mode\().w r8!, {r2, r5, lr}
        I       stm\mode\().w r1, {r2, r5, r9}
        I       stm\mode\().w r8!, {r2, r5, lr}
        .endr
        I       push.w {r8}
        I       push.w {r2, r9, lr}
        I       pop.w {r9}
        I       pop.w {r2, r9, lr}
        .set    case_flags, CASE_WIDE
        I       ldm.w sp!, {r0-r12, lr}
        I       push.w {r0-r12, lr}
        .set    case_flags, 0

        group   "T32 exclusive"
        I       ldrex r2, [r1, #16]
        I       ldrexb r2, [r1]
        I       ldrexh r2, [r1]
        I       ldrexd r2, r9, [r1]
        open
        ldrex   r2, [r1, #4]
        strex   r0, r5, [r1, #4]
        done    ldrex, strex
        open
        clrex
        strex   r0, r5, [r1, #4]
        done    clrex, strex
        .irp    size, b, h
        open
        ldrex\size r2, [r1]
        strex\size r0, r5, [r1]
        done    ldrex\size, strex\size
        .endr
        open
        ldrexd  r2, r9, [r1]
        strexd  r0, r5, r6, [r1]
        done    ldrexd, strexd

        group   "T32 VFP"
        vector_cases
        group   "T32 NEON"
        neon_cases

        group   "Thumb load of PC"
        .set    case_flags, CASE_BRANCH
        B       ldr.w pc, [r1]
        B       ldr.w pc, [r1, #-4]
        B       ldr.w pc, [r1, r10, lsl #2]
        B       ldr.w pc, [r1, #4]!
        B       ldr.w pc, [r1], #4
        B       ldm.w r1!, {r2, r5, pc}
        B       ldmdb.w r1!, {r2, r5, pc}
        B       pop.n {pc}
        B       pop.n {r2, r5, pc}
        B       pop.w {r2, r9, pc}
        X       ldr.w pc, [r1], #4
        X       ldm.w r1!, {r2, r5, pc}
        X       pop.n {r2, pc}

        group   "Thumb table branch, RFE and SRS"
        .set    case_flags, CASE_TABLE
        .irp    table, "tbb [r1, r3]", "tbh [r1, r3, lsl #1]"
        open
        \table
        udf     #0
        udf     #0
        done    \table
        .endr
        .set    case_flags, CASE_RETURN
        B       rfeia r1!
        B       rfedb r1
        .set    case_flags, 0
        open
        cps     #0x12
        mov     sp, r1
        movw    r9, #0x01f
        msr     spsr_cxsf, r9
        mov     lr, r5
        srsdb   sp!, #0x12
        mov     r2, sp
        done    srsdb sp!, 0x12

        group   "IT block"
        .set    case_flags, CASE_BOTH
        open
        it      eq
        ldreq.w r2, [r1], #4
        done    it eq: ldr post
        open
        ite     ne
        strne.w r2, [r1, #4]!
        ldreq.w r2, [r1], #8
        done    ite ne: str pre, ldr post
        open
        ittee   eq
        ldreq.w r2, [r1], #4
        ldreq.w r5, [r1], #4
        strne.w r2, [r1], #8
        strne.w r5, [r1], #8
        done    ittee eq: ldr, ldr, str, str
        open
        itttt   ne
        popne.n {r2}
        popne.n {r5}
        pushne.n {r6}
        ldrne.w r9, [r1, #-4]!
        done    itttt ne: pop, pop, push, ldr
        open
        itete   eq
        ldmeq.n r1!, {r2, r5}
        stmne.n r1!, {r2, r5}
        addeq   r6, r6, #1
        subne   r6, r6, #1
        done    itete eq: ldm, stm, add, sub
        open
        itt     eq
        vldreq  d3, [r1]
        vstmeq  r1!, {d3-d5}
        done    itt eq: vldr, vstm
        open
        itt     ne
        ldrexne r2, [r1]
        strexne r0, r5, [r1]
        done    itt ne: ldrex, strex
        open
        ittt    le
        ldrle.w r2, [r1], #4
        ldrdle  r5, r6, [r1], #8
        strle.n r2, [r1]
        done    ittt le: ldr, ldrd, str
        .set    case_flags, CASE_BOTH | CASE_BRANCH
        open
        it      eq
        ldreq.w pc, [r1], #4
        add.w   r9, r9, #1                      @ tells a branch from none
        done    it eq: ldr pc
        open
        itt     ne
        ldrne.w r2, [r1], #4
        popne.n {r5, pc}
        add.w   r9, r9, #1
        done    itt ne: ldr, pop pc
        .set    case_flags, 0

        group   "Thumb big-endian"
        big_endian_cases

        group   "Thumb User mode"
        .set    case_flags, CASE_USER
        I       ldr.w r2, [r1], #4
        I       str.w r2, [r1, #4]!
        I       pop.n {r2, r5}
        I       stmdb.w r8!, {r2, r5, lr}
        .set    case_flags, CASE_USER | CASE_BOTH
        open
        itt     eq
        ldreq.w r2, [r1], #4
        streq.w r2, [r1], #4
        done    itt eq: ldr, str

        group   "Thumb literal"
        .set    case_flags, CASE_LITERAL
        .set    case_reach, 3992
        I       ldr.w r2, [pc, #3992]
        I       ldrb.w r2, [pc, #3992]
        I       ldrh.w r2, [pc, #3992]
        I       ldrsb.w r2, [pc, #3992]
        I       ldrsh.w r2, [pc, #3992]
        open
        nop.n
        ldr.w   r2, [pc, #3992]
        done    ldr.w r2, [pc, 3992] at an odd halfword
        .set    case_reach, 248
        I       ldr.n r2, [pc, #248]
        I       ldrd r2, r9, [pc, #248]
        I       vldr d3, [pc, #248]
        open
        nop.n
        vldr    s3, [pc, #248]
        done    vldr s3, [pc, 248] at an odd halfword
        .set    case_reach, 0

        group   "Thumb across two pages"
        .set    case_flags, CASE_STRADDLE
        I       ldr.w r2, [r1]
        I       str.w r2, [r1]
        I       ldr.w r2, [r1], #4
        I       str.w r2, [r1, #4]!
        I       ldrsb.w r2, [r1], #-1
        I       ldrd r2, r9, [r1], #8
        I       ldm.w r8!, {r2, r5, r9}
        I       push.w {r2, r9, lr}
        I       vldm r1!, {d2-d5}
        I       vst1.32 {d0, d1}, [r1]!
        open
        ldrex   r2, [r1]
        strex   r0, r5, [r1]
        done    ldrex, strex
        .set    case_flags, CASE_STRADDLE | CASE_BRANCH
        B       ldr.w pc, [r1], #4
        .set    case_flags, CASE_STRADDLE | CASE_BOTH
        .set    case_prelude, 2
        open
        itt     eq
        ldreq.w r2, [r1], #4
        streq.w r2, [r1], #4
        done    itt eq: ldr, str

        .section .rodata.cases
        .global cases_end
cases_end:

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* uint32_t call_X(operation, parameter): the call to the host by instruction X. */
        .syntax unified
        .text

        .macro  call name, state, instruction
        .balign 4
        .global \name
        .type   \name, %function
        .\state
\name:  push    {r4, lr}                        @ an SVC from Supervisor mode would take LR with it
        \instruction
        pop     {r4, pc}
        .endm

        call    call_svc, arm, "svc #0x123456"
        call    call_hlt, arm, ".inst 0xe10f0070"
        call    call_svc_thumb, thumb, "svc #0xab"
        call    call_hlt_thumb, thumb, ".inst.n 0xbabc"
        call    call_bkpt_thumb, thumb, "bkpt #0xab"

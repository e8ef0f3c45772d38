/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Never exits: only a kick stops this vCPU. */
        .section .text.start, "ax"
        .arm
        .global _start
_start: b       _start

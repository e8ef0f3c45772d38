# SPDX-License-Identifier: GPL-2.0-or-later
"""GICv2 without the Security Extensions, as QEMU's `virt` board has it: ARM IHI 0048B.

`state` holds the interrupts and decides which of them each vCPU sees; `distributor` and `cpu_interface` are
the two register windows that a guest programs it through. Nothing here does I/O: accesses and line levels
come in, and line words for the vCPUs come out.
"""

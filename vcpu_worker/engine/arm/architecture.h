/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The bits and modes of ARMv7 that the engine names (ARM DDI 0406C, B4.1). */
#ifndef ALLSTOP_ENGINE_ARM_ARCHITECTURE_H
#define ALLSTOP_ENGINE_ARM_ARCHITECTURE_H

#define HCR_VM (1u << 0)
#define HCR_SWIO (1u << 1)
#define HCR_FMO_IMO_AMO (7u << 3)
#define HCR_VF (1u << 6)
#define HCR_VI (1u << 7)
#define HCR_TWI (1u << 13)
#define HCR_TSC (1u << 19)
#define HCR_TTLB (1u << 25)

#define SCR_NS (1u << 0)
#define SCR_HCE (1u << 8)
#define NSACR_CP10_CP11 (3u << 10)
#define HDCR_HPMN_ALL 6u /* all event counters are the guest's */
#define VTCR_RES1 (1u << 31)
#define VTCR_START_AT_LEVEL_1 (1u << 6)
#define CNTHCTL_PL1PCTEN (1u << 0)
#define CNTHCTL_PL1PCEN (1u << 1)

#define SCTLR_M (1u << 0)
#define SCTLR_V (1u << 13)
#define SCTLR_XP (1u << 23)
#define SCTLR_EE (1u << 25)
#define SCTLR_AFE (1u << 29)
#define SCTLR_TE (1u << 30)
#define HIGH_VECTORS 0xffff0000u /* where they are with SCTLR.V */
#define VECTORS_BYTES 0x20u

#define TTBCR_N 7u
#define TTBCR_PD0 (1u << 4)
#define TTBCR_PD1 (1u << 5)
#define TTBCR_EAE (1u << 31)

#define FSR_LPAE (1u << 9) /* DFSR and IFSR: the status is of the long-descriptor format */
#define DFSR_WNR (1u << 11)

#define PSR_MODE 0x1fu
#define PSR_T (1u << 5)
#define PSR_F (1u << 6)
#define PSR_I (1u << 7)
#define PSR_A (1u << 8)
#define PSR_E (1u << 9)
#define PSR_IT 0x0600fc00u
#define PSR_J (1u << 24)
#define MODE_USR 0x10u
#define MODE_SVC 0x13u
#define MODE_ABT 0x17u
#define MODE_HYP 0x1au
#define MODE_UND 0x1bu

#endif

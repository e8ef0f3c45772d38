/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The bits of HCR and CPSR, and the modes, that the engine names (ARM DDI 0406C). */
#ifndef ALLSTOP_ARCHITECTURE_H
#define ALLSTOP_ARCHITECTURE_H

#define HCR_VM (1u << 0)
#define HCR_SWIO (1u << 1)
#define HCR_FMO_IMO_AMO (7u << 3)
#define HCR_VF (1u << 6)
#define HCR_VI (1u << 7)
#define HCR_TWI (1u << 13)
#define HCR_TSC (1u << 19)
#define HCR_TTLB (1u << 25)

#define PSR_T (1u << 5)
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

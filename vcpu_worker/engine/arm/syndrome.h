/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The syndrome of an exception to EL2: HSR, decoded once at the exit (ARM DDI 0406C, B3.13.6). */
#ifndef ALLSTOP_ENGINE_ARM_SYNDROME_H
#define ALLSTOP_ENGINE_ARM_SYNDROME_H

#include <stdbool.h>
#include <stdint.h>

enum exception_class {
    CLASS_UNKNOWN = 0x00,
    CLASS_WFX = 0x01,
    CLASS_CP15 = 0x03,    /* MCR, MRC */
    CLASS_CP15_64 = 0x04, /* MCRR, MRRC */
    CLASS_CP14 = 0x05,
    CLASS_CP14_TRANSFER = 0x06, /* LDC, STC */
    CLASS_VECTOR = 0x07,        /* VFP and NEON */
    CLASS_CP10 = 0x08,          /* VMRS */
    CLASS_CP14_64 = 0x0c,
    CLASS_SVC = 0x11,
    CLASS_HVC = 0x12,
    CLASS_SMC = 0x13,
    CLASS_PREFETCH_ABORT = 0x20, /* of a lower exception level */
    CLASS_DATA_ABORT = 0x24,
} __attribute__((packed));

/* A field of one class means nothing for another, except those that every class has. Small, for each exit copies it. */
struct syndrome {
    enum exception_class exception_class;
    uint8_t length; /* bytes of the instruction */
    struct {
        bool s1ptw; /* a walk of stage 1 faulted at stage 2 */
        bool isv;   /* size, sign_extends and register_number are valid */
        bool writes, is_cache_maintenance, sign_extends;
        uint8_t size, register_number; /* bytes of the access, and the register that is loaded or stored */
    } abort;
    struct {
        uint8_t crn, crm, opc1, opc2, register_number;
        bool reads;
    } coprocessor;
};

static inline struct syndrome syndrome_decode(uint32_t hsr)
{
    return (struct syndrome){
        .exception_class = (enum exception_class)(hsr >> 26),
        .length = hsr >> 25 & 1 ? 4 : 2,
        .abort = {
            .isv = hsr >> 24 & 1,
            .size = (uint8_t)(1u << (hsr >> 22 & 3)),
            .sign_extends = hsr >> 21 & 1,
            .register_number = hsr >> 16 & 15,
            .is_cache_maintenance = hsr >> 8 & 1,
            .s1ptw = hsr >> 7 & 1,
            .writes = hsr >> 6 & 1,
        },
        .coprocessor = {
            .opc2 = hsr >> 17 & 7,
            .opc1 = hsr >> 14 & 7,
            .crn = hsr >> 10 & 15,
            .register_number = hsr >> 5 & 15,
            .crm = hsr >> 1 & 15,
            .reads = hsr & 1,
        },
    };
}

#endif

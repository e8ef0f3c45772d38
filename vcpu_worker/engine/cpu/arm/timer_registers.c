/* SPDX-License-Identifier: GPL-2.0-or-later */
/* clang-format off: tables */
#include "vcpu_worker/engine/cpu/arm/timer_registers.h"

#include "vcpu_worker/engine/cpu/timers.h"
#include "vcpu_worker/engine/interpose/arm/registers.h"

static uint64_t read_count(void *env, const struct register_description *of)
{
    return timers_count(of->opaque);
}

static void write_nothing(void *env, const struct register_description *of, uint64_t value)
{
}

static uint64_t read_value(const struct vcpu *v, const struct generic_timer *timer)
{
    return (uint32_t)(timer->compare - timers_count(v));
}

static void write_control(struct vcpu *v, struct generic_timer *timer, uint64_t value)
{
    timer->control = value & (TIMER_ENABLE | TIMER_IMASK);
    timers_written(v);
}

static void write_compare(struct vcpu *v, struct generic_timer *timer, uint64_t value)
{
    timer->compare = value;
    timers_written(v);
}

static void write_value(struct vcpu *v, struct generic_timer *timer, uint64_t value)
{
    write_compare(v, timer, timers_count(v) + (uint64_t)(int64_t)(int32_t)value);
}

/* The functions of one register of one timer, called by translated code. */
#define READ(name, index, expression)                                                                                  \
    static uint64_t name(void *env, const struct register_description *of)                                             \
    {                                                                                                                  \
        struct vcpu *v = of->opaque;                                                                                   \
        struct generic_timer *timer = &v->timers[index];                                                               \
        return expression;                                                                                             \
    }
#define WRITE(name, index, function)                                                                                   \
    static void name(void *env, const struct register_description *of, uint64_t value)                                 \
    {                                                                                                                  \
        struct vcpu *v = of->opaque;                                                                                   \
        function(v, &v->timers[index], value);                                                                         \
    }
#define REGISTERS_OF(index, name)                                                                                      \
    READ(name##_read_control, index, timers_control(v, timer))                                                         \
    READ(name##_read_value, index, read_value(v, timer))                                                               \
    READ(name##_read_compare, index, timer->compare)                                                                   \
    WRITE(name##_write_control, index, write_control)                                                                  \
    WRITE(name##_write_value, index, write_value)                                                                      \
    WRITE(name##_write_compare, index, write_compare)
REGISTERS_OF(TIMER_PHYSICAL, physical)
REGISTERS_OF(TIMER_VIRTUAL, virtual)

void timer_registers_define(struct vcpu *v)
{
    const struct {
        uint32_t key;
        register_read *read;
        register_write *write;
    } registers[] = {
        { CP15_REGISTER_64(14, 0), read_count, write_nothing },                        /* CNTPCT */
        { CP15_REGISTER_64(14, 1), read_count, write_nothing },                        /* CNTVCT */
        { CP15_REGISTER_64(14, 2), physical_read_compare, physical_write_compare },    /* CNTP_CVAL */
        { CP15_REGISTER_64(14, 3), virtual_read_compare, virtual_write_compare },      /* CNTV_CVAL */
        { CP15_REGISTER(14, 2, 0, 0), physical_read_value, physical_write_value },     /* CNTP_TVAL */
        { CP15_REGISTER(14, 2, 0, 1), physical_read_control, physical_write_control }, /* CNTP_CTL */
        { CP15_REGISTER(14, 3, 0, 0), virtual_read_value, virtual_write_value },       /* CNTV_TVAL */
        { CP15_REGISTER(14, 3, 0, 1), virtual_read_control, virtual_write_control },   /* CNTV_CTL */
    };
    for (unsigned i = 0; i < sizeof registers / sizeof *registers; i++)
        interpose_define_register(v->interpose, registers[i].key, registers[i].read, registers[i].write, v);
}

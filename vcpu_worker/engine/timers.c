/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The generic timer (ARM DDI 0406C, B8): the counter, and the physical and the virtual timer of a vCPU.
 *
 * The library knows the registers and keeps nothing of what is written to them, so they are ours. A timer whose time comes
 * is noticed by a timer of the host, whose signal handler does no more than to request a TICK: of a vCPU that is in the
 * guest, asleep in WFI, or handling an exit alike. The vCPU then computes the levels of its two interrupt lines; where
 * they differ from what the interrupt controller was told, it leaves for Python to tell it.
 */
#define _GNU_SOURCE
#include "timers.h"

#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "seam_registers.h"
#include "vcpu.h"

#define ENABLE 1u
#define IMASK 2u
#define ISTATUS 4u
#define NS_PER_COUNT 16u /* of the guest's: 62.5 MHz, which is what CNTFRQ says */
#define TICK_SIGNAL SIGRTMIN

static struct vcpu *owner; /* one per process, as in vcpu.c */
static timer_t host_timer;

static uint64_t host_ns_per_count(void)
{
    return (uint64_t)NS_PER_COUNT * owner->host->time_dilation;
}

static uint64_t count_now(void)
{
    return (cp_now_ns() - owner->host->clock_base_ns) / host_ns_per_count();
}

static bool is_due(const struct generic_timer *timer, uint64_t now)
{
    return timer->control & ENABLE && now >= timer->compare;
}

static uint32_t levels_at(uint64_t now)
{
    uint32_t levels = 0;
    for (int i = 0; i < TIMERS; i++)
        if (is_due(&owner->timers[i], now) && !(owner->timers[i].control & IMASK))
            levels |= 1u << i;
    return levels;
}

/* Have the host call when the next timer is due that would raise its line. */
static void arm(uint64_t now)
{
    uint64_t next = UINT64_MAX;
    for (int i = 0; i < TIMERS; i++) {
        const struct generic_timer *timer = &owner->timers[i];
        if ((timer->control & (ENABLE | IMASK)) == ENABLE && timer->compare > now && timer->compare < next)
            next = timer->compare;
    }
    if (next == owner->timers_armed)
        return;
    owner->timers_armed = next;
    uint64_t base = owner->host->clock_base_ns;
    struct itimerspec when = { 0 };
    if (next < (UINT64_MAX - base) / host_ns_per_count() / 2) { /* else: in centuries */
        uint64_t at = base + next * host_ns_per_count();
        when.it_value.tv_sec = (time_t)(at / 1000000000u);
        when.it_value.tv_nsec = (long)(at % 1000000000u);
    }
    timer_settime(host_timer, TIMER_ABSTIME, &when, NULL);
}

/* What the timers say now, after a write to them or a tick. */
void timers_update(struct vcpu *v)
{
    uint64_t now = count_now();
    v->timer_levels = levels_at(now);
    if (v->timers_armed <= now)
        v->timers_armed = 0;
    arm(now);
}

/* The guest has written. A line that falls may be told with the next exit, unless the vCPU could still see it high. */
static void written(void)
{
    timers_update(owner);
    uint32_t news = owner->timer_levels ^ owner->timer_told;
    if (news & owner->timer_levels || (news && atomic_load(&owner->slot->line) & 3))
        atomic_fetch_or(&owner->slot->requests, CP_TICK);
}

bool timers_have_news(const struct vcpu *v)
{
    return v->timer_levels != v->timer_told;
}

static void on_tick(int signal)
{
    if (owner != NULL)
        atomic_fetch_or(&owner->slot->requests, CP_TICK);
}

/* ---- the registers ---- */

static uint64_t read_count(void *env, const struct seam_description *of)
{
    return count_now();
}

static void write_nothing(void *env, const struct seam_description *of, uint64_t value)
{
}

static uint64_t read_control(const struct generic_timer *timer)
{
    return timer->control | (is_due(timer, count_now()) ? ISTATUS : 0);
}

static uint64_t read_value(const struct generic_timer *timer)
{
    return (uint32_t)(timer->compare - count_now());
}

static void write_control(struct generic_timer *timer, uint64_t value)
{
    timer->control = value & (ENABLE | IMASK);
    written();
}

static void write_compare(struct generic_timer *timer, uint64_t value)
{
    timer->compare = value;
    written();
}

static void write_value(struct generic_timer *timer, uint64_t value)
{
    write_compare(timer, count_now() + (uint64_t)(int64_t)(int32_t)value);
}

#define REGISTERS_OF(index, name)                                                                                     \
    static uint64_t name##_read_control(void *env, const struct seam_description *of) { return read_control(&owner->timers[index]); }    \
    static uint64_t name##_read_value(void *env, const struct seam_description *of) { return read_value(&owner->timers[index]); }        \
    static uint64_t name##_read_compare(void *env, const struct seam_description *of) { return owner->timers[index].compare; }           \
    static void name##_write_control(void *env, const struct seam_description *of, uint64_t v) { write_control(&owner->timers[index], v); } \
    static void name##_write_value(void *env, const struct seam_description *of, uint64_t v) { write_value(&owner->timers[index], v); }  \
    static void name##_write_compare(void *env, const struct seam_description *of, uint64_t v) { write_compare(&owner->timers[index], v); }
REGISTERS_OF(TIMER_PHYSICAL, physical)
REGISTERS_OF(TIMER_VIRTUAL, virtual)

void timers_open(struct vcpu *v)
{
    owner = v;
    v->timers_armed = UINT64_MAX;
    seam_define_register(SEAM_REGISTER_64(14, 0), read_count, write_nothing);                            /* CNTPCT */
    seam_define_register(SEAM_REGISTER_64(14, 1), read_count, write_nothing);                            /* CNTVCT */
    seam_define_register(SEAM_REGISTER_64(14, 2), physical_read_compare, physical_write_compare);        /* CNTP_CVAL */
    seam_define_register(SEAM_REGISTER_64(14, 3), virtual_read_compare, virtual_write_compare);          /* CNTV_CVAL */
    seam_define_register(SEAM_REGISTER(14, 2, 0, 0), physical_read_value, physical_write_value);         /* CNTP_TVAL */
    seam_define_register(SEAM_REGISTER(14, 2, 0, 1), physical_read_control, physical_write_control);     /* CNTP_CTL */
    seam_define_register(SEAM_REGISTER(14, 3, 0, 0), virtual_read_value, virtual_write_value);           /* CNTV_TVAL */
    seam_define_register(SEAM_REGISTER(14, 3, 0, 1), virtual_read_control, virtual_write_control);       /* CNTV_CTL */
    struct sigaction action = { .sa_handler = on_tick, .sa_flags = SA_RESTART };
    sigaction(TICK_SIGNAL, &action, NULL);
    struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = TICK_SIGNAL };
    event._sigev_un._tid = gettid();
    v->has_timer = timer_create(CLOCK_MONOTONIC, &event, &host_timer) == 0;
}

void timers_close(struct vcpu *v)
{
    if (v->has_timer)
        timer_delete(host_timer);
    v->has_timer = false;
    seam_registers_forget();
    owner = NULL;
}

/* As after a reset: off. */
void timers_reset(struct vcpu *v)
{
    memset(v->timers, 0, sizeof v->timers);
    timers_update(v);
}

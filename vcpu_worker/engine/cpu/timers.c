/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The counter and the two timers of a vCPU.
 *
 * The library knows the registers and keeps nothing of what is written to them, so they are ours. A timer that becomes
 * due is noticed by a timer of the host, whose signal handler only requests a TICK: of a vCPU that is in the guest,
 * asleep in WFI, or handling an exit alike. The vCPU then computes the levels of its two interrupt lines; where they
 * differ from what the interrupt controller was told, it leaves for Python to tell it.
 */
#define _GNU_SOURCE
#include "vcpu_worker/engine/cpu/timers.h"

#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_COUNT 16u /* of the guest's: 62.5 MHz, which is what CNTFRQ says */
#define TICK_SIGNAL SIGRTMIN

static uint64_t host_ns_per_count(const struct vcpu *v)
{
    return (uint64_t)NS_PER_COUNT * v->host->time_dilation;
}

uint64_t timers_count(const struct vcpu *v)
{
    return (cp_now_ns() - v->host->clock_base_ns) / host_ns_per_count(v);
}

static bool is_due(const struct generic_timer *timer, uint64_t now)
{
    return timer->control & TIMER_ENABLE && now >= timer->compare;
}

static uint32_t levels_at(const struct vcpu *v, uint64_t now)
{
    uint32_t levels = 0;
    for (int i = 0; i < TIMERS; i++)
        if (is_due(&v->timers[i], now) && !(v->timers[i].control & TIMER_IMASK))
            levels |= 1u << i;
    return levels;
}

/* Have the host call when the next timer is due that would raise its line. */
static void arm(struct vcpu *v, uint64_t now)
{
    uint64_t next = UINT64_MAX;
    for (int i = 0; i < TIMERS; i++) {
        const struct generic_timer *timer = &v->timers[i];
        bool raises = (timer->control & (TIMER_ENABLE | TIMER_IMASK)) == TIMER_ENABLE;
        if (raises && timer->compare > now && timer->compare < next)
            next = timer->compare;
    }
    if (next == v->timers_armed)
        return;
    v->timers_armed = next;
    uint64_t base = v->host->clock_base_ns;
    struct itimerspec when = { 0 };
    if (next < (UINT64_MAX - base) / host_ns_per_count(v) / 2) { /* else: in centuries */
        uint64_t at = base + next * host_ns_per_count(v);
        when.it_value.tv_sec = (time_t)(at / 1000000000u);
        when.it_value.tv_nsec = (long)(at % 1000000000u);
    }
    timer_settime(v->host_timer, TIMER_ABSTIME, &when, NULL);
}

void timers_update(struct vcpu *v)
{
    uint64_t now = timers_count(v);
    v->timer_levels = levels_at(v, now);
    if (v->timers_armed <= now)
        v->timers_armed = 0;
    arm(v, now);
}

/* A line that falls may be told with the next exit, unless the vCPU could still see it high. */
void timers_written(struct vcpu *v)
{
    timers_update(v);
    uint32_t news = v->timer_levels ^ v->timer_told;
    if (news & v->timer_levels || (news && atomic_load(&v->slot->line) & 3))
        atomic_fetch_or(&v->slot->requests, CP_TICK);
}

bool timers_have_news(const struct vcpu *v)
{
    return v->timer_levels != v->timer_told;
}

uint64_t timers_control(const struct vcpu *v, const struct generic_timer *timer)
{
    return timer->control | (is_due(timer, timers_count(v)) ? TIMER_ISTATUS : 0);
}

static void on_tick(int signal, siginfo_t *info, void *unused)
{
    struct vcpu *v = info->si_value.sival_ptr;
    if (info->si_code == SI_TIMER)
        atomic_fetch_or(&v->slot->requests, CP_TICK);
}

void timers_open(struct vcpu *v)
{
    v->timers_armed = UINT64_MAX;
    struct sigaction action = { .sa_sigaction = on_tick, .sa_flags = SA_RESTART | SA_SIGINFO };
    sigaction(TICK_SIGNAL, &action, NULL);
    struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = TICK_SIGNAL, .sigev_value.sival_ptr = v };
    event._sigev_un._tid = gettid();
    v->has_timer = timer_create(CLOCK_MONOTONIC, &event, &v->host_timer) == 0;
}

void timers_close(struct vcpu *v)
{
    if (v->has_timer)
        timer_delete(v->host_timer);
    v->has_timer = false;
}

void timers_reset(struct vcpu *v)
{
    memset(v->timers, 0, sizeof v->timers);
    timers_update(v);
}

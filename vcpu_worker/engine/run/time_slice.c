/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Short time slices for vCPUs that are many more than the cores.
 *
 * The host's scheduler gives a process milliseconds at a time. A vCPU that spins without a hint uses all of them, and
 * the vCPU it waits for runs after all the others have used theirs. So a vCPU here gives its core away by itself after
 * SHORT_NS, from a timer's signal: in the middle of the guest, as the scheduler would. The timer is set when a slice
 * begins, that is when the yield before it returns, so a vCPU that does not run has none. docs/adr/0008-many-vcpus.md
 * has the figures.
 */
#define _GNU_SOURCE
#include "vcpu_worker/engine/run/time_slice.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define SHORT_NS 500000
#define LONG_NS 4000000             /* the next look at a vCPU that gives its core away by itself */
#define SLICE_SIGNAL (SIGRTMIN + 1) /* the first is the generic timers' */
#define CROWD 4u                    /* vCPUs for each core, from which on slices are short */

static void begin(struct vcpu *v, long ns)
{
    struct itimerspec slice = { .it_value = { .tv_nsec = ns } };
    v->time_slice.is_set = 1;
    v->time_slice.gave = 0;
    timer_settime(v->time_slice.timer, 0, &slice, NULL);
}

/* Outside the guest a slice is over soon by itself, and a vCPU that is asked for something should do it. */
static void on_end(int signal, siginfo_t *info, void *unused)
{
    struct vcpu *v = info->si_value.sival_ptr;
    int before = errno;
    if (info->si_code != SI_TIMER)
        return;
    v->time_slice.is_set = 0;
    if (v->time_slice.is_short && (atomic_load(&v->slot->mode) & CP_MODE_MASK) == CP_IN_GUEST) {
        bool gives = v->time_slice.gave;
        if (!gives)
            sched_yield();
        begin(v, gives ? LONG_NS : SHORT_NS);
    }
    errno = before;
}

bool time_slice_open(struct vcpu *v)
{
    if (v->host->vcpus < CROWD * v->host->cores)
        return true;
    struct sigaction action = { .sa_sigaction = on_end, .sa_flags = SA_RESTART | SA_SIGINFO };
    struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SLICE_SIGNAL };
    event.sigev_value.sival_ptr = v;
    event._sigev_un._tid = gettid();
    if (sigaction(SLICE_SIGNAL, &action, NULL) != 0 || timer_create(CLOCK_MONOTONIC, &event, &v->time_slice.timer) != 0)
        return false;
    v->time_slice.is_short = true;
    return true;
}

void time_slice_close(struct vcpu *v)
{
    if (v->time_slice.is_short)
        timer_delete(v->time_slice.timer);
    v->time_slice.is_short = false;
}

void time_slice_begin(struct vcpu *v)
{
    if (v->time_slice.is_short && !v->time_slice.is_set)
        begin(v, SHORT_NS);
}

void time_slice_give(struct vcpu *v)
{
    v->time_slice.gave = 1;
    sched_yield();
}

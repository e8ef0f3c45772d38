/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Short turns for vCPUs that are many more than the cores.
 *
 * The host's scheduler gives a process milliseconds at a time. A vCPU that spins without a hint uses all of them, and the one
 * it waits for gets its turn when all the others have had theirs. So a vCPU here gives its core away by itself after
 * TURN_NS, from a timer's signal: in the middle of the guest, as the scheduler would. The timer is set when a turn begins,
 * that is when the yield before it returns, so one that does not run has none. docs/adr/0008-many-vcpus.md has the figures.
 */
#include "vcpu.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define TURN_NS 500000
#define LONG_NS 4000000 /* the next look at a vCPU that gives its core away by itself */
#define TURN_SIGNAL (SIGRTMIN + 1) /* the first is the generic timers' */
#define CROWD 4u /* vCPUs for each core, from which on turns are short */

static timer_t timer;
static struct cp_vcpu *taker; /* NULL: turns are the scheduler's */
static volatile sig_atomic_t set, gave;

static void begin(long ns)
{
    struct itimerspec turn = { .it_value = { .tv_nsec = ns } };
    set = 1;
    gave = 0;
    timer_settime(timer, 0, &turn, NULL);
}

/* Outside the guest a turn is over soon by itself, and one that is asked for something should do it. */
static void on_end(int unused)
{
    int before = errno;
    set = 0;
    if (taker != NULL && (atomic_load(&taker->mode) & CP_MODE_MASK) == CP_IN_GUEST) {
        bool gives = gave;
        if (!gives)
            sched_yield();
        begin(gives ? LONG_NS : TURN_NS);
    }
    errno = before;
}

bool turns_open(struct vcpu *v)
{
    if (v->host->vcpus < CROWD * v->host->cores)
        return true;
    struct sigaction action = { .sa_handler = on_end, .sa_flags = SA_RESTART };
    struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = TURN_SIGNAL };
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    if (sigaction(TURN_SIGNAL, &action, NULL) != 0 || timer_create(CLOCK_MONOTONIC, &event, &timer) != 0)
        return false;
    taker = v->slot;
    return true;
}

void turns_close(void)
{
    if (taker != NULL)
        timer_delete(timer);
    taker = NULL;
}

void turns_begin(void)
{
    if (taker != NULL && !set)
        begin(TURN_NS);
}

void turns_give(void)
{
    gave = 1;
    sched_yield();
}

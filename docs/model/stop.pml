/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests to vCPUs of other hosts, and stops of the world: cp_post_remote, cp_wait_exited, cp_post and cp_enter of
 * vm/control/; take_outbox, end_guest_entry, deliver, stop and resume of node_requests.c; coordinator/node/remote_requests.py and
 * coordinator/world/remote_stop.py. Host 0 has the coordinator, a vCPU B that has others flush, a device that posts and does not wait, and
 * a slot for each vCPU V, of which each of the REMOTES other hosts has one. Memory is sequentially consistent (the code uses
 * such atomics only); each connection keeps its order (ZeroMQ's), and several of them together keep none: the
 * coordinator's (StopHost, HostStopped, ResumeHost) and the nodes' (Posted, PostsDone).
 *
 * Broken rules, by -D: CHECK_THEN_END the guest entry is ended by two steps, as it was once; MARK_FIRST nothing is posted
 * before the guest entry is marked; POST_ONCE nothing is posted after it was; DONE_AT_ONCE a node does not wait until the
 * vCPU has left a guest entry for what was posted; STOPPED_AT_ONCE nor for a stop; ENTER_BLINDLY a vCPU does not look at its
 * requests when it has said that it is in; POST_TELLS_STOP a post also tells whether a stop is in force, by a slot of host 0
 * that no process updates, as it once was; OLD_ANSWER the answer to an earlier stop is taken for that to this one; with CRASH
 * also IGNORE_LOSS: no process ends what they wait for when a host is lost.
 *
 * -DCRASH: one of the other hosts dies between any two steps, and at any time after that the others learn of it.
 */
#ifndef REMOTES
#define REMOTES 1
#endif
#ifndef STOPS
#define STOPS 1
#endif
#ifndef FLUSHES
#define FLUSHES 2
#endif
#ifndef EVENTS
#define EVENTS 1
#endif
#ifndef ENTRIES
#define ENTRIES 1
#endif

#define STOP 1
#define TLB_FLUSH 2
#define EVENT 4

#define OUTSIDE 0
#define IN_GUEST 1
#define EXITING 2
#define ENDING 3 /* of a slot for another host's vCPU: CP_SLEEPING, which it never is */
#define MODE(m) ((m) & 3)
#define STAY(m) ((m) & 60) /* more of them than a run has, as in the code */
#define AND_NEXT(m) ((((m) | 3) + 1) & 63)

/* host 0's slots */
byte slot_mode[REMOTES] = IN_GUEST;
byte outbox[REMOTES];
/* the vCPUs' own hosts */
byte mode[REMOTES];
byte requests[REMOTES];

chan posted[REMOTES] = [4] of { byte }; /* bits */
chan done[REMOTES] = [4] of { bit };
chan stop[REMOTES] = [4] of { byte }; /* the number of a stop, or 0: go on */
chan stopped[REMOTES] = [4] of { byte };

bool runs[REMOTES];        /* V executes */
bool stale[REMOTES];       /* V may have a translation from before B's invalidation */
bool invalidated;          /* B has been told that no vCPU uses it any more */
bool owned;                /* an owner has the world */
byte dead;                 /* a host's number, and the others have learnt of it */
bool lost;
byte over;                 /* of the coordinator, B and the device */

#define HOLDS(r) assert(!runs[r] || (!owned && !(invalidated && stale[r])))

inline cp_post_remote(r, bits, exiting)
{
#ifndef MARK_FIRST
    outbox[r] = outbox[r] | bits;
#endif
    do
    :: atomic { MODE(slot_mode[r]) == EXITING -> seen = slot_mode[r]; break }
    :: atomic { else -> seen = slot_mode[r] };
        atomic { if
            :: slot_mode[r] == seen -> slot_mode[r] = STAY(seen) | EXITING; break
            :: else
            fi }
    od;
    exiting = STAY(seen) | EXITING;
#ifndef POST_ONCE
    outbox[r] = outbox[r] | bits;
#endif
    seen = 0
}

#ifdef CHECK_THEN_END
#define LEFT(r, exiting) (slot_mode[r] != (exiting))
#else
#define LEFT(r, exiting) (STAY(slot_mode[r]) != STAY(exiting))
#endif

#ifdef IGNORE_LOSS
#define GIVE_UP false
#else
#define GIVE_UP lost
#endif

proctype coordinator()
{
    byte r, stops, said, missing;
    do
    :: stops < STOPS ->
        stops++;
        for (r : 0 .. REMOTES - 1) {
            stop[r] ! stops
        }
        missing = REMOTES;
        do
        :: missing == 0 ->
            atomic {
                owned = true;
                for (r : 0 .. REMOTES - 1) {
                    HOLDS(r)
                }
            }
            owned = false;
            break
#if REMOTES > 1
        :: atomic { missing != 0 && (nempty(stopped[0]) || nempty(stopped[1])) ->
            if
            :: stopped[0] ? said
            :: stopped[1] ? said
            fi;
#else
        :: atomic { missing != 0 && nempty(stopped[0]) -> stopped[0] ? said;
#endif
#ifndef OLD_ANSWER
            if
            :: said == stops -> missing--
            :: else
            fi;
#else
            missing--;
#endif
            said = 0 }
        :: missing != 0 && (stops < STOPS || GIVE_UP) -> missing = 0; break /* the requester is gone, or the run is over */
        od;
        for (r : 0 .. REMOTES - 1) {
            stop[r] ! 0
        }
    :: else -> break
    od;
    over++
}

/* Processes that post and do not wait: the device server, the debugger, a dump of all vCPUs in a stopped world. */
proctype device()
{
    byte r, times, seen, exiting;
    do
    :: times < EVENTS ->
        for (r : 0 .. REMOTES - 1) {
            cp_post_remote(r, EVENT, exiting);
            exiting = 0
        }
        times++
    :: else -> break
    od;
    over++
}

proctype invalidator()
{
    byte r, times, seen, exiting[REMOTES];
    do
    :: times < FLUSHES ->
        atomic {
            invalidated = false;
            for (r : 0 .. REMOTES - 1) {
                stale[r] = true
            }
        }
        for (r : 0 .. REMOTES - 1) {
            cp_post_remote(r, TLB_FLUSH, exiting[r])
        }
        for (r : 0 .. REMOTES - 1) {
            LEFT(r, exiting[r]) || GIVE_UP;
            exiting[r] = 0
        }
        atomic {
            invalidated = !lost;
            for (r : 0 .. REMOTES - 1) {
                HOLDS(r)
            }
        }
        times++
    :: else -> break
    od;
    over++
}

/* Host 0's node. */
proctype node(byte r)
{
    byte under_way, taken, seen;
    do
    :: atomic { outbox[r] != 0 -> taken = outbox[r]; outbox[r] = 0 };
        atomic { posted[r] ! taken; under_way++; taken = 0 }
    :: atomic { done[r] ? _ -> under_way-- };
        if
        :: under_way != 0
        :: else -> /* end_guest_entry */
#ifdef CHECK_THEN_END
            if
            :: outbox[r] != 0
            :: else -> slot_mode[r] = AND_NEXT(slot_mode[r]) | IN_GUEST
            fi
#else
            atomic { slot_mode[r] = STAY(slot_mode[r]) | ENDING; seen = slot_mode[r] };
            if
            :: outbox[r] != 0
            :: else -> atomic { if
                :: slot_mode[r] == seen -> slot_mode[r] = AND_NEXT(seen) | IN_GUEST
                :: else
                fi }
            fi;
            seen = 0
#endif
        fi
    od
}

inline cp_post(r, bits)
{
    requests[r] = requests[r] | bits;
    do
    :: seen = mode[r];
        if
        :: MODE(seen) == OUTSIDE || !(requests[r] & bits) -> break
        :: else -> atomic { if
            :: mode[r] == seen -> mode[r] = STAY(seen) | EXITING; exiting = mode[r]; break
            :: else
            fi }
        fi
    od
}

/* V's own node. What waits for V does not keep what follows. */
proctype far_node(byte r) provided (dead != (_pid + 1) / 3) /* that is r + 1, which may not be said here */
{
    byte bits, number, seen, waiting[2], stopping, stop_waits, exiting;
    do
    :: atomic { nempty(posted[r]) && (waiting[0] == 0 || waiting[1] == 0) -> posted[r] ? bits };
#ifdef POST_TELLS_STOP
        requests[r] = requests[r] & ~STOP;
#endif
        cp_post(r, bits);
        atomic {
#ifndef DONE_AT_ONCE
            if
            :: exiting == 0 -> done[r] ! 1
            :: exiting != 0 && waiting[0] == 0 -> waiting[0] = exiting
            :: exiting != 0 && waiting[0] != 0 -> waiting[1] = exiting
            fi;
#else
            done[r] ! 1;
#endif
            exiting = 0; bits = 0; seen = 0
        }
    :: atomic { waiting[0] != 0 && mode[r] != waiting[0] -> waiting[0] = 0; done[r] ! 1 }
    :: atomic { waiting[1] != 0 && mode[r] != waiting[1] -> waiting[1] = 0; done[r] ! 1 }
    :: atomic { nempty(stop[r]) -> stop[r] ? number };
        if
        :: number == 0 -> requests[r] = requests[r] & ~STOP
        :: else ->
            cp_post(r, STOP);
            atomic {
#ifndef STOPPED_AT_ONCE
                if
                :: exiting == 0 -> stopped[r] ! number
                :: else -> stopping = number; stop_waits = exiting
                fi;
#else
                stopped[r] ! number;
#endif
                exiting = 0; seen = 0
            }
        fi;
        number = 0
    :: atomic { stop_waits != 0 && mode[r] != stop_waits -> stop_waits = 0; stopped[r] ! stopping; stopping = 0 }
    od
}

proctype vcpu(byte r) provided (dead != _pid / 3)
{
    byte entries;
    do
    :: entries < ENTRIES ->
        !(requests[r] & STOP); /* parked until then */
        if
        :: atomic { requests[r] & TLB_FLUSH -> requests[r] = requests[r] & ~TLB_FLUSH };
            atomic { stale[r] = false }
        :: else
        fi;
        if
        :: atomic { requests[r] & EVENT -> requests[r] = requests[r] & ~EVENT }
        :: else
        fi;
        mode[r] = AND_NEXT(mode[r]) | IN_GUEST;
        entries++;
#ifdef ENTER_BLINDLY
        if
        :: atomic { true -> runs[r] = true; HOLDS(r) };
#else
        if
        :: atomic { requests[r] == 0 -> runs[r] = true; HOLDS(r) };
#endif
            atomic { runs[r] = false } /* it may stay for long, but no longer than until it is asked */
        :: requests[r] != 0 -> entries-- /* it never was in */
        fi;
        mode[r] = STAY(mode[r]) | OUTSIDE
    :: else -> break
    od
}

#ifdef CRASH
proctype crash()
{
    byte r;
    select(r : 0 .. REMOTES - 1);
    atomic { dead = r + 1; runs[r] = false };
    lost = true
}
#endif

/* The end: every request was granted, and no vCPU is parked. */
proctype monitor()
{
    byte r;
    timeout ->
    atomic {
        assert(over == 3);
        for (r : 0 .. REMOTES - 1) {
            assert(outbox[r] == 0);
            assert(lost || (!(requests[r] & STOP) && MODE(slot_mode[r]) != EXITING))
        }
    }
}

init
{
    byte r;
    atomic {
        for (r : 0 .. REMOTES - 1) {
            run node(r);
            run far_node(r);
            run vcpu(r)
        }
        run coordinator();
        run invalidator();
        run device();
#ifdef CRASH
        run crash();
#endif
        run monitor()
    }
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests to vCPUs of other hosts, and the stop that is made of them: cp_post_remote, cp_wait_left, cp_post and cp_enter of
 * allstop/machine/control_page.h, take_outbox, end_stay and deliver of node_memory.c, Posted and PostsDone of
 * coordinator/node.py. Host 0 has the coordinator, a vCPU B that has others flush, and a slot for each vCPU V, of which each of
 * the REMOTES other hosts has one. Memory is sequentially consistent (the code uses such atomics only); each connection
 * keeps its order (ZeroMQ's), and both of them together keep none.
 *
 * Broken rules, by -D: CHECK_THEN_END the stay is ended by two steps, as it was once; MARK_FIRST nothing is posted before the
 * stay is marked; POST_ONCE nothing is posted after it was; DONE_AT_ONCE a node does not wait until the vCPU has left;
 * ENTER_BLINDLY a vCPU does not look at its requests when it has said that it is in;
 * STOP_BY_MARK a stop that is in force is over where its stay has no mark.
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
#ifndef ENTRIES
#define ENTRIES 1
#endif

#define STOP 1
#define TLB_FLUSH 2
#define CHANGED 4

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
bit slot_stop[REMOTES];
/* the vCPUs' own hosts */
byte mode[REMOTES];
byte requests[REMOTES];

chan posted[REMOTES] = [4] of { byte, bit }; /* bits, stop */
chan done[REMOTES] = [4] of { bit };

bool runs[REMOTES];        /* V executes */
bool stale[REMOTES];       /* V may have a translation from before B's invalidation */
bool invalidated;          /* B has been told that nobody uses it any more */
bool owned;                /* somebody has the world */
byte over;                 /* of the coordinator and B */

#define HOLDS(r) assert(!runs[r] || (!owned && !(invalidated && stale[r])))

inline cp_post_remote(r, bits, exiting)
{
    before = 0;
    if
    :: bits == STOP -> atomic { before = slot_stop[r]; slot_stop[r] = 1 }
    :: else
    fi;
    seen = slot_mode[r];
    if
    :: bits == STOP && before ->
#ifdef STOP_BY_MARK
        exiting = (MODE(seen) == EXITING -> seen : 0)
#else
        exiting = (MODE(seen) != IN_GUEST -> seen : 0)
#endif
    :: else ->
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
        outbox[r] = outbox[r] | bits
#endif
    fi;
    before = 0; seen = 0
}

#ifdef CHECK_THEN_END
#define LEFT(r, exiting) (slot_mode[r] != (exiting))
#else
#define LEFT(r, exiting) (STAY(slot_mode[r]) != STAY(exiting))
#endif

proctype coordinator()
{
    byte r, stops, seen, exiting[REMOTES];
    bit before, missing;
    do
    :: stops < STOPS ->
        do
        :: missing = 0;
            for (r : 0 .. REMOTES - 1) {
                cp_post_remote(r, STOP, exiting[r])
            }
            for (r : 0 .. REMOTES - 1) {
                if
                :: exiting[r] == 0
                :: exiting[r] != 0 && LEFT(r, exiting[r])
                :: exiting[r] != 0 && !LEFT(r, exiting[r]) -> missing = 1 /* look again later */
                fi;
                exiting[r] = 0
            }
            if :: !missing -> break :: else fi
        od;
        atomic {
            owned = true;
            for (r : 0 .. REMOTES - 1) {
                HOLDS(r)
            }
        }
        owned = false;
        for (r : 0 .. REMOTES - 1) {
            slot_stop[r] = 0;
            outbox[r] = outbox[r] | CHANGED
        }
        stops++
    :: else -> break
    od;
    over++
}

proctype invalidator()
{
    byte r, times, seen, exiting[REMOTES];
    bit before;
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
            LEFT(r, exiting[r]);
            exiting[r] = 0
        }
        atomic {
            invalidated = true;
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
        atomic { posted[r] ! taken, slot_stop[r]; under_way++; taken = 0 }
    :: atomic { done[r] ? _ -> under_way-- };
        if
        :: under_way != 0
        :: else -> /* end_stay */
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

/* V's own node. Posts that wait for V do not keep those that follow. */
proctype far_node(byte r)
{
    byte bits, seen, waiting[2], exiting;
    bit stop;
    do
    :: atomic { nempty(posted[r]) && (waiting[0] == 0 || waiting[1] == 0) -> posted[r] ? bits, stop; bits = bits & ~(STOP | CHANGED) };
        if
        :: !stop -> requests[r] = requests[r] & ~STOP
        :: else -> bits = bits | STOP
        fi;
        exiting = 0;
        if
        :: bits == 0
        :: else -> /* cp_post */
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
        fi;
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
            exiting = 0; bits = 0; seen = 0; stop = 0
        }
    :: atomic { waiting[0] != 0 && mode[r] != waiting[0] -> waiting[0] = 0; done[r] ! 1 }
    :: atomic { waiting[1] != 0 && mode[r] != waiting[1] -> waiting[1] = 0; done[r] ! 1 }
    od
}

proctype vcpu(byte r)
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

/* Nothing can happen any more: whoever asked has got it, and nobody is parked. */
proctype monitor()
{
    byte r;
    timeout ->
    atomic {
        assert(over == 2);
        for (r : 0 .. REMOTES - 1) {
            assert(outbox[r] == 0 && !(requests[r] & STOP));
            assert(MODE(slot_mode[r]) != EXITING)
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
        run monitor()
    }
}

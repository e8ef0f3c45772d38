/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pages of several hosts: coordinator/node/page_directory.py and coordinator/node/page_cache.py, one page, N hosts, host 0 its home.
 * Names are as there. Messages arrive in any order: at most one of each kind is under way to a host, and each has a
 * channel of its own. How long a page stays is not modelled: a recall may be obeyed at any time.
 *
 * Each host has WANTS accesses. CRASH: one host may die between any two of its steps; a host that notices ends its part.
 *
 * Broken rules, by -D: OVERTAKE a recall is obeyed though its grant has not come; KEEP_COPY a writer has only one other give
 * up; KEEP_WRITING a recall to share does not take the right to write; OVERLAP a transaction begins while another
 * is under way; STALE the home takes contents from the host that answers last; LOSE a recall that came too early is forgotten; REPLACE
 * (with CRASH) a dead host counts as one that has given up.
 */
#ifndef N
#define N 3
#endif
#ifndef WANTS
#define WANTS 2
#endif

#define NOBODY 15
#define VALUES 3

mtype = { ABSENT, SHARED, OWNED, NOTHING, READ, WRITE };

chan asked[N] = [1] of { bit };                      /* PageAsked: write */
chan recalled[N] = [1] of { byte, byte, bit, bit };  /* PageRecalled: transaction, after, share, data */
chan yielded[N] = [1] of { byte, byte };             /* PageYielded: transaction, data */
chan granted[N] = [1] of { byte, bit, bit, byte };   /* PageGranted: transaction, write, fresh, data */

mtype entry[N] = ABSENT;   /* stage 2 */
byte frame[N];
mtype want[N] = NOTHING;   /* of this host's vCPU */
bool crashed[N], quit[N];
byte wanted[N];            /* accesses begun */
byte last;                 /* what was written last */
bool any_crashed;

#define COHERENT(h) assert(entry[h] == ABSENT || frame[h] == last)

inline check()
{
    byte i, j;
    for (i : 0 .. N - 1) {
        if
        :: !crashed[i] -> COHERENT(i);
            for (j : 0 .. N - 1) {
                assert(i == j || crashed[j] || entry[i] != OWNED || entry[j] == ABSENT)
            }
        :: else
        fi
    }
    i = 0; j = 0
}

inline access(h)
{
    /* What it wanted is here, or was. */
    if
    :: want[h] == WRITE && entry[h] == OWNED -> last = (last + 1) % VALUES; frame[h] = last
    :: want[h] == READ && entry[h] != ABSENT -> assert(frame[h] == last)
    :: else
    fi;
    want[h] = NOTHING
}

proctype node(byte h)
{
    byte seen, t, d, rt, ra;
    bit w, fresh, rs, rd, has_recall, is_asked, served;

    do
    :: atomic { want[h] == NOTHING && wanted[h] < WANTS ->
        wanted[h]++;
        if :: want[h] = READ :: want[h] = WRITE fi;
        if
        :: entry[h] == OWNED || (entry[h] == SHARED && want[h] == READ) -> access(h)
        :: else -> is_asked = 1; asked[h] ! (want[h] == WRITE)
        fi;
        check() }

    :: atomic { granted[h] ? t, w, fresh, d ->
        seen = t; is_asked = 0;
        if
        :: fresh -> assert(entry[h] == ABSENT); frame[h] = d; entry[h] = (w -> OWNED : SHARED)
        :: !fresh && w -> assert(entry[h] != ABSENT); entry[h] = OWNED
        :: else -> assert(entry[h] != ABSENT)
        fi;
        if
        :: w || want[h] == READ -> served = 1 /* else another vCPU of the host asks again: not modelled */
        fi;
        check() }

    :: atomic { served -> served = 0; access(h); check() } /* may come after a recall */

    :: atomic { recalled[h] ? rt, ra, rs, rd -> assert(!has_recall); has_recall = 1 }

#ifdef LOSE
    :: atomic { has_recall && ra != seen -> has_recall = 0 }
#endif
#ifdef OVERTAKE
    :: atomic { has_recall ->
#else
    :: atomic { has_recall && ra == seen ->
#endif
        has_recall = 0;
        yielded[h] ! rt, (rd -> frame[h] : 0);
        if
        :: !rs -> entry[h] = ABSENT; frame[h] = 0
#ifndef KEEP_WRITING
        :: rs -> entry[h] = SHARED
#else
        :: rs
#endif
        fi;
        rt = 0; ra = 0; rs = 0; rd = 0;
        check() }

#ifdef CRASH
    :: atomic { !any_crashed -> any_crashed = true; crashed[h] = true; want[h] = NOTHING; goto dead }
    :: atomic { any_crashed -> quit[h] = true; want[h] = NOTHING; goto dead }
#endif
    od;
dead:
    skip
}

proctype directory()
{
    byte after[N], host, t, d, h, source = NOBODY, asker = NOBODY, transaction, kept, holders = 1, waiting;
    bit w, write, owned = 1, fresh;
    chan queue = [N] of { byte, bit };

again:
    do
    :: crashed[0] || quit[0] -> break

#ifdef OVERLAP
    :: atomic { queue ? [host, w] ->
#else
    :: atomic { asker == NOBODY && queue ? [host, w] -> /* begin: _go_on */
#endif
        queue ? host, w;
        asker = host; write = w; transaction++; assert(transaction < 250);
        waiting = holders & ~(1 << host);
        if
        :: holders & (1 << host) ->
            source = NOBODY;
            if :: !write -> waiting = 0 :: else fi
        :: else -> /* _nearest: itself, else the lowest */
            source = 0;
            do :: waiting & (1 << source) -> break :: else -> source++ od;
            if :: !write -> waiting = 1 << source :: else fi;
#ifdef KEEP_COPY
            waiting = 1 << source
#endif
        fi;
        for (h : 0 .. N - 1) {
            if
            :: waiting & (1 << h) -> recalled[h] ! transaction, after[h], !write, (h == source)
            :: else
            fi
        }
        h = 0; d = 0; kept = 0; w = 0; host = 0 }

    :: atomic { asker != NOBODY && waiting == 0 -> /* _finish */
        fresh = (source != NOBODY);
        if
        :: write -> holders = 1 << asker; owned = 1
        :: !write && !(holders & (1 << asker)) -> holders = holders | (1 << asker); owned = 0
        :: else
        fi;
        after[asker] = transaction;
        granted[asker] ! transaction, owned, fresh, kept;
        asker = NOBODY; source = NOBODY; kept = 0; write = 0; fresh = 0 }

    :: atomic { asked[0] ? w -> queue ! 0, w; w = 0 }
    :: atomic { asked[1] ? w -> queue ! 1, w; w = 0 }
#if N > 2
    :: atomic { asked[2] ? w -> queue ! 2, w; w = 0 }
#endif
#if N > 3
    :: atomic { asked[3] ? w -> queue ! 3, w; w = 0 }
#endif
    :: atomic { yielded[0] ? t, d -> host = 0; goto yields }
    :: atomic { yielded[1] ? t, d -> host = 1; goto yields }
#if N > 2
    :: atomic { yielded[2] ? t, d -> host = 2; goto yields }
#endif
#if N > 3
    :: atomic { yielded[3] ? t, d -> host = 3; goto yields }
#endif
#ifdef REPLACE
    :: atomic { waiting & 1 && crashed[0] -> waiting = waiting & ~1 }
    :: atomic { waiting & 2 && crashed[1] -> waiting = waiting & ~2 }
    :: atomic { waiting & 4 && crashed[2] -> waiting = waiting & ~4 }
#endif
    od;
    goto over;
yields:
    atomic {
        if
        :: t == transaction && waiting & (1 << host) ->
            waiting = waiting & ~(1 << host);
#ifdef STALE
            kept = d
#else
            if :: host == source -> kept = d :: else fi
#endif
        :: else /* none of ours */
        fi;
        t = 0; d = 0; host = 0
    }
    goto again;
over:
    skip
}

/* Nothing can happen any more: every want was served, or the run was over. */
proctype monitor()
{
    byte h;
    timeout ->
    atomic {
        for (h : 0 .. N - 1) {
            assert(crashed[h] || quit[h] || (!any_crashed && want[h] == NOTHING && wanted[h] == WANTS));
            assert(len(granted[h]) == 0 || any_crashed)
        }
    }
}

init
{
    byte h;
    atomic {
        entry[0] = OWNED;
        for (h : 0 .. N - 1) {
            run node(h)
        }
        run directory();
        run monitor()
    }
}

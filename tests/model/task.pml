/* The protocol of tasks (workers/tasks.h, tasks.c, desk.c) for the Spin model checker: entries that are given in one by one, taken from a ring of
 * announcements, orphaned by deaths, cancelled, killed, noticed through hints and used again.  See README.md for what is and is not modelled.
 *
 * WORKERS workers, each of which may die before any of its steps, KILLS times in all; ENTRIES entries; SUBMITS tasks, of which CANCELS may be
 * taken back and ENDS killed on purpose.  With ENDLESS a task ends only when its worker is killed.  RETRIES deaths are forgiven.
 * Checked: a commit finds its claim (nothing is doubled); no entry is run by two, or announced twice; what is doomed is not run again;
 * and, as invalid end states: every task is noticed by the application (nothing is lost), once. */
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef ENTRIES
#define ENTRIES 2
#endif
#ifndef SUBMITS
#define SUBMITS 2
#endif
#ifndef KILLS
#define KILLS 2
#endif
#ifndef CANCELS
#define CANCELS 0
#endif
#ifndef ENDS
#define ENDS 0
#endif
#ifndef RETRIES
#define RETRIES 9
#endif
#define POSITIONS 4 /* of the ring, more than ENTRIES */

#define FREE 0
#define CLAIMED 1
#define DONE 2
#define FAILED 3
#define CANCELLED 4
#define TERMINAL(e) (state[e] >= DONE)

/* The word of an entry, in three parts that change together. */
byte state[ENTRIES] = DONE, owner[ENTRIES], turn[ENTRIES];
byte attempt[ENTRIES];   /* in the word too */
byte doomed[ENTRIES];    /* a turn */
byte runs[WORKERS];      /* ghost: entry + 1 whose function it is in */
byte ring[POSITIONS], next, tail;
byte orphan[WORKERS], orphans, marks;
byte spot[WORKERS];
byte hint[WORKERS];      /* a ring of one */
bit lost[WORKERS];
byte dead[WORKERS];      /* 1: it is to die; 2: it has, confirmed */
bit asked[WORKERS], over; /* `asked`: its end was meant for a task, and is charged to nobody */
byte kills;
chan order = [SUBMITS + 1] of { byte, byte };

#ifdef NO_LOST
#define LOSE(w) skip
#else
#define LOSE(w) lost[w] = 1
#endif
inline tell(w, e)
{
    atomic { if :: hint[w] -> LOSE(w) :: else -> hint[w] = e + 1 fi }
}

inline die(w)
{
    dead[w] = 1;
    runs[w] = 0
}

/* ---- A worker ---- */

proctype worker(byte w)
{
    byte k, at, m, i, e, seen;
    bit mine;
again:
    k = 0; at = 0; m = 0; i = 0; e = 0; seen = 0; mine = 0;
    {
        do
        :: over -> goto out
        :: !over && (orphans != 0 || next != tail) -> /* else it sleeps */
            atomic { k = 0; m = orphans; i = 0 };
            if
            :: m != 0 ->
                do
                :: i < WORKERS && k == 0 ->
                    atomic { k = orphan[i]; if :: k != 0 -> spot[w] = k :: else fi };
                    if
                    :: k != 0 ->
                        atomic { if :: orphan[i] == k -> orphan[i] = 0 :: else -> k = 0 fi }
                    :: else
                    fi;
                    i++
                :: else -> break
                od;
                i = 0;
                if
                :: k == 0 ->
#ifdef ORPHANS_STORE
                    orphans = 0
#else
                    atomic { if :: orphans == m -> orphans = 0 :: else fi }
#endif
                :: else
                fi
            :: else
            fi;
            if
            :: k == 0 ->
                atomic {
                    at = next;
                    if
                    :: at != tail -> k = ring[at % POSITIONS];
#ifndef LATE_SPOT
                        spot[w] = k
#endif
                    :: else
                    fi
                };
                if
                :: k != 0 ->
                    atomic { if :: next == at -> next = at + 1 :: else -> k = 0 fi; at = 0 }
#ifdef LATE_SPOT
                    spot[w] = k
#endif
                :: else
                fi
            :: else
            fi;
            if
            :: k != 0 ->
                atomic { e = k - 1; seen = turn[e]; mine = state[e] == FREE; m = 0 };
                if
                :: mine ->
#ifdef BLIND_CLAIM
                    atomic { assert(runs[1 - w] != k); state[e] = CLAIMED; owner[e] = w; runs[w] = k }
#else
                    atomic { if :: state[e] == FREE && turn[e] == seen -> assert(runs[1 - w] != k); state[e] = CLAIMED; owner[e] = w; runs[w] = k :: else -> mine = 0 fi }
#endif
                :: else
                fi;
                if
                :: mine ->
                    m = DONE;
#if ENDS > 0
                    if
#ifndef RETRY_DOOMED
                    :: doomed[e] == turn[e] -> m = FAILED
#endif
                    :: else ->
#ifdef ENDLESS
                        false
#else
                        skip
#endif
                    fi;
#endif
                    atomic {
                        assert(state[e] == CLAIMED && owner[e] == w && turn[e] == seen);
                        state[e] = m;
                        runs[w] = 0
                    };
                    tell(w, e)
                :: else
                fi;
                atomic { spot[w] = 0; k = 0; e = 0; seen = 0; mine = 0; m = 0 }
            :: else
            fi
        od
    } unless { dead[w] == 1 };
    atomic { dead[w] = 2; k = 0; at = 0; m = 0; i = 0; e = 0; seen = 0; mine = 0 }; /* it runs nothing any more */
    if :: !dead[w] -> goto again :: over -> skip fi;
out:
    skip
}

/* ---- The supervisor, and deaths that nobody asked for ---- */

proctype supervisor()
{
    byte w, k, e, t, i;
    bit end_it, marked;
end:
    do
    :: over -> break
    :: kills < KILLS && !over -> atomic { if :: w = 0 :: w = WORKERS - 1 fi; if :: !dead[w] -> kills++; die(w) :: else fi }
    :: order?e, t ->
        i = WORKERS;
        atomic { if :: state[e] == CLAIMED && turn[e] == t && !dead[owner[e]] -> i = owner[e] :: else fi };
        /* Here it may finish, and take up another. */
        if
        :: i < WORKERS -> atomic { if :: !dead[i] -> asked[i] = 1; die(i) :: else fi }
        :: else
        fi
    :: dead[0] == 2 || dead[WORKERS - 1] == 2 ->
        if :: dead[0] == 2 -> w = 0 :: else -> w = WORKERS - 1 fi;
        atomic { k = spot[w]; if :: k != 0 -> e = k - 1; end_it = doomed[e] == turn[e] :: else fi };
        if
        :: k != 0 ->
#ifdef RETRY_DOOMED
            end_it = 0;
#endif
            atomic {
                if
                :: state[e] == CLAIMED && owner[e] == w ->
                    if
                    :: end_it || (!asked[w] && attempt[e] >= RETRIES) -> state[e] = FAILED
                    :: else -> state[e] = FREE; if :: !asked[w] -> attempt[e]++ :: else fi
                    fi
                :: else
                fi
            };
            if
            :: TERMINAL(e) ->
#ifndef NO_REPAIR_HINT
                tell(w, e)
#else
                skip
#endif
            :: state[e] == FREE ->
#ifndef NO_ORPHAN
                marked = 0;
#ifndef ORPHAN_TWICE
                marked = orphan[0] == k || orphan[WORKERS - 1] == k;
#endif
                i = 0;
                do
                :: i < WORKERS && !marked ->
                    atomic { if :: orphan[(w + i) % WORKERS] == 0 -> orphan[(w + i) % WORKERS] = k; marked = 1 :: else fi };
                    i++
                :: else -> break
                od;
                atomic { marks++; orphans = marks }
#else
                skip
#endif
            :: else
            fi
        :: else
        fi;
        atomic { spot[w] = 0; asked[w] = 0; dead[w] = 0; w = 0; k = 0; e = 0; t = 0; i = 0; end_it = 0; marked = 0 } /* started again */
    od
}

/* ---- The application ---- */

#define UNUSED 0
#define PENDING 1
#define LIMBO 2
byte use[ENTRIES], position[ENTRIES]; /* the application's own */
byte pending, submitted, cancels, ends;

inline noticed(e)
{
    atomic {
        assert(use[e] == PENDING && TERMINAL(e));
        pending--;
#ifdef NO_LIMBO
        use[e] = UNUSED
#else
        use[e] = LIMBO
#endif
    }
}

inline any(e, what) /* some entry in that use; blocks where there is none */
{
    if :: use[0] == what -> e = 0 :: use[ENTRIES - 1] == what -> e = ENTRIES - 1 fi
}
#define ANY(what) (use[0] == what || use[ENTRIES - 1] == what)

proctype application()
{
    byte e, w, at;
    bit got;
    do
    :: submitted < SUBMITS && ANY(UNUSED) ->
        any(e, UNUSED);
        atomic { doomed[e] = 0; position[e] = tail; turn[e]++; attempt[e] = 0; state[e] = FREE };
        atomic {
            assert(tail - next < ENTRIES); /* each entry is announced once at most */
            ring[tail % POSITIONS] = e + 1;
            tail++;
            use[e] = PENDING; pending++; submitted++; e = 0
        }
    :: ANY(LIMBO) && next != tail && TERMINAL(ring[next % POSITIONS] - 1) -> /* pass what needs no worker */
        atomic { at = next; w = ring[at % POSITIONS] };
        if
        :: at != tail && TERMINAL(w - 1) -> atomic { if :: next == at -> next++ :: else fi }
        :: else
        fi;
        atomic { at = 0; w = 0 }
    :: ANY(LIMBO) && (use[0] == LIMBO && position[0] < next || use[ENTRIES - 1] == LIMBO && position[ENTRIES - 1] < next) ->
        atomic {
            if
            :: use[0] == LIMBO && position[0] < next -> use[0] = UNUSED
            :: use[ENTRIES - 1] == LIMBO && position[ENTRIES - 1] < next -> use[ENTRIES - 1] = UNUSED
            fi
        }
    :: cancels < CANCELS && ANY(PENDING) ->
        any(e, PENDING);
        cancels++;
        atomic { got = state[e] == FREE; if :: got -> state[e] = CANCELLED :: else fi };
        if :: got -> noticed(e) :: else fi;
        atomic { got = 0; e = 0 }
    :: ends < ENDS && (use[0] == PENDING && doomed[0] == 0 || use[ENTRIES - 1] == PENDING && doomed[ENTRIES - 1] == 0) ->
        if
        :: use[0] == PENDING && doomed[0] == 0 -> e = 0
        :: use[ENTRIES - 1] == PENDING && doomed[ENTRIES - 1] == 0 -> e = ENTRIES - 1
        fi;
        ends++;
#ifdef ORDER_FIRST
        order!e, turn[e];
#endif
        doomed[e] = turn[e];
        atomic { got = state[e] == FREE; if :: got -> state[e] = CANCELLED :: else fi };
        if
        :: got -> noticed(e)
#ifndef ORDER_FIRST
        :: !got && !TERMINAL(e) -> order!e, turn[e]
#endif
        :: else
        fi;
        atomic { got = 0; e = 0 }
    :: hint[0] || hint[WORKERS - 1] ->
        if :: hint[0] -> w = 0 :: hint[WORKERS - 1] -> w = WORKERS - 1 fi;
        atomic {
            e = hint[w] - 1;
            hint[w] = 0;
            if :: use[e] == PENDING && TERMINAL(e) -> noticed(e) :: else fi;
            w = 0;
            e = 0
        }
    :: lost[0] || lost[WORKERS - 1] ->
        atomic { lost[0] = 0; lost[WORKERS - 1] = 0 };
        if :: use[0] == PENDING && TERMINAL(0) -> noticed(0) :: else fi;
        if :: use[ENTRIES - 1] == PENDING && TERMINAL(ENTRIES - 1) -> noticed(ENTRIES - 1) :: else fi
    :: submitted == SUBMITS && pending == 0 -> break
    od;
    over = 1
}

init { atomic { run worker(0); run worker(1); run supervisor(); run application() } }

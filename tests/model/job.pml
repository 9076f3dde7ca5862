/* The claim protocol of workers/DESIGN.md: one job descriptor, used again at once for the next job (the worst
 * case), two workers that may die at every shared step, the application that opens, cancels and closes jobs,
 * the supervisor that repairs and respawns.
 *
 * How to read it.  `if :: DIE :: step fi` is one shared access of a worker, which may also be its last moment.
 * A compare-and-swap is one guarded atomic step: a read followed by a CAS that succeeds is the same as doing
 * both at the CAS.  An event count is one bit per sleeper, "notified since I took my key", which is all that a
 * key can tell.  Ghosts (first letter g) are seen by assertions only. A worker that dies waits at `died` until
 * the supervisor starts it again, with the next generation.
 *
 * Build options: RANGES (else workers look for free words from the front), ITEMS per chunk, DEADLINES, CANCELS,
 * STOP (a worker cancels), SPLIT (parameters are written and read piece by piece), KILLS, MAXA attempts an
 * item, and the windows of the two jobs. README.md names the mutants. */
#ifndef KILLS
#define KILLS 1
#endif
#ifndef CANCELS
#define CANCELS 0
#endif
#ifndef DEADLINES
#define DEADLINES 0
#endif
#ifndef ITEMS
#define ITEMS 1
#endif
#ifndef MAXA
#define MAXA 2
#endif
#ifndef JOBS
#define JOBS 2
#endif
/* Chunks in each window of each job; 0 = there is no such window. */
#ifndef N11
#define N11 2
#endif
#ifndef N12
#define N12 1
#endif
#ifndef N21
#define N21 1
#endif
#ifndef N22
#define N22 0
#endif
#define N 2 /* words */
#define CHUNKS(j, x) (j == 1 -> (x == 0 -> N11 : N12) : (x == 0 -> N21 : N22))
#define LAST(j, x) (x == 1 || (j == 1 -> N12 == 0 : N22 == 0))

#define FREE 0
#define CLAIMED 1
#define DONE 2
#define FAILED 3
#define CANCELLED 4
#define OPEN 5
#define MOVING 6
#define FINISHED 7

byte st[N] = DONE, own[N], rd[N], att[N], off[N]; /* chunk words {state, owner, round, attempt, resume at} */
byte hs = FREE, hr, ho;                           /* head word {state, round, owner} */
byte pj[2], pw[2];                                /* parameters, by parity of the round: job (function) and window */
byte left, lr;                                    /* chunks left, and the round they belong to */
bool deaths;
bool woke[2], ev;                                 /* event counts: of the workers, of the caller */
bool dead[2], doomed[2], moved[2];                /* doomed: killed by the deadline; moved: has gone to another item since */
byte ao[2], aa[2];                                /* each slot's item and attempt: what to put back into the word when it dies */
byte kills = KILLS, cancels = CANCELS, deadlines = DEADLINES;
bool finished;
#ifdef RANGES
byte rlo[2], rhi[2], rr[2];
#endif
byte gj, gw;                                      /* which job and window is open */
byte gwriters[N], gcommits[N];
byte gitem[N * ITEMS];                            /* 0, 1 = run to its end, 2 = in the failure log */
byte gguilty[N * ITEMS];                          /* deaths it was guilty of */

#define DIE atomic { (kills > 0 || doomed[w]) && !finished -> if :: doomed[w] :: else -> kills-- fi; goto died }
#define WAKE d_step { woke[0] = true; woke[1] = true }
#define ME (1 + w + 2 * g)
#define OLDER(i) (rd[i] < r)
#if defined(NO_ROUND_TAG)
#define CAN(i) (st[i] == FREE)
#elif defined(NEWER_IS_FREE)
#define CAN(i) (rd[i] != r || st[i] == FREE)
#else
#define CAN(i) (OLDER(i) || (rd[i] == r && st[i] == FREE))
#endif
#define TERMINAL(i) (rd[i] == r && (st[i] == DONE || st[i] == FAILED || st[i] == CANCELLED))
#define OFF(i) (rd[i] == r -> off[i] : 0)
#define ATT(i) (rd[i] == r -> att[i] : 0)

/* What must hold when a round ends.  j is a scratch variable of the caller. */
inline check_round(j, cancelled)
{
    j = 0;
    do
    :: j < CHUNKS(gj, gw) ->
        assert(rd[j] == hr && gwriters[j] == 0);
        assert((st[j] == DONE && gcommits[j] == 1) || (st[j] == FAILED && gcommits[j] == 0) ||
               (cancelled && st[j] == CANCELLED && gcommits[j] == 0));
        j++
    :: else -> break
    od;
    j = 0
}

/* The head becomes OPEN(round): the only thing that makes a round exist. */
inline open_round(j, round, jobno, window)
{
    j = 0;
    do
    :: j < N ->
        gcommits[j] = 0;
#ifdef NO_ROUND_TAG
        st[j] = FREE; rd[j] = round; att[j] = 0; off[j] = 0;
#endif
        j++
    :: else -> break
    od;
    j = 0;
    do :: j < N * ITEMS -> gitem[j] = 0; gguilty[j] = 0; j++ :: else -> break od;
    j = 0; gj = jobno; gw = window; hr = round; ho = 0; hs = OPEN
}

/* A chunk is DONE: each of its items has run to its end or is in the failure log.  Its ghosts have served. */
inline check_items(i, j)
{
    j = 0;
    do
    :: j < ITEMS -> assert(gitem[i * ITEMS + j] != 0); gitem[i * ITEMS + j] = 0; gguilty[i * ITEMS + j] = 0; j++
    :: else -> break
    od;
    j = 0
}

#ifdef RANGES
/* An untouched range holds its initial part; one of a newer round says that ours is over. */
#define FIRST(x) (CHUNKS(job, win) * (x) / 2)
#ifdef RANGE_NEWER_IS_OLD
#define TOUCHED(x) (rr[x] == r)
#define FULL(x) (LO(x) < HI(x))
#else
#define TOUCHED(x) (rr[x] >= r)
#define FULL(x) (rr[x] <= r && LO(x) < HI(x))
#endif
#define LO(x) (TOUCHED(x) -> rlo[x] : FIRST(x))
#define HI(x) (TOUCHED(x) -> rhi[x] : FIRST((x) + 1))
#endif

proctype Worker(byte w)
{
    byte g, r, job, win, i, j, o, a;
    bool all, mine;
again:
    atomic { r = 0; job = 0; win = 0; i = 0; j = 0; o = 0; a = 0; all = false };
#ifndef LATE_KEY
    if :: DIE :: woke[w] = false fi;
#endif
    if :: DIE :: atomic { hs == OPEN -> r = hr } :: atomic { hs != OPEN -> goto idle } fi;
#ifdef SPLIT
    if :: DIE :: job = pj[r & 1] fi;
    if :: DIE :: win = pw[r & 1] fi;
#else
    if :: DIE :: d_step { job = pj[r & 1]; win = pw[r & 1] } fi;
#endif
#ifndef NO_HEAD_RECHECK
    if :: DIE :: atomic { hs == OPEN && hr == r -> skip } :: atomic { !(hs == OPEN && hr == r) -> goto again } fi;
#endif
pop:
#ifdef RANGES
    if
    :: DIE
    :: atomic { FULL(w) -> i = LO(w); j = HI(w); rlo[w] = i + 1; rhi[w] = j; rr[w] = r; j = 0; goto got }
    :: atomic { !FULL(w) -> skip }
    fi;
    if
    :: DIE
    :: atomic { FULL(1 - w) -> 
           if
           :: rr[1 - w] == r -> i = (LO(1 - w) + HI(1 - w)) / 2; j = HI(1 - w); rhi[1 - w] = i
           :: else -> i = LO(1 - w); j = HI(1 - w); rlo[1 - w] = j; rhi[1 - w] = j; rr[1 - w] = r /* whole */
           fi };
        /* publish the loot */
        if :: DIE :: atomic { if :: rr[w] <= r -> rlo[w] = i; rhi[w] = j; rr[w] = r :: else fi; i = 0; j = 0 } fi;
        goto pop
    :: atomic { !FULL(1 - w) -> skip }
    fi;
    if :: DIE :: atomic { deaths -> skip } :: atomic { !deaths -> goto idle } fi;
#endif
    /* Look at the words themselves, from the front. */
    i = 0; all = true;
    do
    :: i < CHUNKS(job, win) ->
        if
        :: DIE
        :: atomic { CAN(i) -> all = false; goto got }
        :: atomic { !CAN(i) -> if :: TERMINAL(i) :: else -> all = false fi; i++ }
        fi
    :: else -> break
    od;
    i = 0;
#ifndef COUNT_ONLY
    if :: DIE :: atomic { all && deaths -> all = false; goto move } :: atomic { !(all && deaths) -> all = false } fi;
#endif
    goto idle;

got:
    /* The slot says which item it is at BEFORE the claim: the claim overwrites the offset in the word. */
#if (ITEMS > 1 || DEADLINES > 0) && !defined(AT_AFTER_CLAIM)
    if
    :: DIE
    :: atomic { CAN(i) -> o = OFF(i); a = ATT(i) }
    :: atomic { !CAN(i) -> goto lost }
    fi;
    if :: DIE :: d_step { ao[w] = o; aa[w] = a; moved[w] = true } fi;
#define SAME (CAN(i) && OFF(i) == o && ATT(i) == a)
#else
#define SAME CAN(i) /* there is nothing to see between the read and the claim */
#endif
    if
    :: DIE
    :: atomic { SAME ->
           assert(hr == r && (hs == OPEN || hs == CANCELLED)); /* this round is open */
           assert(job == gj && win == gw && i < CHUNKS(gj, gw)); /* and these are its parameters */
           o = OFF(i); a = ATT(i);
#if ITEMS == 1 && DEADLINES == 0
           ao[w] = o; aa[w] = a;
#endif
           st[i] = CLAIMED; own[i] = ME; rd[i] = r; att[i] = 0; off[i] = 0; mine = true; gwriters[i]++;
#ifndef BLIND_COMMIT
           assert(gwriters[i] == 1)
#endif
       }
    :: atomic { !SAME -> goto lost }
    fi;
#ifdef AT_AFTER_CLAIM
    if :: DIE :: d_step { ao[w] = o; aa[w] = a; moved[w] = true } fi;
#endif
#if ITEMS > 1
    do
    :: o + 1 < ITEMS ->
        if :: DIE :: d_step { gitem[i * ITEMS + o] = 1; o++; ao[w] = o; moved[w] = true;
#ifndef CHARGE_NEXT
            aa[w] = 0; a = 0;
#endif
            skip } fi
    :: else -> break
    od;
#endif
#ifdef STOP
    if /* this item failed and the caller wants no more: before the commit, so that the round cannot have ended */
    :: atomic { cancels > 0 -> cancels-- };
        if :: DIE :: d_step { if :: hs == OPEN && hr == r -> hs = CANCELLED :: else fi } fi;
        if :: DIE :: ev = true fi
    :: true
    fi;
#endif
    if
    :: DIE
    :: d_step {
           gwriters[i]--; gitem[i * ITEMS + o] = 1;
           if
#ifdef BLIND_COMMIT
           :: true ->
#else
           :: st[i] == CLAIMED && own[i] == ME && rd[i] == r ->
#endif
               st[i] = DONE; own[i] = 0; att[i] = 0; gcommits[i]++; assert(gcommits[i] == 1);
               check_items(i, j)
           :: else
           fi;
#if ITEMS == 1 && DEADLINES == 0
           ao[w] = 0; aa[w] = 0;
#endif
           mine = false; o = 0; a = 0; i = 0 }
    fi;
    if
    :: DIE
#ifdef UNTAGGED_LEFT
    :: d_step { left--; all = (left == 0) }
#else
    :: d_step { if :: lr == r -> left--; all = (left == 0) :: else -> all = false fi }
#endif
    fi;
    if :: all -> all = false; goto move :: else fi;
look:
    if :: DIE :: atomic { hs == CANCELLED && hr == r -> skip } :: atomic { !(hs == CANCELLED && hr == r) -> goto pop } fi;
    if :: DIE :: ev = true fi;
    goto again;
lost:
    atomic { o = 0; a = 0; i = 0; all = false };
    goto pop;

move:
    if
    :: DIE
    :: atomic { hs == OPEN && hr == r -> hs = MOVING; ho = ME }
    :: atomic { !(hs == OPEN && hr == r) -> goto refused }
    fi;
    if
    :: LAST(job, win) ->
        if :: DIE :: d_step { check_round(j, false); ho = 0; hs = FINISHED } fi;
        if :: DIE :: ev = true fi
    :: else ->
#ifdef SPLIT
        if :: DIE :: pj[(r + 1) & 1] = job fi;
        if :: DIE :: pw[(r + 1) & 1] = win + 1 fi;
        if :: DIE :: d_step { lr = r + 1; left = CHUNKS(job, win + 1) } fi;
#else
        if
        :: DIE
        :: d_step { pj[(r + 1) & 1] = job; pw[(r + 1) & 1] = win + 1; lr = r + 1; left = CHUNKS(job, win + 1) }
        fi;
#endif
        if
        :: DIE
#ifdef CANCEL_OVERTAKES
        :: d_step {
               if
               :: hs == MOVING && ho == ME && hr == r -> check_round(j, false); open_round(j, r + 1, job, win + 1)
               :: else
               fi }
#else
        :: d_step { check_round(j, false); open_round(j, r + 1, job, win + 1) }
#endif
        fi;
        if :: DIE :: WAKE fi
    fi;
    goto again;
refused: /* somebody else moves, or it was cancelled: then the caller may be waiting for what we have just committed */
    if :: DIE :: atomic { hs == CANCELLED && hr == r -> skip } :: atomic { !(hs == CANCELLED && hr == r) -> goto again } fi;
    if :: DIE :: ev = true fi;
    goto again;

idle:
    atomic { r = 0; job = 0; win = 0; i = 0; j = 0; o = 0; a = 0; all = false };
#ifdef LATE_KEY
    if :: DIE :: woke[w] = false fi;
#endif
    if :: DIE :: atomic { finished -> goto out } :: atomic { woke[w] && !finished -> goto again } fi;

died:
    atomic {
        if :: mine -> gwriters[i]-- :: else fi;
        if :: mine && !(doomed[w] && moved[w]) -> gguilty[i * ITEMS + o]++ :: else fi;
        mine = false; r = 0; job = 0; win = 0; i = 0; j = 0; o = 0; a = 0; all = false;
        woke[w] = true; dead[w] = true };
    if :: atomic { finished -> goto out } :: atomic { !dead[w] && !finished -> g++; goto again } fi;
out:
    skip
}

proctype Application()
{
    byte k = 1, r, i;
    bool all;
    do
    :: k <= JOBS ->
#ifdef SPLIT
        r = hr + 1;
        deaths = false;
        pj[r & 1] = k;
        pw[r & 1] = 0;
        d_step { lr = r; left = CHUNKS(k, 0) };
#else
        d_step { r = hr + 1; deaths = false; pj[r & 1] = k; pw[r & 1] = 0; lr = r; left = CHUNKS(k, 0) };
#endif
        d_step { open_round(i, r, k, 0) };
        WAKE;
        do
        ::  ev = false;
            if
            :: atomic { hs == FINISHED -> break }
            :: atomic { hs == CANCELLED -> r = hr };
                i = 0; all = true; /* again after each wake: a repair makes words free */
                do
                :: i < CHUNKS(gj, gw) ->
#ifdef CANCEL_STORES
                    if
                    :: st[i] == DONE && rd[i] == r
                    :: else -> d_step { st[i] = CANCELLED; rd[i] = r; own[i] = 0; att[i] = 0; off[i] = 0 }
                    fi;
#else
                    d_step {
                        if :: CAN(i) -> st[i] = CANCELLED; rd[i] = r; own[i] = 0; att[i] = 0; off[i] = 0 :: else fi };
#endif
                    d_step { if :: TERMINAL(i) :: else -> all = false fi; i++ }
                :: else -> break
                od;
                i = 0;
                if :: all -> break :: else fi;
#ifdef SWEEP_ONCE
                do /* waits for the words to become terminal, and frees none again */
                :: ev; ev = false; i = 0; all = true;
                    do :: i < CHUNKS(gj, gw) -> if :: TERMINAL(i) :: else -> all = false fi; i++ :: else -> break od;
                    if :: all -> break :: else fi
                od;
                break
#else
                ev
#endif
            :: atomic { hs != FINISHED && hs != CANCELLED -> skip };
                if
                :: ev
#ifdef CANCEL_OVERTAKES
                :: atomic { cancels > 0 && (hs == OPEN || hs == MOVING) -> cancels--; hs = CANCELLED; ho = 0 }
#else
                :: atomic { cancels > 0 && hs == OPEN -> cancels--; hs = CANCELLED } /* at any time; a move is waited for */
#endif
                fi
            fi
        od;
        atomic { check_round(i, hs == CANCELLED); hs = FREE; r = 0; all = false };
        k++
    :: else -> break
    od;
    finished = true
}

#define HOLDS(w) ((st[0] == CLAIMED && own[0] % 2 == 1 - w) || (st[1] == CLAIMED && own[1] % 2 == 1 - w)) /* see ME */
#define BY(o, w) (o == 1 + w + 2 * g[w])

/* Puts back what slot w held in generation g[w]: one compare-and-swap a word. */
inline repair(w)
{
#if !defined(DEATHS_AFTER) && !defined(DEATHS_AFTER_WAKE)
    deaths = true;
#endif
    i = 0;
    do
    :: i < N ->
        d_step {
            if
            :: st[i] == CLAIMED && BY(own[i], w) ->
                o = ao[w]; a = aa[w];
#ifdef CHARGE_INNOCENT
                a++;
#else
                if :: doomed[w] && moved[w] :: else -> a++ fi; /* killed for an item that it had finished: nobody's fault */
#endif
                own[i] = 0; st[i] = FREE;
                if
                :: a >= MAXA ->
                    assert(gguilty[i * ITEMS + o] >= MAXA);
                    gitem[i * ITEMS + o] = 2; a = 0; o++;
                    if
                    :: ITEMS == 1 -> o = 0; st[i] = FAILED; gitem[i] = 0; gguilty[i] = 0
                    :: ITEMS > 1 && o == ITEMS -> o = 0; st[i] = DONE; gcommits[i]++; assert(gcommits[i] == 1); check_items(i, j)
                    :: else
                    fi
                :: else
                fi;
                att[i] = a; off[i] = o; o = 0; a = 0
            :: else
            fi;
            i++ }
    :: else -> break
    od;
    i = 0;
#ifndef REPAIR_KEEPS_MOVING
    d_step { if :: hs == MOVING && BY(ho, w) -> hs = OPEN; ho = 0 :: else fi };
#endif
#ifdef DEATHS_AFTER
    deaths = true;
#endif
}

proctype Supervisor()
{
    byte i, j, o, a, w, g[2];
    do
    :: atomic { dead[0] || dead[1] -> if :: dead[0] -> w = 0 :: dead[1] -> w = 1 fi };
        repair(w);
        /* the new incarnation */
        d_step { g[w]++; doomed[w] = false; moved[w] = false; ao[w] = 0; aa[w] = 0; dead[w] = false; w = 0 };
        WAKE;
#ifdef DEATHS_AFTER_WAKE
        deaths = true;
#endif
#ifndef NO_CALLER_WAKE
        ev = true
#endif
#if DEADLINES > 0
    :: d_step { deadlines > 0 && !finished && !dead[0] && HOLDS(0) -> deadlines--; doomed[0] = true; moved[0] = false }
    :: d_step { deadlines > 0 && !finished && !dead[1] && HOLDS(1) -> deadlines--; doomed[1] = true; moved[1] = false }
#endif
#ifdef REPAIR_ALIVE
    :: atomic { kills > 0 && !dead[0] && HOLDS(0) -> kills--; w = 0 }; repair(w); WAKE
#endif
    :: atomic { finished -> break }
    od
}

init { atomic { run Worker(0); run Worker(1); run Application(); run Supervisor() } }

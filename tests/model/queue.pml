/* The queue of shm/queue.c: producers, consumers, a joiner, a close and deaths at any step.  Modelled on purpose
 * more loosely than the code where the code only hints: a scan begins at ANY slot (head and tail), so what is proved
 * does not depend on them.
 *
 * Kept: a slot's word {state, owner, seq} with one compare-and-swap a step; the bytes and `before` written while
 * WRITING, copied while READING; who finds a READY message looks for an earlier one of its producer; event counts
 * whose notify wakes one sleeper (or all), keys taken before the look; the recheck of `closed` behind a claim;
 * mending by whoever waits, word by word, only of the dead; sleeps that end after a death (the slices of the code).
 * With JOIN: accounts of each consumer, task_done, and a joiner.  Left out: sizes, entries of members used again.
 *
 * Checked: no message is got twice or lost, none is got that was not put; one producer's arrive in its order where
 * nothing had to be given back; every wait ends; join does not end before what was put is done.
 *
 * NP producers of M messages, NC consumers, C slots, KILLS deaths. */
#ifndef C
#define C 2
#endif
#ifndef NP
#define NP 1
#endif
#ifndef NC
#define NC 1
#endif
#ifndef M
#define M 2
#endif
#ifndef KILLS
#define KILLS 0
#endif

#define ALL (NP + NC + 1)
#define NOBODY 255
#define FREE 0
#define WRITING 1
#define READY 2
#define READING 3

/* The three events, by who waits for them: producers [0, NP), consumers [NP, NP + NC), the joiner. */
#define WRITABLE 0
#define READABLE NP
#define FINISHED (NP + NC)

byte st[C], own[C], sq[C], msg[C], before_slot[C], before_seq[C];
bool changed[ALL], asleep[ALL], put_meanwhile;
bool closed;
bool dead[ALL];
byte deaths, kills = KILLS;
byte producers = NP, consumers = NC, saw_the_end;
byte undone[NC];

bool put[NP * M + 1], returned[NP * M + 1], was_done[NP * M + 1];   /* ghosts */
byte got[NP * M + 1], getter[NP * M + 1];
bool idle; /* since join began there was a moment at which every message whose put had returned was done */

inline look_whether_idle(y) {
  y = 1;
  do :: y <= NP * M && (!returned[y] || was_done[y]) -> y++ :: else -> break od;
  if :: y > NP * M -> idle = true :: else fi;
  y = 0
}

#define DIE atomic { kills > 0 -> kills--; goto died }

/* A key is only ever compared with what it was: so for each waiter it is kept whether the event has changed since it
 * took its key.  Changing the key and waking are two steps of the code; who goes to sleep in between sees the new
 * key, so one step shows the same. */
#define take_key(me) changed[me] = false
inline notify(ev, end, everybody, x) {
  d_step {
    x = ev;
    do :: x < end -> changed[x] = true; x++ :: else -> break od;
    if :: ev == READABLE -> put_meanwhile = true :: else fi;
    x = ev;
    do
    :: x < end && asleep[x] -> asleep[x] = false; if :: everybody -> x++ :: else -> break fi
    :: x < end && !asleep[x] -> x++
    :: else -> break
    od;
    x = 0
  }
}
#define tell_producers(everybody) notify(WRITABLE, NP, everybody, x)
#define tell_consumers(everybody) notify(READABLE, NP + NC, everybody, x)
#define tell_joiner notify(FINISHED, ALL, true, x)

inline freed(x) {
  tell_producers(false);
#ifndef NO_DRAIN_WAKE
  if :: closed -> tell_consumers(true) :: else fi
#endif
}

inline mend(j, x) {
  j = 0;
  do
  :: j < C ->
     if
#ifndef NO_MEND
     :: atomic { (st[j] == WRITING || st[j] == READING) && dead[own[j]] ->
          freeing = st[j] == WRITING; st[j] = (freeing -> FREE : READY); own[j] = NOBODY };
        if
        :: DIE
        :: freeing -> freed(x)
        :: !freeing -> tell_consumers(false)
        fi
#endif
     :: else
     fi;
     j++
  :: else -> break
  od;
  j = 0; freeing = false
}

/* The slices of the code: every death ends a sleep, some time. */
inline sleep(me) {
  atomic { if :: !changed[me] -> asleep[me] = true :: else fi };
  atomic { (!asleep[me] || deaths != seen) -> asleep[me] = false };
  seen = deaths
}

proctype Producer(byte p) {
  byte n = 1, i, s, x, j, seen, last_slot, last_seq;
  bool found, freeing;
  do
  :: n <= M ->
again:
     skip; d_step { i = 0; s = 0 };
#ifndef LATE_KEY
     take_key(p);
#endif
     if :: closed -> goto out :: else fi;
     s = 0; found = false;
     if :: i = 0 :: C > 1 -> i = C - 1 fi;
     do
     :: s < C && !found ->
        if
        :: DIE
        :: atomic { st[i] == FREE -> st[i] = WRITING; own[i] = p; sq[i]++; found = true }
        :: atomic { st[i] != FREE -> i = (i + 1) % C; s++ }
        fi
     :: else -> break
     od;
     if
     :: !found ->
#ifdef LATE_KEY
        take_key(p);
#endif
        sleep(p);
        mend(j, x);
        goto again
     :: else
     fi;
#ifndef NO_RECHECK
     if
     :: DIE
     :: closed -> d_step { st[i] = FREE; own[i] = NOBODY }; freed(x); goto out
     :: !closed
     fi;
#endif
     if :: DIE :: d_step { msg[i] = p * M + n; before_slot[i] = last_slot; before_seq[i] = last_seq } fi;
     if
     :: DIE
     :: d_step {
          assert(st[i] == WRITING && own[i] == p);
          st[i] = READY; own[i] = NOBODY; put[p * M + n] = true;
          last_slot = i; last_seq = sq[i] }
     fi;
     if :: DIE :: tell_consumers(false) fi;
     d_step { returned[p * M + n] = true; n++ }
  :: else -> break
  od;
out:
  skip; d_step { producers-- };
  goto end;
died:
  skip; d_step { dead[p] = true; deaths++; producers--; asleep[p] = false };
end:
  skip
}

proctype Consumer(byte c) {
  byte i, s, b, bq, q, m, x, j, seen;
  byte latest[NP];
  bool none, cl, freeing;
again:
  skip; d_step { i = 0; s = 0; b = 0; bq = 0; q = 0; m = 0 };
#ifndef LATE_KEY
  take_key(c);
#endif
  cl = closed;
  s = 0; none = true;
  if :: i = 0 :: C > 1 -> i = C - 1 fi;
  do
  :: s < C ->
     if
     :: DIE
     :: atomic { st[i] == READY -> q = sq[i]; goto ready }
     :: atomic { st[i] != READY -> none = none && st[i] == FREE; i = (i + 1) % C; s++ }
     fi
  :: else -> break
  od;
  if :: cl && none -> goto out :: else fi;
#ifdef LATE_KEY
  take_key(c);
#endif
  sleep(c);
  mend(j, x);
  goto again;

ready:
#ifndef NO_BEFORE
  do
  :: atomic { true -> b = before_slot[i]; bq = before_seq[i] };
     if
     :: atomic { bq != 0 && st[b] == READY && sq[b] == bq -> i = b; q = bq }
     :: atomic { else -> break }
     fi
  od;
#endif
  if
  :: DIE
#ifdef NO_SEQ
  :: atomic { st[i] == READY -> st[i] = READING; own[i] = c }
  :: st[i] != READY -> goto again
#else
  :: atomic { st[i] == READY && sq[i] == q -> st[i] = READING; own[i] = c }
  :: !(st[i] == READY && sq[i] == q) -> goto again
#endif
  fi;
#ifdef TAKE_FIRST
  d_step { st[i] = FREE; own[i] = NOBODY };
  if :: DIE :: m = msg[i] fi;
  d_step { got[m]++; assert(got[m] == 1) };
#else
  if :: DIE :: m = msg[i] fi;
#if defined(JOIN) && !defined(OPEN_AFTER)
  if :: DIE :: undone[c - NP]++ fi;
#endif
  if
  :: DIE
  :: d_step {
       if :: st[i] == READING && own[i] == c -> st[i] = FREE; own[i] = NOBODY :: else -> assert(false) fi;
       got[m]++; getter[m] = c;
       assert(put[m] && got[m] == 1);
       assert(deaths > 0 || m > latest[(m - 1) / M]);
       latest[(m - 1) / M] = m }
  fi;
#endif
#ifdef OPEN_AFTER
  if :: DIE :: undone[c - NP]++ fi;
#endif
  if :: DIE :: freed(x) fi;
#ifdef JOIN
  d_step { was_done[m] = true; look_whether_idle(x) };
  if :: DIE :: undone[c - NP]-- fi;
  if :: DIE :: tell_joiner fi;
#endif
  goto again;
out:
  skip; d_step { consumers--; saw_the_end++ };
  goto end;
died:
  skip; d_step { dead[c] = true; deaths++; consumers--; asleep[c] = false };
end:
  skip
}

#ifdef JOIN
inline look_at_members() {
  i = 0;
  do
  :: i < NC -> atomic { if :: undone[i] > 0 && !dead[NP + i] -> all = false :: else fi; i++ }
  :: else -> break
  od
}

proctype Joiner(byte me) {
  byte i, seen, x, j;
  bool due[NP * M + 1], all, freeing;
  d_step {
    i = 1;
    do :: i <= NP * M -> due[i] = returned[i]; i++ :: else -> break od;
    i = 0; idle = false; look_whether_idle(x) };
again:
  take_key(me);
  put_meanwhile = false;
  all = true;
#ifdef MEMBERS_FIRST
  look_at_members();
#endif
  i = 0;
  do
  :: i < C -> atomic { if :: st[i] == READY || st[i] == READING -> all = false :: else fi; i++ }
  :: else -> break
  od;
#ifndef MEMBERS_FIRST
  look_at_members();
#endif
#ifndef NO_KEY_CHECK
  if :: put_meanwhile -> all = false :: else fi;
#endif
  if
  :: all -> goto out
  :: !all && consumers == 0 -> goto end  /* nobody is left to do it: the caller's time-out */
  :: else -> skip
  fi;
  /* `put_meanwhile`: the slice of the code ends that sleep */
  atomic { if :: !changed[me] && !put_meanwhile -> asleep[me] = true :: else fi };
  atomic { (!asleep[me] || deaths != seen || consumers == 0) -> asleep[me] = false };
  seen = deaths;
  mend(j, x);
  goto again;
died:
  goto end;
out:
  skip; d_step {
    i = 1;
    do
    :: i <= NP * M -> assert(!due[i] || was_done[i] || (got[i] == 1 && dead[getter[i]])); i++
    :: else -> break
    od;
    assert(deaths > 0 || idle)
  };
end:
  skip
}
#endif

#ifdef NO_FENCE
/* Takes a slow producer for dead. */
proctype Impatient() {
  byte j;
  do
  :: j < C -> d_step { if :: st[j] == WRITING && own[j] == 0 -> st[j] = FREE; own[j] = NOBODY :: else fi; j++ }
  :: else -> break
  od
}
#endif

init {
  byte i, x;
  atomic {
    i = 0; do :: i < NP -> run Producer(i); i++ :: else -> break od;
    do :: i < NP + NC -> run Consumer(i); i++ :: else -> break od;
#ifdef JOIN
    run Joiner(NP + NC);
#endif
#ifdef NO_FENCE
    run Impatient();
#endif
  }
#ifndef CLOSE_ANY
  (producers == 0 || consumers == 0);
#endif
  closed = true;
  tell_producers(true);
  tell_consumers(true);
  (_nr_pr == 1);
  i = 1;
  do
  :: i <= NP * M ->
     assert(!put[i] || got[i] == 1 || (saw_the_end == 0 && got[i] == 0));
     assert(put[i] || got[i] == 0);
     i++
  :: else -> break
  od
}

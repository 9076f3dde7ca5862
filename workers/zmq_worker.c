/* The workers' side of the ZeroMQ channel: receives a chunk, runs it over the bytes that came, and sends what came out.
 *
 * What kills a worker here and not in the other channels: a function that closes descriptors which are not its own.  libzmq would find out
 * later, and abort when another chunk is running, or never (the application then notices that it cannot reach this worker, and ends it).
 * So this looks after each chunk whether they are still there, and if not ends at once, for the right chunk. */
#include "workers/zmq.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "workers/life.h"
#include "workers/round.h"
#include "workers/zmq_lib.h"

#define R memory_order_relaxed
#define FDS 1024     /* where libzmq's descriptors are looked for */
#define MOST_FDS 32u
#define LOOK_MS 500  /* idle: the end of the pool is told by a message; this is for when it got lost */
#define LEAVE_MS 10  /* the pool ends, but a job is still open */

struct serve {
    struct pm_worker *me;
    void *context, *socket;
    bool before[FDS]; /* open before libzmq came */
    int fd[MOST_FDS]; /* libzmq's */
    unsigned fds;
    char *aligned;    /* a copy of the input when libzmq's memory does not suit it; kept, for the pages are mapped */
    size_t room;
    int64_t late_out; /* time in the last send, which is accounted with the next chunk */
    _Atomic uint64_t *last; /* the word of the last chunk that was answered, */
    uint64_t claim;         /* and what it says until the application has the answer */
};

static void add(_Atomic uint64_t *to, uint64_t n) { atomic_store_explicit(to, atomic_load_explicit(to, R) + n, R); }
static void add_ns(_Atomic int64_t *to, int64_t n) { atomic_store_explicit(to, atomic_load_explicit(to, R) + n, R); }

static void set(void *socket, int option, int value) { (void)pm_libzmq.setsockopt(socket, option, &value, sizeof value); }

static bool tell(struct serve *s, const struct pm_frame *frame, bool more)
{
    return PM_ZMQ_AGAIN(pm_libzmq.send(s->socket, frame, sizeof *frame, more ? ZMQ_SNDMORE : 0)) >= 0;
}

static void *note_tid(void *arg)
{
    *(pid_t *)arg = gettid();
    return NULL;
}

/* A thread that has been joined may count against the limit of processes for a moment yet: until the kernel knows its number no more. */
static void join(pthread_t thread, const pid_t *tid)
{
    (void)pthread_join(thread, NULL);
    while (syscall(SYS_tgkill, getpid(), *tid, 0) == 0) (void)sched_yield();
}

/* libzmq starts two threads with its first socket, and aborts the program when it cannot. */
bool pm_zmq_threads(void)
{
    pthread_t a, b;
    pid_t tid[2];
    if (pthread_create(&a, NULL, note_tid, &tid[0])) return false;
    bool both = pthread_create(&b, NULL, note_tid, &tid[1]) == 0;
    if (both) join(b, &tid[1]);
    join(a, &tid[0]);
    return both;
}

static bool set_up(struct serve *s)
{
    struct pm_board *board = s->me->board;
    unsigned char id[PM_FRAME_ID];
    int64_t largest = (int64_t)PM_ZMQ_LARGEST;
    for (;;) { /* until the first call of the application binds its end nobody wakes up */
        uint32_t key = pm_event_key(&board->work);
        if (atomic_load(&board->zmq_bound)) break;
        if (atomic_load(&board->stop) || pm_tenure_ends(s->me, 0)) return false;
        int64_t patience = pm_tenure_patience(s->me);
        if (patience == 0) return false;
        (void)pm_event_wait(&board->work, key, patience);
    }
    for (int fd = 0; fd < FDS; fd++) s->before[fd] = fcntl(fd, F_GETFD) >= 0;
    if (!pm_zmq_threads()) _exit(1); /* the supervisor counts it, and tries again later */
    s->context = pm_libzmq.ctx_new();
    s->socket = s->context ? pm_libzmq.socket(s->context, ZMQ_DEALER) : NULL;
    if (!s->socket) _exit(1);
    pm_frame_id(id, s->me->owner, board->zmq_nonce);
    (void)pm_libzmq.setsockopt(s->socket, ZMQ_ROUTING_ID, id, sizeof id);
    (void)pm_libzmq.setsockopt(s->socket, ZMQ_MAXMSGSIZE, &largest, sizeof largest);
    set(s->socket, ZMQ_LINGER, 0);
    set(s->socket, ZMQ_SNDHWM, PM_ZMQ_QUEUE);
    set(s->socket, ZMQ_RCVHWM, PM_ZMQ_QUEUE);
    if (PM_ZMQ_AGAIN(pm_libzmq.connect(s->socket, board->zmq)) < 0) _exit(1);
    struct pm_frame hello = {.magic = PM_FRAME_MAGIC, .version = PM_FRAME_VERSION, .kind = PM_FRAME_HELLO, .nonce = board->zmq_nonce,
                             .owner = s->me->owner, .suspect = PM_FRAME_SUSPECT_NONE};
    atomic_store(&s->me->slot->stage, PM_WORKING);
    return tell(s, &hello, false);
}

/* When the first message has come: libzmq has all that it will ever have, and no function has run yet. */
static void note_descriptors(struct serve *s)
{
    for (int fd = 0; fd < FDS && s->fds < MOST_FDS; fd++)
        if (!s->before[fd] && fcntl(fd, F_GETFD) >= 0) s->fd[s->fds++] = fd;
}

static void check_descriptors(const struct serve *s)
{
    for (unsigned i = 0; i < s->fds; i++) {
        if (fcntl(s->fd[i], F_GETFD) >= 0) continue;
        (void)dprintf(2, "pmap: a function has closed descriptor %d, which is the ZeroMQ channel's; its worker ends\n", s->fd[i]);
        (void)signal(SIGABRT, SIG_DFL);
        abort();
    }
}

/* Is it ours to run?  The word and the round decide, not the message. */
static bool check(struct serve *s, const struct pm_frame *f, struct pm_view *v)
{
    struct pm_board *board = s->me->board;
    if (f->kind != PM_FRAME_CHUNK || f->owner != s->me->owner || f->job >= PM_JOBS) return false;
    struct pm_job *job = &board->job[f->job];
    while (!pm_round_read(job, atomic_load(job->head), v)) continue;
    if (v->round != f->round || f->chunk >= v->chunks || atomic_load_explicit(&job->serial, R) != f->serial) return false;
    /* Acquire: what an earlier owner of the chunk has written to the board is seen by this one. */
    if (atomic_load(&job->word[f->chunk]) != pm_word(PM_CLAIMED, f->attempt, f->owner, f->round)) return false;
    return f->items == pm_chunk_end(v, f->chunk) - pm_chunk_first(v, f->chunk);
}

/* Runs the chunk around the items that have failed already; returns how many of its items are behind it. */
static uint32_t run_around(struct pm_worker *me, struct pm_job *job, uint64_t lo, const struct pm_frame *f, const uint32_t *skip)
{
    bool again = f->suspect != PM_FRAME_SUSPECT_NONE;
    uint32_t suspect = again ? f->suspect : 0, at = 0, next = 0;
    while (at < f->items) {
        if (next < f->skips && skip[next] == at) {
            next++;
            at++;
            continue;
        }
        uint32_t end = next < f->skips ? skip[next] : f->items;
        if (at < suspect && suspect < end) end = suspect;
        me->run.attempt = at == suspect ? f->attempt : 0;
        uint64_t reached = pm_worker_items(me, job, lo + at, lo + end, again);
        if (reached != lo + end) return (uint32_t)(reached - lo);
        at = end;
    }
    return at;
}

static void free_result(void *data, void *hint)
{
    (void)hint;
    free(data);
}

/* The answer; `out` goes with it. */
static void answer(struct serve *s, struct pm_frame f, uint32_t reached, char *out, size_t out_size)
{
    f.kind = PM_FRAME_RESULT;
    f.reached = reached;
    f.skips = 0;
    f.suspect = PM_FRAME_SUSPECT_NONE;
    f.bytes = reached * out_size;
    if (!tell(s, &f, f.bytes > 0)) _exit(1);
    if (f.bytes == 0) {
        free(out);
        return;
    }
    zmq_msg_t part;
    if (pm_libzmq.msg_init_data(&part, out, f.bytes, free_result, NULL) < 0) _exit(1);
    if (PM_ZMQ_AGAIN(pm_libzmq.msg_send(&part, s->socket, 0)) < 0) _exit(1);
}

static char *align(struct serve *s, const char *in, size_t bytes)
{
    if (bytes > s->room) {
        free(s->aligned);
        s->room = (bytes + PM_FRAME_ALIGN - 1) & ~(size_t)(PM_FRAME_ALIGN - 1);
        s->aligned = aligned_alloc(PM_FRAME_ALIGN, s->room);
        if (!s->aligned) _exit(1);
    }
    return memcpy(s->aligned, in, bytes);
}

static void do_chunk(struct serve *s, struct pm_frame *f, const uint32_t *skip, zmq_msg_t *data, int64_t begin)
{
    struct pm_worker *me = s->me;
    struct pm_job *job = &me->board->job[f->job];
    struct pm_spot *spot = &me->slot->spot;
    struct pm_view v;
    char *out = NULL;
    if (!check(s, f, &v)) return;
    const struct pm_work *work = &job->work;
    uint64_t lo = pm_chunk_first(&v, f->chunk);
    size_t bytes = data ? pm_libzmq.msg_size(data) - f->lead : 0, out_bytes = work->out ? f->items * work->out_size : 0;
    if (data && pm_libzmq.msg_size(data) < f->lead) _exit(1);
    if (bytes != f->bytes || bytes != pm_zmq_input(work, lo, f->items)) _exit(1); /* it is ours and cannot be run: the word must get free */
    struct pm_tally *tally = pm_tally_enter(me, job, begin);
    char *in = data ? (char *)pm_libzmq.msg_data(data) + f->lead : NULL;
    if (in) {
        size_t wanted = pm_zmq_alignment(work);
        uint32_t lead = (uint32_t)(((uintptr_t)f->lead - (uintptr_t)in) % wanted); /* malloc tends to give the same place again */
        if ((uintptr_t)in % wanted) in = align(s, in, bytes);
        f->lead = lead;
    }
    int64_t there = pm_now();
    if (out_bytes && !(out = aligned_alloc(PM_FRAME_ALIGN, (out_bytes + PM_FRAME_ALIGN - 1) & ~(size_t)(PM_FRAME_ALIGN - 1)))) _exit(1);
    uint64_t suspect = lo + (f->suspect == PM_FRAME_SUSPECT_NONE ? 0 : f->suspect);
    /* From here on a death is charged to this chunk, until the application has taken the result or another chunk is begun. */
    atomic_store_explicit(&spot->job, 0, R);
    atomic_store_explicit(&spot->from, suspect, R);
    atomic_store_explicit(&spot->item, suspect, R);
    atomic_store_explicit(&spot->exact, 0, R);
    atomic_store_explicit(&spot->chunk, f->chunk, R);
    atomic_store_explicit(&spot->round, f->round, R);
    atomic_store_explicit(&spot->job, f->job + 1, memory_order_release);
    pm_worker_prepare(me, job);
    me->run.in = in ? (const char *)((uintptr_t)in - lo * work->in_size) : NULL; /* the body counts from item 0 of the job */
    me->run.out = out ? (char *)((uintptr_t)out - lo * work->out_size) : NULL;
    int64_t start = pm_now();
    uint32_t reached = run_around(me, job, lo, f, skip);
    int64_t end = pm_now();
    check_descriptors(s);
    /* Before the answer: the next input may come to the same, warm memory. */
    if (data) (void)pm_libzmq.msg_close(data), (void)pm_libzmq.msg_init(data);
    atomic_store_explicit(&spot->deadline, 0, R);
    /* Before the result is sent: whoever takes it may then read the whole account. */
    add(&tally->items, reached);
    add(&tally->chunks, 1);
    add_ns(&tally->in, there - begin);
    add_ns(&tally->compute, end - start);
    add_ns(&tally->out, s->late_out);
    add_ns(&tally->inside, end - begin + s->late_out);
    atomic_store_explicit(&tally->leave, end, R);
    s->last = &job->word[f->chunk];
    s->claim = pm_word(PM_CLAIMED, f->attempt, f->owner, f->round);
    answer(s, *f, reached, out, work->out_size);
    me->tenure.items += reached;
    me->tenure.idle_from = 0;
    s->late_out = pm_now() - end;
}

/* One message: up to two parts.  False when the pool ends. */
static bool take(struct serve *s, zmq_msg_t *head)
{
    struct pm_frame f;
    zmq_msg_t data;
    uint32_t *skip = NULL;
    int64_t begin = pm_now();
    if (s->fds == 0) note_descriptors(s);
    bool more = pm_libzmq.msg_more(head) != 0, usable;
    usable = pm_frame_get(&f, pm_libzmq.msg_data(head), pm_libzmq.msg_size(head), s->me->board->zmq_nonce) == 0;
    (void)pm_libzmq.msg_init(&data);
    if (more) {
        (void)PM_ZMQ_AGAIN(pm_libzmq.msg_recv(&data, s->socket, 0)); /* all parts of a message are there together */
        more = pm_libzmq.msg_more(&data) != 0;
        usable = usable && !more && f.bytes;
        while (more) {
            zmq_msg_t rest;
            (void)pm_libzmq.msg_init(&rest);
            more = PM_ZMQ_AGAIN(pm_libzmq.msg_recv(&rest, s->socket, 0)) >= 0 && pm_libzmq.msg_more(&rest);
            (void)pm_libzmq.msg_close(&rest);
        }
    }
    if (usable && f.kind == PM_FRAME_CHUNK) {
        skip = malloc((f.skips + 1u) * sizeof *skip);
        if (!skip) _exit(1);
        if (pm_frame_skips(&f, pm_libzmq.msg_data(head), skip)) do_chunk(s, &f, skip, f.bytes ? &data : NULL, begin);
        free(skip);
    }
    (void)pm_libzmq.msg_close(&data);
    return !(usable && f.kind == PM_FRAME_BYE);
}

/* An answer that is on its way would be lost with this process.  The word tells when the application has it, or wants it no more.  A chunk that
 * has been sent meanwhile is not begun: the application takes it back as soon as this worker is gone. */
static void wait_until_taken(const struct serve *s)
{
    static const struct timespec a_little = {.tv_nsec = 50000};
    while (s->last && atomic_load(s->last) == s->claim) (void)nanosleep(&a_little, NULL);
}

/* How long to wait for a message. */
static int wait_ms(bool stop, int64_t patience)
{
    int64_t most = stop ? LEAVE_MS : LOOK_MS, ms = patience / 1000000 + 1;
    return (int)(patience >= 0 && ms < most ? ms : most);
}

void pm_zmq_serve(struct pm_worker *me)
{
    struct serve s = {.me = me};
    struct pm_board *board = me->board;
    pm_tenure_first(me);
    if (!set_up(&s)) return;
    for (bool on = true; on;) {
        zmq_msg_t head;
        (void)pm_libzmq.msg_init(&head);
        if (PM_ZMQ_AGAIN(pm_libzmq.msg_recv(&head, s.socket, ZMQ_DONTWAIT)) >= 0) {
            on = take(&s, &head) && !pm_tenure_ends(me, pm_now());
        } else if (errno == EAGAIN) {
            bool stop = atomic_load(&board->stop) != 0;
            int64_t patience = pm_tenure_patience(me);
            if (patience == 0 || (stop && !pm_board_busy(board)) || pm_tenure_ends(me, 0)) on = false;
            zmq_pollitem_t item = {.socket = s.socket, .events = ZMQ_POLLIN};
            pm_tenure_flush(me);
            if (on) (void)pm_libzmq.poll(&item, 1, wait_ms(stop, patience));
        } else if (errno != EINTR) {
            _exit(1);
        }
        (void)pm_libzmq.msg_close(&head);
    }
    wait_until_taken(&s);
}

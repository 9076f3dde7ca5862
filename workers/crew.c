/* Threads that run tasks; see crew.h. */
#include "workers/crew.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "shm/fd.h"

struct pm_mate {
    struct pm_crew *crew;
    pthread_t thread;
    alignas(128) struct pm_spot spot;
    _Atomic uint64_t progress;
    struct pm_hand hand;
};

void pm_crew_init(struct pm_crew *crew, const struct pm_executor *executor, const struct pm_setup *setup)
{
    memset(crew, 0, sizeof *crew);
    crew->executor = executor;
    crew->workers = setup->workers;
    crew->life = setup->life;
    crew->desk.bell = -1;
    pthread_mutex_init(&crew->lock, NULL);
}

static void ring(struct pm_hand *hand)
{
    struct pm_mate *mate = (struct pm_mate *)(void *)((char *)hand - offsetof(struct pm_mate, hand));
    uint64_t one = 1;
    atomic_store(&hand->tasks->bell, 0);
    if (write(mate->crew->desk.bell, &one, sizeof one) < 0) { /* its counter is full: readable all the same */
    }
}

void pm_crew_refuse(struct pm_crew *crew, unsigned worker, int code)
{
    int none = 0;
    if (atomic_compare_exchange_strong(&crew->code, &none, code)) atomic_store(&crew->refused, worker); /* the first one is told */
}

void pm_crew_why(const struct pm_crew *crew, char *text, size_t bytes)
{
    (void)snprintf(text, bytes, "the init hook of worker %u returned %d", atomic_load(&crew->refused), atomic_load(&crew->code));
}

static void *serve(void *arg)
{
    struct pm_mate *mate = arg;
    struct pm_crew *crew = mate->crew;
    struct pm_hand *hand = &mate->hand;
    pm_inside = crew->executor;
    int code = crew->life.init ? crew->life.init(hand->index, &hand->run.state, crew->life.arg) : 0;
    if (code) {
        pm_crew_refuse(crew, hand->index, code);
        pm_event_notify(&hand->tasks->done, INT_MAX); /* who waits looks whether the pool is broken */
        return NULL;
    }
    while (!atomic_load(&crew->ended)) {
        uint32_t key = pm_event_key(&crew->work);
        if (atomic_load(&crew->ended)) break;
        if (pm_task_work(hand)) continue;
        (void)pm_event_wait(&crew->work, key, -1);
    }
    if (crew->life.exit) (void)crew->life.exit(hand->index, &hand->run.state, crew->life.arg);
    return NULL;
}

static void stop(struct pm_crew *crew)
{
    atomic_store(&crew->ended, true);
    pm_event_notify(&crew->work, INT_MAX);
    for (unsigned i = 0; i < crew->started; i++) (void)pthread_join(crew->mate[i].thread, NULL);
    crew->started = 0;
}

static int start(struct pm_crew *crew)
{
    sigset_t all, old;
    if (atomic_load(&crew->ended)) return -ECANCELED;
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are for the application's own threads */
    int e = 0;
    while (e == 0 && crew->started < crew->workers) {
        struct pm_mate *mate = &crew->mate[crew->started];
        e = pthread_create(&mate->thread, NULL, serve, mate);
        if (e == 0) crew->started++;
    }
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (e == 0) return 0;
    /* Fewer are not enough: an errand waits for its own worker. */
    stop(crew);
    atomic_store(&crew->ended, false);
    return -e;
}

static int prepare(struct pm_crew *crew, struct pm_arena *arena, size_t at)
{
    struct pm_tasks *tasks;
    int bell = pm_fd_above_stdio(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (bell < 0) return -EMFILE;
    size_t bytes = crew->workers * sizeof *crew->mate;
    crew->mate = aligned_alloc(128, bytes);
    int e = crew->mate ? pm_tasks_open(&tasks, arena, at, crew->workers, crew->workers, &crew->work) : -ENOMEM;
    if (e) {
        free(crew->mate);
        crew->mate = NULL;
        close(bell);
        return e;
    }
    memset(crew->mate, 0, bytes);
    for (unsigned i = 0; i < crew->workers; i++) {
        struct pm_mate *mate = &crew->mate[i];
        mate->crew = crew;
        pm_hand_init(&mate->hand, tasks, i, pm_owner(i, 1), &mate->spot, &mate->progress);
        mate->hand.ring = ring;
    }
    pm_desk_open(&crew->desk, tasks, arena, bell);
    return 0;
}

struct pm_desk *pm_crew_desk(struct pm_crew *crew, struct pm_arena *arena, size_t at, bool threads, int *error)
{
    pthread_mutex_lock(&crew->lock);
    *error = crew->desk.tasks ? 0 : prepare(crew, arena, at);
    if (!*error && threads && !crew->started) *error = start(crew);
    pthread_mutex_unlock(&crew->lock);
    return *error ? NULL : &crew->desk;
}

bool pm_crew_help(struct pm_crew *crew)
{
    if (pm_inside == crew->executor) return false;
    const struct pm_executor *outer = pm_inside;
    if (pthread_mutex_trylock(&crew->lock)) return false; /* another thread is in one: this one's time-out goes on meanwhile */
    pm_inside = crew->executor;
    if (crew->desk.tasks) crew->mate[0].hand.run.state = crew->state;
    bool worked = crew->desk.tasks && !atomic_load(&crew->ended) && pm_task_work(&crew->mate[0].hand);
    pm_inside = outer;
    pthread_mutex_unlock(&crew->lock);
    return worked;
}

void pm_crew_end(struct pm_crew *crew)
{
    /* A terminate may come while a close is at it, or while another thread's first task starts them: all of them, or none. */
    pthread_mutex_lock(&crew->lock);
    stop(crew);
    pthread_mutex_unlock(&crew->lock);
}

void pm_crew_close(struct pm_crew *crew)
{
    if (crew->desk.bell >= 0) close(crew->desk.bell);
    pm_desk_close(&crew->desk);
    free(crew->mate);
    crew->mate = NULL;
    pthread_mutex_destroy(&crew->lock);
}

/* Making room: workers/room.h. */
#include "workers/room.h"

#include <sched.h>

#include "shm/process.h"

#define MOST_LOOKS 4u /* at processes that are not in a job; each takes some ten microseconds */

/* Off this CPU, wherever the kernel likes; from then on anywhere again. */
static void go_elsewhere(int cpu)
{
    cpu_set_t may, other;
    if (sched_getaffinity(0, sizeof may, &may)) return; /* more CPUs than fit */
    other = may;
    CPU_CLR((unsigned)cpu, &other);
    if (CPU_COUNT(&other) == 0 || sched_setaffinity(0, sizeof other, &other)) return;
    (void)sched_setaffinity(0, sizeof may, &may);
}

void pm_room_make(struct pm_worker *me)
{
    struct pm_board *board = me->board;
    uint32_t wanted = atomic_load(&board->wanted), looks = MOST_LOOKS;
    int cpu = sched_getcpu();
    if (cpu < 0) return;
    for (uint32_t s = 0; s < wanted && looks > 0; s++) {
        pid_t pid = atomic_load(&board->slot[s].pid);
        if (s == me->index || !pid || atomic_load_explicit(&board->slot[s].spot.job, memory_order_relaxed)) continue;
        looks--;
        if (pm_process_queue(pid) != cpu) continue;
        go_elsewhere(cpu);
        return;
    }
}

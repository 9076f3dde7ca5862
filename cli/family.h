/* The processes below a process: are they asleep, and an end to them. Used by bench.c; reads /proc and knows no pool,
 * so it also sees what a pool forgot. */
#ifndef CLI_FAMILY_H
#define CLI_FAMILY_H

#include <stdbool.h>
#include <sys/types.h>

/* Is every thread of `root` and of all processes below it asleep (or ended)? */
bool family_asleep(pid_t root);

/* Sends SIGKILL to every process below `root`, not to root itself.  Returns how many there were. */
unsigned family_kill(pid_t root);

#endif

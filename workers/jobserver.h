/* The tokens of GNU make.  A program that make runs may do one thing at a time; for each more it takes a token (a byte) from make, and gives it
 * back.  The supervisor takes and gives, because it outlives the application; which tokens are out stands on the board, because that
 * outlives the supervisor. */
#ifndef PM_WORKERS_JOBSERVER_H
#define PM_WORKERS_JOBSERVER_H

#include "workers/board.h"

enum pm_offer {
    PM_OFFER_NONE = 0,   /* make has offered nothing: no limit */
    PM_OFFER_TOKENS,     /* in[0] and in[1] are descriptors of our own, not blocking: to take from, to give to */
    PM_OFFER_UNREACHABLE /* there is a jobserver, but not for us: one thing at a time */
};

/* Looks at $MAKEFLAGS (text: as if it said that).  The descriptors are -1 unless there are tokens. */
enum pm_offer pm_jobserver_find(const char *text, int fd[2]);
void pm_jobserver_close(int fd[2]);

/* The tokens that a program has, as they came: make wants the very bytes back. */
struct pm_tokens {
    _Atomic uint32_t *n;
    char *token;
    uint32_t room;
};
static inline struct pm_tokens pm_board_tokens(struct pm_board *board)
{
    return (struct pm_tokens){&board->tokens, board->token, PM_SLOTS};
}

/* One token more: false when there is none just now.  One process at a time. */
bool pm_jobserver_take(struct pm_tokens tokens, const int fd[2]);
/* Gives back all but `keep`. */
void pm_jobserver_give(struct pm_tokens tokens, const int fd[2], unsigned keep);

#endif

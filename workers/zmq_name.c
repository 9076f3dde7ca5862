/* The name under which workers find the application's socket: a path in a directory of the pool's own.  Only this user
 * can reach it, but another program of this user may bind it, too (which takes it away without an error), and a program
 * that tidies up may remove it.  So the application remembers which file is its own.  Used by zmq.c and the supervisor. */
#include "workers/zmq.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *path_of(const struct pm_board *board) { return board->zmq + sizeof "ipc://" - 1; }

static void directory_of(const struct pm_board *board, char *directory)
{
    (void)snprintf(directory, sizeof board->zmq, "%s", path_of(board));
    *strrchr(directory, '/') = 0;
}

void pm_zmq_remove(struct pm_board *board)
{
    char directory[sizeof board->zmq];
    if (!board->zmq[0]) return;
    (void)unlink(path_of(board));
    directory_of(board, directory);
    (void)rmdir(directory);
}

int pm_zmq_make(struct pm_board *board)
{
    char directory[sizeof board->zmq];
    directory_of(board, directory);
    return mkdir(directory, 0700) < 0 ? -errno : 0; /* so nobody else can connect; exclusive, so nobody else has made it */
}

void pm_zmq_note_name(struct pm_zmq *z, const struct pm_board *board)
{
    struct stat status = {0};
    (void)lstat(path_of(board), &status);
    z->device = status.st_dev;
    z->inode = status.st_ino;
}

bool pm_zmq_has_name(const struct pm_zmq *z, const struct pm_board *board)
{
    struct stat status;
    return lstat(path_of(board), &status) == 0 && status.st_dev == z->device && status.st_ino == z->inode;
}

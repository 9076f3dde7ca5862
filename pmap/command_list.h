/* A list of commands, through their own next and previous: a command is in one at most.  Used by commands.c, under its
 * lock. */
#ifndef PM_PMAP_COMMAND_LIST_H
#define PM_PMAP_COMMAND_LIST_H

#include "pmap/command.h"

struct pm_command_list {
    pmap_command *first, *last;
    size_t n;
};

static inline void pm_command_append(struct pm_command_list *list, pmap_command *c)
{
    c->next = NULL;
    c->previous = list->last;
    *(list->last ? &list->last->next : &list->first) = c;
    list->last = c;
    list->n++;
}

static inline void pm_command_unlink(struct pm_command_list *list, pmap_command *c)
{
    *(c->previous ? &c->previous->next : &list->first) = c->next;
    *(c->next ? &c->next->previous : &list->last) = c->previous;
    list->n--;
}

static inline void pm_command_free_all(struct pm_command_list *list)
{
    for (pmap_command *c; (c = list->first);) {
        pm_command_unlink(list, c);
        pm_command_free(c);
    }
}

#endif

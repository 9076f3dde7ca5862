/* Which code the workers have: the objects that were loaded when they were forked. */
#ifndef PM_PMAP_OBJECTS_H
#define PM_PMAP_OBJECTS_H

#include <stdbool.h>
#include <stddef.h>

struct pm_objects;

struct pm_objects *pm_objects_now(void);  /* NULL: no memory */
void pm_objects_free(struct pm_objects *objects);

/* Was the code at this address there?  False also for an object that was unloaded and another loaded in its place. */
bool pm_objects_have(const struct pm_objects *objects, const void *code);

#endif

/* Options of public calls as this library knows them, whether the caller's header is older or newer than it. */
#ifndef PM_PMAP_OPTIONS_H
#define PM_PMAP_OPTIONS_H

#include <stddef.h>

/* Every options struct begins with its size.  Fills *full, which holds the defaults, from what the caller gave (NULL:
 * nothing); it must have `least` bytes, which is where the second member begins or ends.  `what` is the call, `init` the
 * macro that the text recommends.  0, PMAP_EINVAL. */
int pm_options(void *full, size_t full_size, size_t least, const void *given, const char *what, const char *init);

#endif

/* Options as the caller gave them: see pmap/options.h. */
#include "pmap/options.h"

#include <string.h>

#include "pmap/pool.h"
#include "shm/size.h"

#define MOST_BYTES 4096u /* more than any version will have: such a size was never set */

int pm_options(void *full, size_t full_size, size_t least, const void *given, const char *what, const char *init)
{
    size_t size;
    if (!given) return 0;
    memcpy(&size, given, sizeof size);
    if (size < least || size > MOST_BYTES) return pm_error(PMAP_EINVAL, "%s: options->size is %zu; start from %s", what, size, init);
    memcpy(full, given, pm_size_min(size, full_size));
    return 0;
}

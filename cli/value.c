/* A workload's result as text.  See report.h. */
#include "cli/report.h"

#include <inttypes.h>
#include <string.h>

const char *value_text(const struct value *value, char text[40])
{
    double real;

    memcpy(&real, &value->bits, sizeof real);
    if (value->kind == VALUE_F64) snprintf(text, 40, "%.17g", real);
    else if (value->kind == VALUE_I64) snprintf(text, 40, "%" PRId64, (int64_t)value->bits);
    else snprintf(text, 40, "%" PRIu64, value->bits);
    return text;
}

/* Items that fail with a code and a text of their own, and one that asks to be run again. */
#include <pmap/pmap.h>
#include <stdio.h>
#include <string.h>

static int parse(pmap_task *task, const void *item, void *result)
{
    const char *text = *(char *const *)item;
    char rest;
    if (*text == '?' && pmap_task_attempt(task) == 0) return PMAP_RETRY; /* such as a busy server, the first time */
    if (*text == '?') text++;
    if (sscanf(text, "%d%c", (int *)result, &rest) == 1) return 0;
    pmap_task_error(task, "'%s' at %zu is not a number", text, pmap_task_index(task));
    return 22;
}

int main(void)
{
    /* The strings are part of the program, so the workers have them at the same address: no copy needed. */
    const char *in[] = { "10", "?20", "forty", "30" };
    int out[4];
    pmap_pool *pool;
    if (pmap_pool_open(&pool, NULL)) return fprintf(stderr, "%s\n", pmap_error()), 1;

    pmap_map_options options = PMAP_MAP_OPTIONS_INIT;
    options.on_error = PMAP_ON_ERROR_COLLECT; /* the default: PMAP_ON_ERROR_STOP would start nothing more */
    int error = pmap_map(pool, parse, in, 4, sizeof *in, out, sizeof *out, &options);
    size_t count;
    const pmap_failure *failure = pmap_failures(pool, &count);
    if (error != PMAP_EITEMS || count != 1) return fprintf(stderr, "%s\n", pmap_error()), 1;
    printf("%d + %d + %d = %d\n", out[0], out[1], out[3], out[0] + out[1] + out[3]);
    printf("item %zu failed with code %d; its own words: %s\n", failure->item, failure->value,
           strstr(failure->text, "'forty' at 2 is not a number") ? "listed" : failure->text);
    return pmap_pool_close(pool) != PMAP_OK;
}

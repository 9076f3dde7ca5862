/* A stream: lines of any length are pulled one by one, and each answer is printed as soon as it and those before it are there.  The
 * source could go on for ever: no more than `window` lines are under way at once. */
#include <pmap/pmap.h>
#include <stdio.h>
#include <string.h>

static int words(pmap_task *task, const void *in, size_t bytes)
{
    const char *line = in;
    int *count = pmap_task_result(task, sizeof *count);
    *count = 0;
    for (size_t i = 0; i < bytes; i++) *count += line[i] != ' ' && (i == 0 || line[i - 1] == ' ');
    if (*count) return 0;
    pmap_task_error(task, "an empty line");
    return 1;
}

static int next_line(void *source_arg, const void **in, size_t *bytes)
{
    static const char *const lines[] = { "a stream of lines", "of any length", "", "and the last one" };
    size_t *at = source_arg;
    if (*at == sizeof lines / sizeof lines[0]) return 0;
    *in = lines[*at];
    *bytes = strlen(lines[(*at)++]);
    return 1;
}

int main(void)
{
    pmap_pool *pool;
    pmap_stream *stream;
    if (pmap_pool_open(&pool, NULL)) return fprintf(stderr, "%s\n", pmap_error()), 1;
    pmap_stream_options options = PMAP_STREAM_OPTIONS_INIT;
    options.window = 2;
    size_t at = 0, bytes;
    if (pmap_imap(pool, words, next_line, &at, &options, &stream)) return fprintf(stderr, "%s\n", pmap_error()), 1;

    const void *result;
    for (int one; (one = pmap_stream_next(stream, -1, &result, &bytes)) != 0;)
        if (one == 1) printf("line %zu: %d words\n", pmap_stream_index(stream), *(const int *)result);
        else if (one == PMAP_EITEMS) printf("%s\n", pmap_stream_failure(stream)->text);
        else return fprintf(stderr, "%s\n", pmap_error()), 1;
    pmap_stream_close(stream);
    return pmap_pool_close(pool) != PMAP_OK;
}

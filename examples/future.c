/* Three tasks are given in one by one; the program does something else, and asks for each result when it wants it. */
#include <pmap/pmap.h>
#include <stdio.h>

/* Its input and its result may be of any size: here a word, and how often each letter is in it. */
static int letters(pmap_task *task, const void *in, size_t bytes)
{
    const char *word = in;
    char *result = pmap_task_result(task, 26);
    if (!result) return 1;
    for (int i = 0; i < 26; i++) result[i] = 0;
    for (size_t i = 0; i < bytes; i++) {
        if (word[i] < 'a' || word[i] > 'z') {
            pmap_task_error(task, "'%c' is no small letter", word[i]);
            return 2;
        }
        result[word[i] - 'a']++;
    }
    return 0;
}

int main(void)
{
    struct { const char *word; size_t length; } in[] = { { "banana", 6 }, { "R2D2", 4 }, { "mississippi", 11 } };
    pmap_future *future[3];
    pmap_pool *pool;
    if (pmap_pool_open(&pool, NULL)) return fprintf(stderr, "%s\n", pmap_error()), 1;
    for (int i = 0; i < 3; i++)
        if (pmap_submit(pool, letters, in[i].word, in[i].length, NULL, &future[i])) return fprintf(stderr, "%s\n", pmap_error()), 1;
    printf("given in\n");
    for (int i = 0; i < 3; i++) {
        const void *result;
        if (pmap_future_get(future[i], 10, &result, NULL) == 0) { /* at most 10 seconds */
            printf("%s:", in[i].word);
            for (int c = 0; c < 26; c++)
                if (((const char *)result)[c]) printf(" %c %d", 'a' + c, ((const char *)result)[c]);
            printf("\n");
        } else {
            const pmap_failure *failure = pmap_future_failure(future[i]);
            printf("%s: %s\n", in[i].word, failure ? failure->text : pmap_error());
        }
        pmap_future_free(future[i]);
    }
    return pmap_pool_close(pool) != PMAP_OK;
}

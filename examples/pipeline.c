/* Download - resize - upload: three stages with 3, 4 and 5 workers.  Threads where a stage waits, processes where it computes.  An item
 * goes on as soon as the next stage has room for it, and the results come in the order of the inputs. */
#include <pmap/pmap.h>
#include <stdio.h>
#include <time.h>

enum { PICTURES = 1000, SIDE = 16 };

struct picture { int number; unsigned char pixel[SIDE * SIDE]; };

static void wait_for_the_network(void)
{
    nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

static int download(pmap_task *task, const void *in, size_t bytes)
{
    struct picture *p = pmap_task_result(task, sizeof *p);
    (void)bytes;
    wait_for_the_network();
    p->number = *(const int *)in;
    for (int i = 0; i < SIDE * SIDE; i++) p->pixel[i] = (unsigned char)(p->number + i);
    return 0;
}

static int resize(pmap_task *task, const void *in, size_t bytes)
{
    struct picture *p = pmap_task_result(task, bytes);
    *p = *(const struct picture *)in;
    for (int i = 0; i < SIDE * SIDE / 4; i++) /* half as wide, half as high */
        p->pixel[i] = p->pixel[i / (SIDE / 2) * 2 * SIDE + i % (SIDE / 2) * 2];
    return 0;
}

static int upload(pmap_task *task, const void *in, size_t bytes)
{
    (void)bytes;
    wait_for_the_network();
    *(int *)pmap_task_result(task, sizeof(int)) = ((const struct picture *)in)->number;
    return 0;
}

static int next_number(void *arg, const void **in, size_t *bytes) /* the source: 1 with the next input, 0 at the end */
{
    int *number = arg;
    if (++*number == PICTURES) return 0;
    *in = number;
    *bytes = sizeof *number;
    return 1;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(void)
{
    pmap_stage stages[] = {
        { .function = download, .workers = 3, .executor = PMAP_THREADS, .result_max = sizeof(struct picture) },
        { .function = resize, .workers = 4, .executor = PMAP_PROCESSES, .result_max = sizeof(struct picture) },
        { .function = upload, .workers = 5, .executor = PMAP_THREADS },
    };
    int number = -1, done = 0, in_order = 1, more;
    const void *result;
    size_t bytes;
    pmap_pipeline *pipeline;
    if (pmap_pipeline_open(stages, 3, next_number, &number, NULL, &pipeline)) return fprintf(stderr, "%s\n", pmap_error()), 1;
    double begin = now();
    while ((more = pmap_pipeline_next(pipeline, -1, &result, &bytes)) == 1) in_order &= *(const int *)result == done++;
    if (more) fprintf(stderr, "%s\n", pmap_error());
    printf("Processed %d items, in order: %s\n", done, in_order ? "yes" : "no");
    printf("Finished in %.3f s\n", now() - begin);
    pmap_pipeline_close(pipeline);
    return more;
}

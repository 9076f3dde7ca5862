/* Eight pages over HTTP, one after another and then all at once.  Who waits for a network needs threads, and more of them than CPUs.
 * usage: pages URL, to which "/0" to "/7" are added.  Needs libcurl. */
#include <curl/curl.h>
#include <pmap/pmap.h>
#include <stdio.h>
#include <time.h>

enum { PAGES = 8 };

static size_t count(char *data, size_t size, size_t n, void *bytes)
{
    (void)data;
    *(size_t *)bytes += size * n;
    return size * n;
}

static int fetch(pmap_task *task, const void *item, void *result)
{
    char url[512];
    CURL *curl = curl_easy_init();
    if (!curl) return PMAP_RETRY;
    snprintf(url, sizeof url, "%s/%zu", (const char *)pmap_task_arg(task), pmap_task_index(task));
    *(size_t *)result = 0;
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, count);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, result);
    curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L); /* there are threads */
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 20L);
    CURLcode error = curl_easy_perform(curl);
    if (error) pmap_task_error(task, "%s", curl_easy_strerror(error));
    curl_easy_cleanup(curl);
    (void)item;
    return (int)error;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds, or -1. */
static double run(const char *name, pmap_executor executor, char *url)
{
    size_t got[PAGES], total = 0;
    pmap_pool *pool;
    pmap_options options = PMAP_OPTIONS_INIT;
    pmap_map_options map = PMAP_MAP_OPTIONS_INIT;
    options.executor = executor;
    options.workers = PAGES;
    map.arg = url;
    map.chunk = 1;
    if (pmap_pool_open(&pool, &options)) return fprintf(stderr, "%s\n", pmap_error()), -1;
    double begin = now();
    int error = pmap_map(pool, fetch, NULL, PAGES, 0, got, sizeof *got, &map);
    double seconds = now() - begin;
    for (int i = 0; i < PAGES && !error; i++) total += got[i];
    if (error) fprintf(stderr, "%s\n", pmap_error());
    else printf("%s: %d pages, %zu bytes, %.3f s\n", name, PAGES, total, seconds);
    pmap_pool_close(pool);
    return error ? -1 : seconds;
}

int main(int argc, char **argv)
{
    if (argc != 2) return fprintf(stderr, "usage: pages URL\n"), 2;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    double one_by_one = run("one after another", PMAP_SERIAL, argv[1]);
    double at_once = one_by_one < 0 ? -1 : run("at once", PMAP_THREADS, argv[1]);
    curl_global_cleanup();
    if (at_once < 0) return 1;
    printf("at once is faster: %s\n", at_once < one_by_one ? "yes" : "no");
    return 0;
}

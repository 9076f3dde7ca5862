// The smallest C++ user of an INSTALLED pmap; CI compiles it with what pkg-config says, and runs it.
#include <cstdio>
#include <pmap/pmap.h>
#include <vector>

extern "C" int twice(pmap_task *, const void *item, void *result)
{
    *static_cast<int *>(result) = *static_cast<const int *>(item) * 2;
    return 0;
}

int main()
{
    std::vector<int> in{1, 2, 3}, out(3);
    pmap_options options = PMAP_OPTIONS_INIT;
    pmap_map_options how = PMAP_MAP_OPTIONS_INIT;
    pmap_pool *pool;
    if (pmap_pool_open(&pool, &options) || pmap_map(pool, twice, in.data(), 3, sizeof(int), out.data(), sizeof(int), &how)) return 1;
    std::printf("%d %d %d\n", out[0], out[1], out[2]);
    return pmap_pool_close(pool) || out[2] != 6;
}

/* A function in an object that was loaded after the pool opened: the workers do not have its code, which must be an
 * error and never a jump to nowhere.  The objects are compiled here; without a compiler the tests are skipped. */
#include "tests/paths.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char compiler[100];

/* Makes $TMPDIR/<name>.so, in which module() gives `value`.  False where there is no compiler. */
static bool compile(const char *name, int value, char *path, size_t bytes)
{
    static const char *const candidates[] = {"cc", "gcc", "clang"};
    char source[200], command[800];
    snprintf(source, sizeof source, "%s/%s.c", getenv("TMPDIR"), name);
    snprintf(path, bytes, "%s/%s.so", getenv("TMPDIR"), name);
    FILE *file = fopen(source, "we");
    if (!file) return false;
    fprintf(file, "int module(void *t, const void *i, void *r);\n"
                  "int module(void *t, const void *i, void *r) { (void)t, (void)i; *(int *)r = %d; return 0; }\n",
            value);
    fclose(file);
    for (size_t i = 0; i < 3; i++) {
        const char *with = compiler[0] ? compiler : candidates[i];
        snprintf(command, sizeof command, "%s -shared -fPIC -o '%s' '%s' >/dev/null 2>&1", with, path, source);
        if (system(command) == 0) {
            snprintf(compiler, sizeof compiler, "%s", with);
            remove(source);
            return true;
        }
    }
    remove(source);
    return false;
}

static pmap_item_fn *function_in(void *object)
{
    pmap_item_fn *function;
    void *symbol = dlsym(object, "module");
    assert_non_null(symbol);
    memcpy(&function, &symbol, sizeof function);
    return function;
}

static void gives(pmap_pool *pool, pmap_item_fn *function, int value)
{
    int out[50];
    memset(out, 0, sizeof out);
    EXPECT(pmap_map(pool, function, NULL, 50, 0, out, sizeof out[0], NULL), 0);
    for (size_t i = 0; i < 50; i++) assert_int_equal(out[i], value);
}

static void *load(const char *path)
{
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!object) fail_msg("%s", dlerror());
    return object;
}

static void loaded_before_and_after(const struct pm_path *path)
{
    char before[200], after[200];
    if (!compile("before", 11, before, sizeof before) || !compile("after", 22, after, sizeof after)) {
        print_message("    no C compiler here\n");
        skip();
    }
    void *one = load(before);
    pmap_pool *pool = pm_path_open(path, 2);
    gives(pool, function_in(one), 11);
    void *two = load(after);
    int out[50];
    if (path->executor == PMAP_PROCESSES) {
        EXPECT(pmap_map(pool, function_in(two), NULL, 50, 0, out, sizeof out[0], NULL), PMAP_EFUNCTION);
        EXPECT_TEXT("loaded after the pool opened");
        pmap_pool *later = pm_path_open(path, 2); /* a pool that is opened now has it */
        gives(later, function_in(two), 22);
        pm_path_close(later);
    } else {
        gives(pool, function_in(two), 22);
    }
    gives(pool, function_in(one), 11); /* and what was there is still there */
    pm_path_close(pool);
    dlclose(two);
    dlclose(one);
    remove(before);
    remove(after);
}

/* Unloaded, and another loaded at the very place: the address is as before, the code is not. */
static void another_in_the_same_place(const struct pm_path *path)
{
    char first[200], second[200];
    if (!compile("first", 1, first, sizeof first) || !compile("second", 2, second, sizeof second)) {
        print_message("    no C compiler here\n");
        skip();
    }
    void *object = load(first);
    pmap_pool *pool = pm_path_open(path, 2);
    pmap_item_fn *function = function_in(object);
    gives(pool, function, 1);
    dlclose(object);
    object = load(second);
    bool same = function_in(object) == function;
    int out[50];
    EXPECT(pmap_map(pool, function_in(object), NULL, 50, 0, out, sizeof out[0], NULL), PMAP_EFUNCTION);
    if (!same) print_message("    the loader chose another place: only the simple case was tested\n");
    dlclose(object);
    pm_path_close(pool);
    remove(first);
    remove(second);
}

/* The same file at the same path, but written anew in between. */
static void the_same_name_and_another_content(const struct pm_path *path)
{
    char file[200];
    if (!compile("same", 1, file, sizeof file)) {
        print_message("    no C compiler here\n");
        skip();
    }
    void *object = load(file);
    pmap_pool *pool = pm_path_open(path, 2);
    pmap_item_fn *function = function_in(object);
    gives(pool, function, 1);
    dlclose(object);
    assert_int_equal(remove(file), 0);
    assert_true(compile("same", 2, file, sizeof file));
    object = load(file);
    int out[50] = {0};
    int e = pmap_map(pool, function_in(object), NULL, 50, 0, out, sizeof out[0], NULL);
    if (e != PMAP_EFUNCTION) { /* then it must at least be the new one that ran */
        EXPECT(e, 0);
        for (size_t i = 0; i < 50; i++) assert_int_equal(out[i], 2);
    }
    dlclose(object);
    pm_path_close(pool);
    remove(file);
}

static void loading_something_else_disturbs_nobody(const struct pm_path *path)
{
    char file[200];
    if (!compile("other", 3, file, sizeof file)) {
        print_message("    no C compiler here\n");
        skip();
    }
    char own[200];
    assert_true(compile("own", 4, own, sizeof own));
    void *mine = load(own);
    pmap_pool *pool = pm_path_open(path, 2);
    for (int i = 0; i < 5; i++) {
        void *object = load(file);
        gives(pool, function_in(mine), 4);
        dlclose(object);
        gives(pool, function_in(mine), 4);
    }
    pm_path_close(pool);
    dlclose(mine);
    remove(file);
    remove(own);
}

static const struct pm_path_test tests[] = {
    {"loaded before and after", loaded_before_and_after, PM_ON_ALL},
    {"another in the same place", another_in_the_same_place, PM_ON_PROCESSES},
    {"the same name and another content", the_same_name_and_another_content, PM_ON_PROCESSES},
    {"loading something else disturbs nobody", loading_something_else_disturbs_nobody, PM_ON_ALL},
};

int main(void) { return PM_PATHS_MAIN("objects", tests); }

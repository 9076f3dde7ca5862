/* Groups of rows of columns: what several sources, columns, names and limits make of records.  What is expected was compared with GNU
 * parallel 20221122, except where a comment says that we mean otherwise. */
#include "cli/args.h"
#include "tests/cli.h"

#define WORDS(...) \
    { .words = (char *[]){__VA_ARGS__}, .nwords = sizeof((char *[]){__VA_ARGS__}) / sizeof(char *) }
#define LINKED(...) \
    { .words = (char *[]){__VA_ARGS__}, .nwords = sizeof((char *[]){__VA_ARGS__}) / sizeof(char *), .linked = true }
#define SOURCES(...) \
    .sources = (struct batch_source[]){__VA_ARGS__}, .nsources = sizeof((struct batch_source[]){__VA_ARGS__}) / sizeof(struct batch_source), \
    .delimiter = '\n'

/* A line a group; rows are parted by |, columns by comma; ~ is a column that is not there. */
static char seen[4096];
static void note(const struct args *args)
{
    size_t at = strlen(seen);

    for (size_t i = 0; i < args->rows * args->columns; i++) {
        const struct record *v = &args->value[i];

        assert_true(at + v->bytes + 8 < sizeof seen);
        if (i) seen[at++] = i % args->columns ? ',' : '|';
        if (!v->text) seen[at++] = '~';
        for (size_t k = 0; k < v->bytes; k++) seen[at++] = v->text[k];
    }
    seen[at++] = '\n';
    seen[at] = '\0';
}

/* For -X: bytes of values. */
static size_t values(const void *arg, const struct args *args, size_t row)
{
    size_t bytes = 0;

    (void)arg;
    for (size_t i = row * args->columns; i < (row + 1) * args->columns; i++) bytes += args->value[i].bytes;
    return bytes;
}

static int read_all(const struct batch *b, size_t limit)
{
    struct args_reader *r = args_open(b);
    struct args_limit most = { .most = limit, .grows = values };
    struct args args;
    size_t total, groups = 0;
    int got;

    seen[0] = '\0';
    if (!r) return -1;
    total = args_total(r);
    while ((got = args_next(r, &args, true, limit ? &most : NULL)) == 1) {
        note(&args);
        args_free(&args);
        groups++;
    }
    assert_int_equal(args_next(r, &args, false, NULL), got); /* and again */
    if (total && got == 0) assert_int_equal(total, groups);
    args_close(r);
    return got;
}

#define GIVES(expected, ...)                                  \
    do {                                                      \
        struct batch given = { __VA_ARGS__ };                 \
        assert_int_equal(read_all(&given, 0), 0);             \
        assert_string_equal(seen, expected);                  \
    } while (0)
#define FAILS(before, words, ...)                      \
    do {                                                      \
        struct batch given = { __VA_ARGS__ };                 \
        listen_to_errors();                                   \
        assert_int_equal(read_all(&given, 0), -1);            \
        heard_all(words);                                     \
        assert_string_equal(seen, before);                    \
    } while (0)
#define SAYING(...) ((const char *const[]){__VA_ARGS__, NULL})
#define FROM(name) { .file = name }
#define FROM_LINKED(name) { .file = name, .linked = true }

static void combinations(void **state)
{
    const char *cd = FILE_OF("c\nd\n"), *none = FILE_OF("");

    (void)state;
    GIVES("a b\n\nc\n", SOURCES(WORDS("a b", "", "c")));
    GIVES("a,c\na,d\na,e\nb,c\nb,d\nb,e\n", SOURCES(WORDS("a", "b"), WORDS("c", "d", "e")));
    GIVES("a,1,x\na,1,y\na,2,x\na,2,y\nb,1,x\nb,1,y\nb,2,x\nb,2,y\n", SOURCES(WORDS("a", "b"), WORDS("1", "2"), WORDS("x", "y")));
    GIVES("a,c\na,d\nb,c\nb,d\n", SOURCES(WORDS("a", "b"), FROM(cd)));
    GIVES("c,a\nc,b\nd,a\nd,b\n", SOURCES(FROM(cd), WORDS("a", "b")));
    GIVES("c,c\nc,d\nd,c\nd,d\n", SOURCES(FROM(cd), FROM(cd)));
    GIVES("", SOURCES(WORDS()));
    GIVES("", SOURCES(FROM(none)));
    /* GNU parallel takes an input without records for one with an empty record, and would run `rm -r a/`. */
    GIVES("", SOURCES(WORDS("a", "b"), FROM(none)));
    GIVES("", SOURCES(FROM(none), WORDS("a", "b")));
    GIVES("", SOURCES(FROM(cd), WORDS(), WORDS("a", "b")));
}

static void in_step(void **state)
{
    const char *cd = FILE_OF("c\nd"), *xyz = FILE_OF("x\ny\nz\n"), *none = FILE_OF("");

    (void)state;
    GIVES("a,c\nb,d\n", SOURCES(WORDS("a", "b"), LINKED("c", "d", "e")));
    GIVES("a,d,x\na,d,y\nb,e,x\nb,e,y\n", SOURCES(WORDS("a", "b", "c"), LINKED("d", "e"), WORDS("x", "y")));
    GIVES("x,a,d\nx,b,e\ny,a,d\ny,b,e\n", SOURCES(WORDS("x", "y"), WORDS("a", "b", "c"), LINKED("d", "e")));
    GIVES("x,c,1\nx,c,2\ny,d,1\ny,d,2\n", SOURCES(FROM(xyz), FROM_LINKED(cd), WORDS("1", "2")));
    GIVES("c,x,p\nd,y,q\n", SOURCES(FROM(cd), FROM_LINKED(xyz), LINKED("p", "q", "r")));
    GIVES("", SOURCES(FROM(cd), FROM_LINKED(none)));
    GIVES("a\nb\n", SOURCES(LINKED("a", "b"))); /* the first has none before it */
    GIVES("a,c\nb,d\na,e\n", SOURCES(WORDS("a", "b"), WORDS("c", "d", "e")), .link = true);
    GIVES("a,c,x\nb,d,y\na,e,x\n", SOURCES(WORDS("a", "b"), WORDS("c", "d", "e"), LINKED("x", "y")), .link = true);
    GIVES("c,x\nd,y\nc,z\n", SOURCES(FROM(cd), FROM(xyz)), .link = true);
    GIVES("x,c\ny,d\nz,c\n", SOURCES(FROM(xyz), FROM(cd)), .link = true);
    GIVES("x\ny\nz\n", SOURCES(FROM(xyz)), .link = true);
    GIVES("", SOURCES(FROM(none), FROM(cd)), .link = true);
    GIVES("", SOURCES(FROM(cd), FROM(none)), .link = true);
}

static void columns(void **state)
{
    const char *tabs = FILE_OF("h1\th2\na\tb\nc\n\nd\te\tf\n"), *odd = FILE_OF("a\0b  \xff;;c\n");
    const char *csv = FILE_OF("n1,n2\r\n\"a \"\"x\"\"\",b\n\"c\nd\",,\"e\"f\r\n");

    (void)state;
    GIVES("h1,h2\na,b\nc\n\nd,e,f\n", SOURCES(FROM(tabs)), .colsep = "\t");
    GIVES("h1,h2,~|a,b,~|c,~,~|,~,~|d,e,f\n", SOURCES(FROM(tabs)), .colsep = "[\t]", .most = 5);
    GIVES("a,,b\n,\n\n", SOURCES(WORDS("a;;b", ";", "")), .colsep = ";");
    GIVES("a,b\n,x,\n", SOURCES(WORDS("a;,b", ";x,,")), .colsep = "[;,]+");
    GIVES("a,b,c\n", SOURCES(WORDS("a12b3c")), .colsep = "[0-9]*"); /* an empty match parts nothing */
    GIVES("a,b^c\n,ab\n", SOURCES(WORDS("a|b^c", "|ab")), .colsep = "\\||^^");
    GIVES("a,c\n", SOURCES(WORDS("abac")), .colsep = "^x|a(c)?c|ba");
    GIVES("a,b,d,e\nc,d,e\n", SOURCES(WORDS("a,b", "c"), WORDS("d,e")), .colsep = ",");
    {
        struct batch b = { SOURCES(FROM(odd)), .colsep = "[ ;]+" };
        struct args_reader *r = args_open(&b);
        struct args args;

        assert_non_null(r);
        assert_int_equal(args_next(r, &args, true, NULL), 1);
        assert_int_equal(args.columns, 3);
        assert_int_equal(args.value[0].bytes, 3);
        assert_memory_equal(args.value[0].text, "a\0b", 3);
        assert_int_equal(args.value[1].bytes, 1);
        assert_memory_equal(args.value[1].text, "\xff", 1);
        assert_memory_equal(args.value[2].text, "c", 1);
        args_free(&args);
        args_close(r);
    }
    GIVES("n1,n2\na \"x\",b\nc\nd,,ef\n", SOURCES(FROM(csv)), .csv = true);
    FAILS("a\n", SAYING("command line", "not closed"), SOURCES(WORDS("a", "b,\"c")), .csv = true);
    FAILS("", SAYING("--colsep", "'a(b'", "regular expression"), SOURCES(WORDS("a")), .colsep = "a(b");
}

static int column(struct args_reader *r, const char *name) { return args_column(r, name, strlen(name)); }

static void header(void **state)
{
    const char *tabs = FILE_OF("h 1\th2\na\tb\nc\n");
    struct batch b = { SOURCES(FROM(tabs), WORDS("word", "1", "2")), .colsep = "\t", .header = true };
    struct args_reader *r = args_open(&b);
    struct args args;

    (void)state;
    assert_non_null(r);
    assert_int_equal(args_columns(r), 3);
    assert_int_equal(column(r, "h 1"), 0);
    assert_int_equal(column(r, "h2"), 1);
    assert_int_equal(column(r, "word"), 2);
    assert_int_equal(column(r, "h"), -1);
    assert_int_equal(column(r, ""), -1);
    assert_int_equal(args_next(r, &args, true, NULL), 1);
    args_free(&args);
    args_close(r);
    /* A record that is short has its columns at their names' places all the same. */
    GIVES("a,b,1\na,b,2\nc,~,1\nc,~,2\n", SOURCES(FROM(tabs), WORDS("word", "1", "2")), .colsep = "\t", .header = true);
    GIVES("1,3\n2,3\n", SOURCES(WORDS("a", "1", "2"), WORDS("b", "3")), .header = true);
    GIVES("1,4\n2,5\n3,4\n", SOURCES(WORDS("a", "1", "2", "3"), WORDS("b", "4", "5")), .header = true, .link = true);
    GIVES("", SOURCES(WORDS("a")), .header = true);
    GIVES("", SOURCES(FROM(FILE_OF(""))), .header = true);
    b = (struct batch){ SOURCES(WORDS("a")) };
    r = args_open(&b);
    assert_non_null(r);
    assert_int_equal(args_columns(r), 0);
    assert_int_equal(column(r, "a"), -1);
    args_close(r);
}

static void groups(void **state)
{
    const char *lines = FILE_OF("a b \nc\n\nd\ne "), *blanks = FILE_OF("x\n\n  \t\r\ny\n"), *ties = FILE_OF("a \n\nb\nc \n \nd\ne\t\nf");
    size_t limit;

    (void)state;
    GIVES("a|b\nc\n", SOURCES(WORDS("a", "b", "c")), .most = 2);
    GIVES("a,x|a,y|b,x\nb,y\n", SOURCES(WORDS("a", "b"), WORDS("x", "y")), .most = 3);
    GIVES("a|b|c\n", SOURCES(WORDS("a", "b", "c")), .most = 7);
    GIVES("a|b|c\n", SOURCES(WORDS("a", "b", "c")), .fill = FILL_CONTEXT);
    GIVES("a|b\nc\n", SOURCES(WORDS("a", "b", "c")), .fill = FILL_ARGUMENTS, .most = 2);
    GIVES("a b \nc\n\nd\ne \n", SOURCES(FROM(lines)));
    GIVES("x\ny\n", SOURCES(FROM(blanks)), .skip_empty = true);
    GIVES("x,a\ny,a\n", SOURCES(FROM(blanks), WORDS("", "a", " ")), .skip_empty = true);
    /* Lines that count are those with something in them, as xargs has it; GNU parallel counts them all. */
    GIVES("a b c\nd\ne \n", SOURCES(FROM(lines)), .most_lines = 1);
    GIVES("a b c|d\ne \n", SOURCES(FROM(lines)), .most_lines = 2);
    GIVES("a b\nc  d\ne\tf\n", SOURCES(FROM(ties)), .most_lines = 1);
    GIVES("a b|c\n", SOURCES(WORDS("a ", "b", "", "c")), .most_lines = 2);

    for (int i = 0; i < 2; i++) {
        struct batch b = { SOURCES(FROM(FILE_OF("aa\nbb\nccccccc\nd\n\ne\nff\n"))), .fill = i ? FILL_CONTEXT : FILL_ARGUMENTS };

        limit = 4;
        assert_int_equal(read_all(&b, limit), 0);
        assert_string_equal(seen, "aa|bb\nccccccc\nd||e|ff\n"); /* what does not fit even alone is given alone */
        b.most = 3;
        assert_int_equal(read_all(&b, limit), 0);
        assert_string_equal(seen, "aa|bb\nccccccc\nd||e\nff\n");
    }
}

static void shuffled(void **state)
{
    static char first[sizeof seen];
    const char *file = FILE_OF("0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n");
    struct batch b = { SOURCES(FROM(file)), .shuffle = true, .has_seed = true, .seed = 42 };

    (void)state;
    /* Written down, from a program of three lines in another language: the order for a seed is a promise. */
    assert_int_equal(read_all(&b, 0), 0);
    strcpy(first, seen);
    assert_string_equal(first, "0\n9\n5\n8\n6\n4\n7\n2\n1\n3\n");
    assert_int_equal(read_all(&b, 0), 0);
    assert_string_equal(seen, first);
    for (char c = '0'; c <= '9'; c++) assert_non_null(strchr(first, c));
    assert_int_equal(strlen(first), 20);
    b.seed = 43;
    assert_int_equal(read_all(&b, 0), 0);
    assert_string_not_equal(seen, first);
    b.most = 4; /* rows are shuffled, groups are made of them then */
    b.seed = 42;
    assert_int_equal(read_all(&b, 0), 0);
    assert_int_equal(strlen(seen), 20);
    for (size_t i = 0; i < 20; i += 2) assert_int_equal(seen[i], first[i]);
    b = (struct batch){ SOURCES(WORDS("a", "b"), WORDS("c", "d")), .shuffle = true };
    assert_int_equal(read_all(&b, 0), 0); /* by chance */
    assert_int_equal(strlen(seen), 16);
    for (int i = 0; i < 4; i++) assert_non_null(strstr(seen, ((const char *[]){"a,c\n", "a,d\n", "b,c\n", "b,d\n"})[i]));
    GIVES("", SOURCES(WORDS()), .shuffle = true);
}

/* How often each of 6 orders comes among 6000 seeds: within 5 standard deviations (29) of 1000. */
static void shuffled_evenly(void **state)
{
    int count[6] = { 0 };

    (void)state;
    for (uint64_t seed = 0; seed < 6000; seed++) {
        struct batch b = { SOURCES(WORDS("0", "1", "2")), .shuffle = true, .has_seed = true, .seed = seed };

        assert_int_equal(read_all(&b, 0), 0);
        for (int i = 0; i < 6; i++)
            count[i] += strcmp(seen, ((const char *[]){"0\n1\n2\n", "0\n2\n1\n", "1\n0\n2\n", "1\n2\n0\n", "2\n0\n1\n", "2\n1\n0\n"})[i]) == 0;
    }
    for (int i = 0; i < 6; i++) assert_in_range(count[i], 1000 - 145, 1000 + 145);
}

static void totals(void **state)
{
    struct batch b = { SOURCES(WORDS("a", "b", "c"), WORDS("x", "y")) };
    struct args_reader *r = args_open(&b);

    (void)state;
    assert_non_null(r);
    assert_int_equal(args_total(r), 6);
    assert_string_equal(args_source(r, 1), "command line");
    args_close(r);
    b.most = 4;
    r = args_open(&b);
    assert_int_equal(args_total(r), 2);
    args_close(r);
    b.fill = FILL_CONTEXT;
    r = args_open(&b);
    assert_int_equal(args_total(r), 0);
    args_close(r);
    b = (struct batch){ SOURCES(FROM("/dev/null")) };
    r = args_open(&b);
    assert_int_equal(args_total(r), 0);
    assert_string_equal(args_source(r, 5), "/dev/null");
    args_close(r);
}

static void errors(void **state)
{
    (void)state;
    FAILS("", SAYING("/nonexistent"), SOURCES(WORDS("a"), FROM("/nonexistent")));
    FAILS("", SAYING("/proc/self/mem", "record 1"), SOURCES(FROM("/proc/self/mem"), WORDS("a")));
    FAILS("", SAYING("/proc/self/mem", "record 1"), SOURCES(WORDS("a"), FROM("/proc/self/mem")));
    FAILS("", SAYING("/proc/self/mem", "record 1"), SOURCES(FROM("/proc/self/mem")), .header = true);
    /* What came before an error is given. */
    FAILS("a|b\n", SAYING("data.", "record 3", "not closed"), SOURCES(FROM(FILE_OF("a\nb\n\"c\nd\n"))), .csv = true, .most = 5);
}

/* Without `wait`, what comes piece by piece is gathered piece by piece, and nothing is lost. */
static void waits(void **state)
{
    int ends[2], keep = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 10);
    struct batch b = { .delimiter = '\n', .most = 2, .most_lines = 2 };
    struct args_reader *r;
    struct args args;
    static const struct { const char *write; int result; } steps[] = {
        { "a", 2 }, { "\n", 2 }, { "\n", 2 }, { "b ", 2 }, { "\nc ", 2 }, { "\nd\n", 1 }, { "e\nf\ng\n", 1 }, { "", 2 },
    };

    (void)state;
    assert_return_code(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
    close(ends[0]);
    seen[0] = '\0';
    r = args_open(&b);
    assert_non_null(r);
    assert_int_equal(args_next(r, &args, false, NULL), 2);
    assert_int_equal(args_fd(r), STDIN_FILENO);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        assert_int_equal(write(ends[1], steps[i].write, strlen(steps[i].write)), strlen(steps[i].write));
        assert_int_equal(args_next(r, &args, false, NULL), steps[i].result);
        if (steps[i].result != 1) continue;
        note(&args);
        args_free(&args);
    }
    close(ends[1]);
    assert_int_equal(args_next(r, &args, false, NULL), 1);
    note(&args);
    args_free(&args);
    assert_int_equal(args_next(r, &args, false, NULL), 0);
    assert_string_equal(seen, "a|b c d\ne|f\ng\n");
    args_close(r);
    dup2(keep, STDIN_FILENO);
    close(keep);
}

/* A million lines, one a group, and in groups that are measured row by row and many rows at once: each value in its place, and all groups alive at once. */
static void million(void **state)
{
    size_t n = 1000000, bytes = 0, next;
    char *text = malloc(n * 8);
    const char *file;

    (void)state;
    assert_non_null(text);
    for (size_t i = 0; i < n; i++) bytes += (size_t)sprintf(text + bytes, "%zu\n", i);
    file = file_of(text, bytes);
    free(text);
    for (int i = 0; i < 3; i++) {
        struct args_limit most = { .most = i == 1 ? 100000 : 300000, .grows = values, .each = i == 2 };
        struct batch b = { SOURCES(FROM(file)), .fill = i ? FILL_CONTEXT : FILL_NONE };
        struct args_reader *r = args_open(&b);
        struct args *all = calloc(n, sizeof *all);
        size_t groups = 0;

        assert_true(r && all);
        while (groups < n && args_next(r, &all[groups], true, i ? &most : NULL) == 1) groups++;
        /* They are full. */
        if (i == 1) assert_in_range(groups, (bytes - n) / 100000, (bytes - n) / 100000 + 2);
        if (i == 2) assert_in_range(groups, (bytes + n * sizeof(char *)) / 300000, (bytes + n * sizeof(char *)) / 300000 + 2);
        next = 0;
        for (size_t g = 0; g < groups; g++) {
            for (size_t row = 0; row < all[g].rows; row++) {
                char number[16];
                size_t length = (size_t)sprintf(number, "%zu", next++);

                assert_true(all[g].columns == 1 && all[g].value[row].bytes == length);
                assert_memory_equal(all[g].value[row].text, number, length + 1);
                assert_true(all[g].value[row].text + length + 1 == (row + 1 < all[g].rows ? all[g].value[row + 1].text : all[g].value->text + all[g].packed));
            }
            assert_true(all[g].clean);
            args_free(&all[g]);
        }
        assert_int_equal(next, n);
        free(all);
        args_close(r);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CLI_TEST(combinations),
        CLI_TEST(in_step),
        CLI_TEST(columns),
        CLI_TEST(header),
        CLI_TEST(groups),
        CLI_TEST(shuffled),
        CLI_TEST(shuffled_evenly),
        CLI_TEST(totals),
        CLI_TEST(errors),
        CLI_TEST(waits),
        CLI_TEST(million),
    };
    return PM_TEST_MAIN("args", tests);
}

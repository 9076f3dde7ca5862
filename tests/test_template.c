/* Command lines from words with replacement strings.  What is expected was compared with GNU parallel 20221122, except where a comment says
 * that we mean otherwise. */
#include "cli/template.h"
#include "tests/cli.h"

#include <ctype.h>
#include <sys/wait.h>

#define MOST 32

static struct record cells[256];

/* Rows are parted by |, columns by comma; ~ is a column that is not there. */
static struct args rows_of(const char *text)
{
    struct args args = { .columns = 1, .value = cells };
    size_t n = 0;

    for (const char *p = text; *p && *p != '|'; p++) args.columns += *p == ',';
    for (;;) {
        size_t length = strcspn(text, ",|");

        assert_true(n < sizeof cells / sizeof *cells);
        cells[n++] = (struct record){ text[0] == '~' ? NULL : text, text[0] == '~' ? 0 : length };
        if (!text[length]) break;
        text += length + 1;
    }
    args.rows = n / args.columns;
    assert_int_equal(args.rows * args.columns, n);
    return args;
}

static size_t split(char *words, char **list)
{
    size_t n = 0;

    if (!*words) return 0;
    for (char *next = words; next; n++) {
        assert_true(n < MOST);
        list[n] = next;
        next = strchr(next, '|');
        if (next) *next++ = '\0';
    }
    return n;
}

/* The command that words (parted by |) become with these arguments, its words parted by |. */
static const char *filled(const struct batch *b, const struct args_reader *names, const char *words, const struct args *args)
{
    static char seen[4096];
    char copy[1024], *list[MOST], **argv;
    struct template *t;
    size_t bytes, real = 0, sum = 0, at = 0;

    assert_true(strlen(words) < sizeof copy);
    strcpy(copy, words);
    t = template_make(b, list, split(copy, list), true, names);
    assert_non_null(t);
    assert_int_equal(template_fill(t, args, 17, 3, &argv, &bytes), 0);
    seen[0] = '\0';
    for (char **w = argv; *w; w++) {
        at += (size_t)snprintf(seen + at, sizeof seen - at, "%s%s", w > argv ? "|" : "", *w);
        real += strlen(*w) + 1 + sizeof *w;
    }
    assert_int_equal(bytes, real);
    for (size_t row = 0; row < args->rows; row++) sum += template_grows(t, args, row);
    if (strstr(words, "{#}") || strstr(words, "{%}") || args->value[0].text == NULL) assert_true(sum >= bytes);
    /* {1} of a group that counts its values is nothing that grows by rows. */
    else if (b->fill != FILL_NONE || args->rows == 1) assert_int_equal(sum, bytes);
    free(argv);
    template_free(t);
    return seen;
}

#define BECOMES(words, rows, expected, ...)                                     \
    do {                                                                        \
        struct batch given = { .delimiter = '\n', __VA_ARGS__ };                \
        struct args made = rows_of(rows);                                       \
        assert_string_equal(filled(&given, NULL, words, &made), expected);      \
    } while (0)

static void shapes(void **state)
{
    static const struct { const char *value, *stem, *base, *directory, *base_stem; } table[] = {
        { "a.b.c", "a.b", "a.b.c", ".", "a.b" },
        { "/x/a.b/c", "/x/a.b/c", "c", "/x/a.b", "c" },
        { "x.d/y.tar.gz", "x.d/y.tar", "y.tar.gz", "x.d", "y.tar" },
        { ".bashrc", "", ".bashrc", ".", "" },
        { "dir/.bashrc", "dir/", ".bashrc", "dir", "" },
        { "a/.b.c", "a/.b", ".b.c", "a", ".b" },
        { "a.", "a", "a.", ".", "a" },
        { "/", "/", "", "/", "" },
        { "//", "//", "", "/", "" },
        { "/a", "/a", "a", "/", "a" },
        { "//a", "//a", "a", "/", "a" },
        { "a/", "a/", "", ".", "" },
        { "a.b/", "a.b/", "", ".", "" },
        { "a/b/", "a/b/", "", "a", "" },
        { "a//b", "a//b", "b", "a", "b" },
        { "a/b//c", "a/b//c", "c", "a/b", "c" },
        { ".", "", ".", ".", "" },
        { "..", ".", "..", ".", "." },
        { "", "", "", ".", "" },
        { "a b/c d.e f", "a b/c d", "c d.e f", "a b", "c d" },
        { "\xff.\xfe", "\xff", "\xff.\xfe", ".", "\xff" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char expected[256];

        snprintf(expected, sizeof expected, "c|<%s>|<%s>|<%s>|<%s>|<%s>", table[i].value, table[i].stem, table[i].base, table[i].directory,
                 table[i].base_stem);
        BECOMES("c|<{}>|<{.}>|<{/}>|<{//}>|<{/.}>", table[i].value, expected);
        BECOMES("c|<{1}>|<{1.}>|<{1/}>|<{1//}>|<{1/.}>", table[i].value, expected);
        BECOMES("c|<{-1}>|<{-1.}>|<{-1/}>|<{-1//}>|<{-1/.}>", table[i].value, expected);
    }
}

static void one_row(void **state)
{
    (void)state;
    BECOMES("echo", "a b", "echo|a b");
    BECOMES("echo|-n", "", "echo|-n|");
    BECOMES("echo|{}|{}x{}", "a b", "echo|a b|a bxa b");
    BECOMES("{}", "prog", "prog");
    BECOMES("", "prog", "prog"); /* no words at all */
    BECOMES("echo|{#}|{%}|{}{#}", "v", "echo|17|3|v17");
    BECOMES("echo|{#}", "v", "echo|17"); /* it has one: nothing is appended */
    /* Several columns: words of their own, but where they are in a word. */
    BECOMES("cp", "a b,c", "cp|a b|c");
    BECOMES("cp|{}|<{}>|{.}", "a.x,b.y", "cp|a.x|b.y|<a.x b.y>|a|b");
    BECOMES("echo|{1}|{2}|{-1}|{-2}|{2}{1.}", "a.x,b", "echo|a.x|b|b|a.x|ba");
    /* What a record has not is no word, or nothing in a word; an empty value is an empty word. */
    BECOMES("echo|{3}|<{3}>|{-3}|{2}", "a,b", "echo|<>|b");
    BECOMES("echo|{2}|<{2}>|{-1}|{}", "a,~", "echo|<>|a|a");
    BECOMES("echo|{2}|{}", "a,", "echo||a|");
    BECOMES("{2}|x", "a", "|x"); /* the program's name is there in any case */
    /* What means nothing stays. */
    BECOMES("awk|{print $1}|{}", "f", "awk|{print $1}|f");
    BECOMES("e|{0}|{01}|{+1}|{1 }|{a}|{..}|{///}|{1..}|{##}|{#.}|{-}|{-0}|{|}|{{}}|{{1}}|{1}}|{1234567890}", "A",
            "e|{0}|{01}|{+1}|{1 }|{a}|{..}|{///}|{1..}|{##}|{#.}|{-}|{-0}|{|}|{A}|{A}|A}|{1234567890}");
    /* -I stands for {}, the others stay what they are. */
    BECOMES("echo|,,|{}|{.}|,,.|x,,y", "a.b", "echo|a.b|{}|a|a.b.|xa.by", .replace = ",,");
    BECOMES("echo", "a", "echo|a", .replace = ",,");
    BECOMES("echo|{}", "a", "echo|{}|a", .replace = ",,");
    BECOMES("echo|{}x", "a", "echo|ax", .replace = "{}");
}

static void several_rows(void **state)
{
    (void)state;
    /* -n: side by side */
    BECOMES("echo", "a.1|b.2", "echo|a.1|b.2", .most = 2);
    BECOMES("echo|x{}y|{.}|z", "a.1|b.2|c.3", "echo|xa.1|b.2|c.3y|a|b|c|z", .most = 3);
    BECOMES("echo|x{}y{}z", "a.1|b.2", "echo|xa.1|b.2ya.1|b.2z", .most = 2);
    BECOMES("echo|x{}y{}z", "c.3", "echo|xc.3yc.3z", .most = 2);
    BECOMES("echo|p{.}q{/}r", "a/a.b|c.d", "echo|pa/a|cqa.b|c.dr", .most = 2);
    BECOMES("echo|{}|<{}>", "a,b|c,d", "echo|a|b|c|d|<a b|c d>", .most = 2);
    /* -n and -L: numbers count all values */
    BECOMES("echo|{1}-{2}|{}", "a|b", "echo|a-b|a|b", .most = 2);
    BECOMES("echo|{1}-{2}|{2}|{}", "c", "echo|c-|c", .most = 2);
    BECOMES("echo|{3}|{-1}|{1.}|{4}", "a.x|b|c", "echo|c|c|a", .most = 3);
    BECOMES("echo|{1}|{2}|{3}", "a,b|c,d", "echo|a|b|c", .most = 2);
    BECOMES("echo|{2}|{-2}", "a,~|b,c", "echo|b|b", .most = 2);
    BECOMES("echo|{1}{2}", "a|b", "echo|ab", .most_lines = 2);
    /* -L: the word again, as -X has it */
    BECOMES("echo|{}-{1}|{#}{}|{1}", "a|b", "echo|a-a|b-a|17a|17b|a", .most_lines = 2);
    /* -m and -X.  Numbers are columns of each row; GNU parallel's are of the first, and it drops the others without a word. */
    BECOMES("echo|x{}y|{.}|z", "a.1|b.2|c.3", "echo|xa.1|b.2|c.3y|a|b|c|z", .fill = FILL_ARGUMENTS);
    BECOMES("echo|x{}y|{.}|z", "a.1|b.2|c.3", "echo|xa.1y|xb.2y|xc.3y|a|b|c|z", .fill = FILL_CONTEXT);
    BECOMES("echo|x{}y{}z", "a|b", "echo|xaya" "z|xbyb" "z", .fill = FILL_CONTEXT);
    BECOMES("echo|x{}y{}z", "a|b", "echo|xa|bya|bz", .fill = FILL_ARGUMENTS);
    BECOMES("echo|{1}={2}|{2}|{#}", "a,b|c,d", "echo|a=b|c=d|b|d|17", .fill = FILL_CONTEXT);
    BECOMES("echo|{1}={2}|{2}", "a,b|c,d", "echo|a|c=b|d|b|d", .fill = FILL_ARGUMENTS);
    BECOMES("echo|<{2}>|{2}", "a,~|b,c", "echo|<>|<c>|c", .fill = FILL_CONTEXT);
    BECOMES("echo|{}{#}|{%}", "a|b", "echo|a17|b17|3", .fill = FILL_CONTEXT, .most = 2);
}

static void names(void **state)
{
    static const char text[] = "x,h 1,a.,#,2,\nd/v.w,b,c,d,e,f\n";
    struct batch b = { .delimiter = '\n', .header = true, .colsep = ",", .nsources = 1 };
    struct args_reader *r;
    struct args args;

    (void)state;
    b.sources = &(struct batch_source){ .file = FILE_OF(text) };
    r = args_open(&b);
    assert_non_null(r);
    assert_int_equal(args_next(r, &args, true, NULL), 1);
    assert_string_equal(filled(&b, r, "{x}|{x.}|{x/}|{x//}|{x/.}|<{h 1}>", &args), "d/v.w|d/v|v.w|d|v|<b>");
    /* A name may look like a shape; numbers and {#} are never names; {} is not the empty name. */
    assert_string_equal(filled(&b, r, "e|{a.}|{a..}|{a}|{#}|{2}|<{}>|{y}|{.}x", &args),
                        "e|c|c|{a}|17|b|<d/v.w b c d e f>|{y}|d/v b c d e fx");
    args_free(&args);
    args_close(r);
    {
        struct batch two = { .delimiter = '\n', .header = true, .most = 2, .nsources = 1 };

        two.sources = &(struct batch_source){ .words = (char *[]){"n", "a", "b"}, .nwords = 3 };
        r = args_open(&two);
        assert_non_null(r);
        assert_int_equal(args_next(r, &args, true, NULL), 1);
        assert_string_equal(filled(&two, r, "echo|{n}|-{n}", &args), "echo|a|b|-a|b"); /* names are of each row */
        args_free(&args);
        args_close(r);
    }
}

static void shell(void **state)
{
    (void)state;
    BECOMES("echo", "a b", "echo 'a b'", .shell = true);
    BECOMES("", "echo a; b", "echo a; b", .shell = true); /* each line is a command */
    BECOMES("grep x|{} >{/.}.out", "d/it's.c", "grep x 'd/it'\\''s.c' >'it'\\''s'.out", .shell = true);
    BECOMES("echo {}  {2}.{3}\t{1} ; wc ", "a,", "echo 'a' ''  ''.\t'a' ; wc ", .shell = true);
    BECOMES("echo x{}y  z", "a|b", "echo x'a' 'b'y  z", .shell = true, .most = 2);
    BECOMES("echo x{}y  z", "a|b", "echo x'a' 'b'y  z", .shell = true, .fill = FILL_ARGUMENTS);
    BECOMES("echo x{}y  z|{} &", "a|b", "echo x'a'y x'b'y  z 'a' 'b' &", .shell = true, .fill = FILL_CONTEXT);
    BECOMES("echo $(({} % 5)) {}>{} {.}", "42", "echo $((42 % 5)) '42'>'42' 42", .shell = true);
    BECOMES("{} {} {}", "-1.5|1a|.", "-1.5 '1a' '.' -1.5 '1a' '.' -1.5 '1a' '.'", .shell = true);
    /* Whatever stands between a number and what redirects, it must not become a descriptor. */
    BECOMES("echo {#}>f {1}{2}>f {1}{#}<f {%}{3}>>f {1} >f 1{1}>f", "2,3", "echo '17'>f '2''3'>f '2''17'<f '3'>>f 2 >f 1'2'>f",
            .shell = true);
    BECOMES("for i in a; do echo {#} {%}; done", "v", "for i in a; do echo 17 3; done", .shell = true);
}

/* Whatever bytes a value has, the shell gives them on as they are. */
static void quoting(void **state)
{
    char value[3][256];
    size_t bytes[3] = { 0, 0, 0 };
    struct batch b = { .delimiter = '\n', .shell = true };
    struct record row[5] = { { value[0], 0 }, { value[1], 0 }, { value[2], 0 }, { "", 0 }, { "$(exit 1)`x`\\'\"'~ * ?[a]#=!{}", 29 } };
    struct args args = { .rows = 1, .columns = 5, .value = row };
    char *words[] = { "printf '%s\\0'", "{}", "x{1}y" }, **argv, got[1024];
    struct template *t = template_make(&b, words, 3, true, NULL);
    size_t used, length, at = 0;
    FILE *out;

    (void)state;
    for (int c = 1; c < 256; c++) value[c % 3][bytes[c % 3]++] = (char)c;
    for (int i = 0; i < 3; i++) row[i].bytes = bytes[i];
    assert_non_null(t);
    args.columns = 5;
    assert_int_equal(template_fill(t, &args, 1, 1, &argv, &used), 0);
    out = popen(argv[0], "re");
    assert_non_null(out);
    length = fread(got, 1, sizeof got, out);
    assert_int_equal(pclose(out), 0);
    for (int i = 0; i < 5; i++) {
        assert_memory_equal(got + at, row[i].text, row[i].bytes);
        at += row[i].bytes;
        assert_int_equal(got[at++], 0);
    }
    assert_int_equal(got[at++], 'x');
    assert_memory_equal(got + at, value[0], bytes[0]);
    at += bytes[0];
    assert_memory_equal(got + at, "y\0", 2);
    assert_int_equal(at + 2, length);
    free(argv);
    template_free(t);
}

static void zero_bytes(void **state)
{
    struct batch b = { .delimiter = '\n', .nsources = 1 };
    char *words[] = { "echo", "{/}" }, **argv;
    struct args_reader *r;
    struct args args;
    struct template *t;
    size_t bytes;

    (void)state;
    b.sources = &(struct batch_source){ .file = FILE_OF("fine\ndir\0/base\nba\0se\n") };
    r = args_open(&b);
    assert_non_null(r);
    t = template_make(&b, words, 2, true, r);
    assert_non_null(t);
    for (size_t job = 1; job <= 3; job++) {
        assert_int_equal(args_next(r, &args, true, NULL), 1);
        listen_to_errors();
        assert_int_equal(template_fill(t, &args, job, 1, &argv, &bytes), job == 3); /* in 2 it is not in what is used */
        if (job == 3) {
            HEARD("job 3", "data.", "zero byte", "'ba'");
        } else {
            assert_string_equal(heard(), "");
            assert_string_equal(argv[1], job == 1 ? "fine" : "base");
            free(argv);
        }
        args_free(&args);
    }
    template_free(t);
    args_close(r);
}

static void questions(void **state)
{
    struct batch b = { .delimiter = '\n' }, line = { .delimiter = '\n', .shell = true };
    static const struct { const char *word; bool slot, program; } table[] = {
        { "echo", false, false }, { "{}", false, true }, { "/bin/{1}", false, true }, { "{%}", true, true }, { "{print}", false, false },
    };

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char word[32], *words[] = { word };
        struct template *t;

        strcpy(word, table[i].word);
        t = template_make(&b, words, 1, true, NULL);
        assert_int_equal(template_uses_slot(t), table[i].slot);
        assert_int_equal(template_names_program(t), table[i].program);
        template_free(t);
        t = template_make(&line, words, 1, true, NULL);
        assert_int_equal(template_uses_slot(t), table[i].slot);
        assert_false(template_names_program(t)); /* it is always the shell */
        template_free(t);
    }
}

/* Without `append` words stay alone, as --tagstring wants it. */
static void not_appended(void **state)
{
    struct batch b = { .delimiter = '\n' };
    char *words[] = { "fixed" }, **argv;
    struct args args = rows_of("a");
    struct template *t = template_make(&b, words, 1, false, NULL);
    size_t bytes;

    (void)state;
    assert_int_equal(template_fill(t, &args, 1, 1, &argv, &bytes), 0);
    assert_string_equal(argv[0], "fixed");
    assert_null(argv[1]);
    free(argv);
    template_free(t);
}

/* Where there are no values, braces are text, but for the number and the slot. */
static void plain(void **state)
{
    struct batch b = { .delimiter = '\n' };
    char *words[] = { "grep", "a{3}{}", "{1}", "{#}-{%}-{.}" }, **argv;
    struct args none = { .rows = 0 };
    struct template *t = template_make_plain(&b, words, 4);
    size_t bytes;

    (void)state;
    assert_true(template_uses_slot(t));
    assert_int_equal(template_fill(t, &none, 7, 2, &argv, &bytes), 0);
    assert_string_equal(argv[1], "a{3}{}");
    assert_string_equal(argv[2], "{1}");
    assert_string_equal(argv[3], "7-2-{.}");
    assert_null(argv[4]);
    free(argv);
    template_free(t);
}

/* As long as said: /bin/true with so many bytes starts, with a page more for each word it may not.  The figure is the system's own. */
static void most(void **state)
{
    size_t limit = template_most(), word = 1000, n = (limit - 2 * (10 + sizeof(char *))) / (word + 1 + sizeof(char *));
    char **argv = calloc(n + 2, sizeof *argv), *text = malloc(TEMPLATE_MOST_WORD + 1);
    int status = -1;
    pid_t child;

    (void)state;
    assert_true(argv && text);
    assert_in_range(limit, 100000, 6 << 20);
    memset(text, 'x', TEMPLATE_MOST_WORD);
    text[word] = '\0';
    argv[0] = (char[]){"/bin/true"};
    for (size_t i = 1; i <= n; i++) argv[i] = text;
    for (int i = 0; i < 3; i++) {
        child = fork();
        if (child == 0) {
            execv("/bin/true", argv);
            _exit(99);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), i == 2 ? 99 : 0);
        text[word] = 'x'; /* then one word that is as long as one may be, and then one that is longer */
        text[TEMPLATE_MOST_WORD] = '\0';
        argv[1] = text;
        argv[2] = NULL;
        if (i == 1) {
            text = realloc(text, TEMPLATE_MOST_WORD + 2);
            assert_non_null(text);
            strcpy(text + TEMPLATE_MOST_WORD, "x");
            argv[1] = text;
        }
    }
    free(argv);
    free(text);
}

static void shown(void **state)
{
    char *argv[] = { (char[]){"prog"}, (char[]){"a b"}, (char[]){""}, (char[]){"it's"}, (char[]){"a\n\t\x01'\\"}, (char[]){"$x"},
                     (char[]){"x=1"}, (char[]){"é"}, NULL };
    char *line[] = { (char[]){"echo 'a b' | wc"}, NULL }, *text = template_show(argv, false);

    (void)state;
    assert_string_equal(text, "prog 'a b' '' 'it'\\''s' $'a\\n\\t\\001\\'\\\\' '$x' 'x=1' 'é'");
    free(text);
    text = template_show(line, true);
    assert_string_equal(text, line[0]);
    free(text);
    text = template_show(argv + 8, false);
    assert_string_equal(text, "");
    free(text);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CLI_TEST(shapes),
        CLI_TEST(one_row),
        CLI_TEST(several_rows),
        CLI_TEST(names),
        CLI_TEST(shell),
        CLI_TEST(quoting),
        CLI_TEST(zero_bytes),
        CLI_TEST(questions),
        CLI_TEST(not_appended),
        CLI_TEST(plain),
        CLI_TEST(most),
        CLI_TEST(shown),
    };
    return PM_TEST_MAIN("template", tests);
}

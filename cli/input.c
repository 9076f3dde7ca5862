/* Reads .npy and raw files. See input.h. The .npy format is NumPy's NEP 1: a magic string, a version, the length of a
 * header, the header (a Python dict literal with exactly three keys), then the data. */
#include "cli/input.h"
#include "cli/words.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "files hold little-endian numbers and are mapped as they are");

struct cursor {           /* where the header's text is being read */
    const char *file;
    const char *start, *at, *end; /* start: byte 0 of the file */
};

static int expected(const struct cursor *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int expected(const struct cursor *c, const char *format, ...)
{
    char what[160], found[24];
    size_t length = 0;
    va_list list;

    va_start(list, format);
    vsnprintf(what, sizeof what, format, list);
    va_end(list);
    for (const char *p = c->at; p < c->end && length < 16 && *p >= ' ' && *p <= '~'; p++) found[length++] = *p;
    found[length] = '\0';
    if (c->at >= c->end)
        complain("%s: byte %zu: expected %s, found the end", c->file, (size_t)(c->at - c->start), what);
    else if (length)
        complain("%s: byte %zu: expected %s, found \"%s\"", c->file, (size_t)(c->at - c->start), what, found);
    else
        complain("%s: byte %zu: expected %s, found the byte 0x%02x", c->file, (size_t)(c->at - c->start), what,
                 (unsigned)(unsigned char)*c->at);
    return -1;
}

static void blanks(struct cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\t')) c->at++;
}

/* Skips `text` when it comes next. */
static bool take(struct cursor *c, const char *text)
{
    size_t length = strlen(text);

    blanks(c);
    if ((size_t)(c->end - c->at) < length || memcmp(c->at, text, length) != 0) return false;
    c->at += length;
    return true;
}

/* 'word' or "word": the index among the names. */
static int quoted(struct cursor *c, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char text[32];

        for (int q = 0; q < 2; q++) {
            snprintf(text, sizeof text, "%c%s%c", "'\""[q], names[i], "'\""[q]);
            if (take(c, text)) return (int)i;
        }
    }
    return -1;
}

/* (), (3,), (3, 4): the product.  Python 2 wrote 3L. */
static int shape(struct cursor *c, size_t *items)
{
    size_t product = 1;

    if (!take(c, "(")) return expected(c, "the shape, such as (3, 4)");
    while (!take(c, ")")) {
        struct cursor number;
        uint64_t n;

        blanks(c);
        number = *c;
        while (c->at < c->end && *c->at >= '0' && *c->at <= '9') c->at++;
        if (!words_number(number.at, (size_t)(c->at - number.at), &n)) return expected(&number, "a length or ')'");
        if (__builtin_mul_overflow(product, n, &product))
            return expected(&number, "a shape whose product fits in 64 bits");
        take(c, "L");
        if (take(c, ",")) continue;
        blanks(c);
        if (c->at >= c->end || *c->at != ')') return expected(c, "',' or ')' after a length");
    }
    *items = product;
    return 0;
}

static int dictionary(struct cursor *c, struct input *input)
{
    static const char *const keys[] = { "descr", "fortran_order", "shape" };
    static const char *const types[] = { "<f8", "<f4", "<i8", "<i4", "|u1" }; /* in the order of enum dtype */
    unsigned seen = 0;

    if (!take(c, "{")) return expected(c, "'{', the start of the header");
    while (!take(c, "}")) {
        int key = quoted(c, keys, 3), type;

        if (key < 0) return expected(c, "'descr', 'fortran_order', 'shape' or '}'");
        if (!take(c, ":")) return expected(c, "':' after a key");
        blanks(c);
        if (key == 0) {
            if ((type = quoted(c, types, DTYPES)) < 0 &&
                !(quoted(c, (const char *const[]){ "<u1" }, 1) == 0 && (type = DTYPE_U8)))
                return expected(c, "a type among '<f8' '<f4' '<i8' '<i4' '|u1'");
            input->dtype = (enum dtype)type;
        } else if (key == 1) {
            /* The order does not matter to a sum, so both are read as they lie. */
            if (!take(c, "True") && !take(c, "False")) return expected(c, "True or False");
        } else if (shape(c, &input->items)) {
            return -1;
        }
        seen |= 1u << key;
        if (take(c, ",")) continue;
        blanks(c);
        if (c->at >= c->end || *c->at != '}') return expected(c, "',' or '}' after a value");
    }
    if (seen != 7) return expected(c, "a header with all of 'descr', 'fortran_order' and 'shape'");
    blanks(c);
    return c->at == c->end ? 0 : expected(c, "only blanks after the header");
}

static int npy(struct input *input, const char *file)
{
    const unsigned char *b = input->map;
    struct cursor c = { file, input->map, input->map, (const char *)input->map + input->map_bytes };
    size_t length, wide, bytes, have;

    if (input->map_bytes < 6 || memcmp(b, "\x93NUMPY", 6) != 0) return expected(&c, "the magic string \"\\x93NUMPY\"");
    c.at += 6;
    if (input->map_bytes < 8 || b[6] < 1 || b[6] > 3 || b[7] != 0) return expected(&c, "version 1.0, 2.0 or 3.0");
    c.at += 2;
    wide = b[6] == 1 ? 2 : 4;
    if (input->map_bytes < 8 + wide) return expected(&c, "the header's length in %zu bytes", wide);
    length = (size_t)b[8] | (size_t)b[9] << 8;
    if (wide == 4) length |= (size_t)b[10] << 16 | (size_t)b[11] << 24;
    if (length > input->map_bytes - 8 - wide)
        return expected(&c, "a header that ends in the file, not one of %zu bytes", length);
    c.at += wide;
    c.end = c.at + length;
    if (dictionary(&c, input)) return -1;

    input->data = c.end;
    have = input->map_bytes - 8 - wide - length;
    if (__builtin_mul_overflow(input->items, dtype_sizes[input->dtype], &bytes) || bytes != have) {
        complain("%s: byte %zu: expected %zu items of %s and then the end, found %zu bytes", file, 8 + wide + length,
                 input->items, dtype_names[input->dtype], have);
        return -1;
    }
    return 0;
}

static int raw(struct input *input, const char *file, enum dtype dtype)
{
    size_t size = dtype_sizes[dtype], rest = input->map_bytes % size;

    input->dtype = dtype;
    input->data = input->map;
    input->items = input->map_bytes / size;
    if (rest == 0) return 0;
    complain("%s: byte %zu: expected %zu bytes more: the size must be a multiple of %zu (%s)", file, input->map_bytes,
             size - rest, size, dtype_names[dtype]);
    return -1;
}

static bool is_npy(const struct input *input, const char *file)
{
    size_t length = strlen(file);

    if (length > 4 && !strcmp(file + length - 4, ".npy")) return true;
    return input->map_bytes >= 6 && memcmp(input->map, "\x93NUMPY", 6) == 0;
}

static int map(struct input *input, const char *file)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK),
        error = 0; /* not blocking: a FIFO without a writer would hang */
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) {
        error = errno;
    } else if (!S_ISREG(st.st_mode)) {
        complain("%s: expected a regular file, which can be mapped", file);
        close(fd);
        return -1;
    } else if (st.st_size > 0) {
        input->map_bytes = (size_t)st.st_size;
        input->map = mmap(NULL, input->map_bytes, PROT_READ, MAP_SHARED, fd, 0);
        if (input->map == MAP_FAILED) error = errno;
    }
    if (fd >= 0) close(fd);
    if (error) {
        input->map = NULL;
        complain("%s: cannot be read: %s", file, strerror(error));
    }
    return error ? -1 : 0;
}

int input_open(struct input *input, const struct settings *settings)
{
    const char *file = settings->input;

    memset(input, 0, sizeof *input);
    if (map(input, file)) return -1;
    if (is_npy(input, file) ? npy(input, file) : raw(input, file, settings->dtype)) {
        input_close(input);
        return -1;
    }
    if (settings->has_dtype && settings->dtype != input->dtype) {
        complain("%s: holds %s, but --dtype says %s", file, dtype_names[input->dtype], dtype_names[settings->dtype]);
        input_close(input);
        return -1;
    }
    return 0;
}

void input_close(struct input *input)
{
    if (input->map) munmap(input->map, input->map_bytes);
    input->map = NULL;
}

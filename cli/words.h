/* Words that a user types: finding one in a list, and saying clearly when it is not there; numbers with suffixes.
 * Used by the option table; knows nothing of what the words mean. */
#ifndef CLI_WORDS_H
#define CLI_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The index of the `length` bytes at `word` among `count` names, or -1. */
int words_find(const char *word, size_t length, const char *const *names, size_t count);

/* The index of the name that the word resembles most, or -1: it resembles none. */
int words_nearest(const char *word, size_t length, const char *const *names, size_t count);

/* Prints "parmap: unknown WHAT 'WORD', did you mean 'NEAREST'?" and the list of right words to stderr. */
void words_complain(const char *what, const char *word, size_t length, const char *const *names, size_t count);

/* Prints "parmap: " and the text to stderr, with a newline. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A whole number such as 12, 10k, 4M, 2G (times 1000) or 64Ki, 1Mi, 1Gi (times 1024), of exactly `length` bytes. */
bool words_number(const char *word, size_t length, uint64_t *number);

#endif

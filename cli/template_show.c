/* Commands as text, and how long they may be.  See template.h. */
#include "cli/template.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SAFE "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:@%+,-"

size_t template_most(void)
{
    long system = sysconf(_SC_ARG_MAX);
    size_t most = (size_t)6 << 20, used = 0; /* Linux takes no more than that, however large the stack may become */

    if (system > 0 && (size_t)system < most) most = (size_t)system;
    for (char **e = environ; e && *e; e++) used += strlen(*e) + 1 + sizeof *e;
    used += 4096; /* the file's name, once more, and the ends of the lists; POSIX asks xargs to leave 2048 */
    return most > used ? most - used : 0;
}

/* A word's longest form: each byte as \ooo, in $''. */
static char *show_word(char *to, const char *word)
{
    bool control = false;

    for (const char *p = word; *p; p++) control |= (unsigned char)*p < ' ' || *p == 127;
    if (*word && word[strspn(word, SAFE)] == '\0') return stpcpy(to, word);
    to = stpcpy(to, control ? "$'" : "'");
    for (; *word; word++) {
        if (control && ((unsigned char)*word < ' ' || *word == 127)) {
            const char *letter = strchr("\tt\nn\rr", *word);

            to += letter ? sprintf(to, "\\%c", letter[1]) : sprintf(to, "\\%03o", (unsigned)*word);
        } else if (control && (*word == '\'' || *word == '\\')) {
            *to++ = '\\';
            *to++ = *word;
        } else if (*word == '\'') {
            to = stpcpy(to, "'\\''");
        } else {
            *to++ = *word;
        }
    }
    return stpcpy(to, "'");
}

char *template_show(char *const *argv, bool shell)
{
    size_t bytes = 1;
    char *text, *to;

    if (shell) return strdup(argv[0]);
    for (char *const *word = argv; *word; word++) bytes += 4 * strlen(*word) + 4;
    text = to = malloc(bytes);
    if (!text) return NULL;
    *to = '\0';
    for (char *const *word = argv; *word; word++) {
        if (word > argv) *to++ = ' ';
        to = show_word(to, *word);
    }
    return text;
}

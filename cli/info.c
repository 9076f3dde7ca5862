/* `parmap info`: what this build has, what this machine offers, and last what will hurt.  See bench.h. */
#include "cli/bench.h"
#include "cli/machine.h"
#include "cli/words.h"

#include <pmap/pmap.h>

#include <stdlib.h>
#include <string.h>

#define WARNING "warning:"

static void lines(const char *text, bool warnings)
{
    while (*text) {
        size_t length = strcspn(text, "\n");

        if (!strncmp(text, WARNING, strlen(WARNING)) == warnings && length) printf("%.*s\n", (int)length, text);
        text += length + (text[length] == '\n');
    }
}

int info(void)
{
    size_t bytes = pmap_machine(NULL, 0) + 256; /* a little more, should a figure grow between the two calls */
    char *text = malloc(bytes);
    struct machine machine;

    if (!text) {
        complain("not enough memory");
        return 1;
    }
    machine_look(&machine);
    pmap_machine(text, bytes);
    /* The library tells the rest. */
    printf("parmap: %s\ncompiler: %s\ncpu: %s\n", PMAP_VERSION, machine.compiler, machine.cpu);
    lines(text, false);
    lines(text, true);
    free(text);
    return written(stdout, "standard output") ? 1 : 0;
}

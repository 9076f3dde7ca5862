/* Three times "openssl enc | openssl dgst" at once: each first program reads bytes from here, the second reads what it
 * writes. */
#include <pmap/pmap.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
    static char data[3][10];
    pmap_command *chain[3];
    for (int i = 0; i < 3; i++) {
        memset(data[i], 'a' + i, sizeof data[i]);
        pmap_command_options step[2] = {PMAP_COMMAND_OPTIONS_INIT, PMAP_COMMAND_OPTIONS_INIT};
        step[0].argv = (const char *const[]){"openssl", "enc", "-aes-256-cbc", "-pbkdf2", "-nosalt", "-pass",
                                             "pass:zxcvbnm", NULL};
        step[0].input = data[i];
        step[0].input_bytes = sizeof data[i];
        step[1].argv = (const char *const[]){"openssl", "dgst", "-sha256", "-binary", NULL};
        step[1].out.to = PMAP_IO_PIPE;
        int error = pmap_command_chain(&chain[i], step, 2);
        if (error == PMAP_ENOENT) return puts("openssl is not installed"), 0;
        if (error) return fprintf(stderr, "%s\n", pmap_error()), 1;
    }
    for (int i = 0; i < 3; i++) {
        size_t bytes;
        if (pmap_command_wait(chain[i], 60) || pmap_command_check(chain[i]))
            return fprintf(stderr, "%s\n", pmap_error()), 1;
        const unsigned char *digest = (const unsigned char *)pmap_command_output(chain[i], 1, &bytes);
        printf("%c: %zu bytes, ", 'a' + i, bytes);
        for (size_t k = 0; k < bytes && k < 8; k++) printf("%02x", digest[k]);
        putchar('\n');
        pmap_command_close(chain[i]);
    }
    return 0;
}

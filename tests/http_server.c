/* A tiny HTTP server for examples/pages: on the loopback interface and a port that the kernel chooses and this prints.  It answers each GET
 * 50 ms later with a page of 100 bytes, any number of them at a time, and ends when its standard input closes.  Used by
 * tests/test_examples.sh only; it serves no files and must not be reachable from elsewhere. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BYTES = 100, DELAY_MS = 50, PATIENCE_S = 10 };

/* The request up to its empty line; no more than fits is looked at. */
static int is_get(int fd)
{
    char text[4096];
    size_t n = 0;
    while (n < sizeof text - 1) {
        ssize_t got = recv(fd, text + n, sizeof text - 1 - n, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return 0;
        n += (size_t)got;
        text[n] = 0;
        if (strstr(text, "\r\n\r\n")) break;
    }
    return strncmp(text, "GET /", 5) == 0;
}

static void *serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    struct timespec delay = {.tv_nsec = DELAY_MS * 1000000};
    char answer[512], page[BYTES + 1];
    memset(page, '.', BYTES);
    page[BYTES] = 0;
    int get = is_get(fd);
    nanosleep(&delay, NULL);
    int n = snprintf(answer, sizeof answer, "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
                     get ? "200 OK" : "400 Bad Request", BYTES, page);
    for (ssize_t sent = 0, more; sent < n; sent += more) {
        more = send(fd, answer + sent, (size_t)(n - sent), MSG_NOSIGNAL);
        if (more <= 0) break;
    }
    close(fd);
    return NULL;
}

static int listen_somewhere(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 64) || getsockname(fd, (struct sockaddr *)&at, &length)) {
        perror("http_server");
        return -1;
    }
    printf("%u\n", (unsigned)ntohs(at.sin_port));
    fflush(stdout);
    return fd;
}

int main(void)
{
    struct timeval patience = {.tv_sec = PATIENCE_S};
    int fd = listen_somewhere();
    if (fd < 0) return 1;
    for (;;) {
        struct pollfd wait[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
        char byte;
        pthread_t thread;
        if (poll(wait, 2, -1) < 0 && errno != EINTR) return 1;
        if (wait[0].revents && read(STDIN_FILENO, &byte, 1) <= 0) return 0; /* and all threads end with it */
        if (!(wait[1].revents & POLLIN)) continue;
        int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (client < 0) continue;
        setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        if (pthread_create(&thread, NULL, serve, (void *)(intptr_t)client)) close(client);
        else pthread_detach(thread);
    }
}

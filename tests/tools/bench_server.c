/* SPDX-License-Identifier: MIT-0
 *
 * The stopwatch of bench.py: a Lambda Runtime API for one runtime, quick enough not to be what is measured.
 *
 *   bench_server SEEN COUNT EVENT COMMAND ...
 *       Starts COMMAND, hands it the content of the file EVENT as COUNT invocations, one after another, ends it, and
 *       writes what it saw to the file SEEN as JSON: the class Seen in bench.py.
 *   bench_server client
 *       The smallest possible runtime, to be COMMAND: what two exchanges over a socket cost when nothing at all is
 *       done with what comes.
 *
 * bench_server.py is the first of these in Python, for machines without a C compiler.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MOST 1000000 /* records that there is room for: invocations, or chunks of a stream */
#define TOO_LONG 300 /* seconds after which a run is given up */

static void fail(const char *what) {
    fprintf(stderr, "bench_server: %s\n", what);
    exit(1);
}

static long long now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* ── A connection: a buffer from which lines and bodies are taken ─────────────────────────────────────────────── */

static int sock = -1;
static char buffer[1 << 18];
static size_t begin, end;   /* what is in the buffer and not taken yet */
static long long arrived;   /* when the last of it came */

static int fill(void) { /* more into the buffer; 0 when the other side has hung up */
    if (begin == end) begin = end = 0;
    if (end == sizeof buffer) {
        memmove(buffer, buffer + begin, end - begin);
        end -= begin, begin = 0;
        if (end == sizeof buffer) fail("a line that is too long");
    }
    ssize_t got = recv(sock, buffer + end, sizeof buffer - end, 0);
    arrived = now(CLOCK_MONOTONIC);
    if (got <= 0) return 0;
    end += got;
    return 1;
}

static char *line(void) { /* the next line without its end, NULL when there is none */
    for (size_t seen = 0;;) {
        char *found = memchr(buffer + begin + seen, '\n', end - begin - seen);
        if (found) {
            char *start = buffer + begin;
            begin = found + 1 - buffer;
            if (found > start && found[-1] == '\r') found--;
            *found = 0;
            return start;
        }
        seen = end - begin;
        if (!fill()) return NULL;
    }
}

static void skip(size_t size) {
    while (size > end - begin) {
        size -= end - begin;
        begin = end;
        if (!fill()) fail("the connection ended within a body");
    }
    begin += size;
}

static void send_all(const char *head, size_t head_size, const char *body, size_t body_size) {
    struct iovec pieces[2] = {{(void *)head, head_size}, {(void *)body, body_size}};
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2};
    for (size_t left = head_size + body_size; left;) {
        ssize_t sent = sendmsg(sock, &message, MSG_NOSIGNAL);
        if (sent < 0) fail("the connection ended before all was sent");
        left -= sent;
        for (int i = 0; i < 2; i++) {
            size_t gone = (size_t)sent < pieces[i].iov_len ? (size_t)sent : pieces[i].iov_len;
            pieces[i].iov_base = (char *)pieces[i].iov_base + gone;
            pieces[i].iov_len -= gone, sent -= gone;
        }
    }
}

struct head {
    int answer, chunked; /* whether it is POST .../response; how its body ends */
    size_t length;
    char request_id[64];
};

static int read_head(struct head *head) { /* of a request or of an answer; 0 when none comes */
    char *text;
    memset(head, 0, sizeof *head);
    do {
        if (!(text = line())) return 0;
    } while (!*text);
    head->answer = !strncmp(text, "POST ", 5) && strstr(text, "/response ");
    if (strstr(text, "/error ")) fail("the function failed");
    while ((text = line()) && *text) {
        if (!strncasecmp(text, "Content-Length:", 15)) head->length = strtoull(text + 15, NULL, 10);
        if (!strncasecmp(text, "Transfer-Encoding: chunked", 26)) head->chunked = 1;
        sscanf(text, "Lambda-Runtime-Aws-Request-Id: %63s", head->request_id);
    }
    return text != NULL;
}

/* ── The server ───────────────────────────────────────────────────────────────────────────────────────────────── */

static int listener;
static long long lags[MOST];
static int lag_count;

static size_t skip_chunks(void) {
    size_t sum = 0;
    for (;;) {
        char *text = line();
        if (!text) fail("the connection ended within a stream");
        size_t size = strtoull(text, NULL, 16);
        if (!size) break;
        sum += size;
        while (end - begin < 32 && end - begin < size && fill()) {}
        if (buffer[begin] == '@' && lag_count < MOST)
            lags[lag_count++] = arrived - strtoll(buffer + begin + 1, NULL, 10);
        skip(size + 2);
    }
    for (char *text = line(); text && *text; text = line()) {}
    return sum;
}

static void next_request(struct head *head) { /* on this connection or, when that has ended, on a new one */
    while (sock < 0 || !read_head(head)) {
        if (sock >= 0) close(sock);
        sock = accept(listener, NULL, NULL);
        int yes = 1;
        setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        begin = end = 0;
    }
}

static long long status_of(pid_t pid, const char *field) { /* of /proc/PID/status, in bytes */
    char path[64], text[256];
    long long kilobytes = 0;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *file = fopen(path, "r");
    while (file && fgets(text, sizeof text, file))
        if (!strncmp(text, field, strlen(field))) kilobytes = atoll(text + strlen(field) + 1);
    if (file) fclose(file);
    return kilobytes * 1024;
}

static void on_child(int number) {
    (void)number;
    static const char text[] = "bench_server: the runtime has ended\n";
    if (write(2, text, sizeof text - 1)) {}
    _exit(1);
}

static void write_list(FILE *file, const char *name, const long long *values, int count, const char *behind) {
    fprintf(file, "\"%s\": [", name);
    for (int i = 0; i < count; i++) fprintf(file, i ? ", %lld" : "%lld", values[i]);
    fprintf(file, "]%s", behind);
}

static int serve(const char *seen_file, int count, const char *event_file, char **command) {
    static long long turns[MOST], cpu[MOST], resident[MOST / 1000 + 2];
    long long first_next, first_answer = 0, answer_cpu = 0;
    int resident_count = 0;
    size_t answer_size = 0;

    FILE *file = fopen(event_file, "rb");
    if (!file || count < 1 || count > MOST) fail("no such event file, or a count out of range");
    fseek(file, 0, SEEK_END);
    size_t size = ftell(file);
    rewind(file);
    char *event = malloc(size + 1);
    if (!event || fread(event, 1, size, file) != size) fail("the event cannot be read");
    fclose(file);

    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t address_size = sizeof address;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 16)) fail("cannot listen");
    getsockname(listener, (struct sockaddr *)&address, &address_size);
    char text[1024];
    snprintf(text, sizeof text, "127.0.0.1:%d", ntohs(address.sin_port));
    setenv("AWS_LAMBDA_RUNTIME_API", text, 1);

    signal(SIGCHLD, on_child);
    alarm(TOO_LONG);
    long long start = now(CLOCK_MONOTONIC);
    pid_t child = fork();
    if (!child) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execvp(command[0], command);
        _exit(127);
    }
    clockid_t clock;
    if (child < 0 || clock_getcpuclockid(child, &clock)) fail("cannot start or time the command");

    struct head head;
    next_request(&head);
    first_next = arrived - start;
    for (int i = 0; i < count; i++) {
        struct timespec time;
        clock_gettime(CLOCK_REALTIME, &time);
        int head_size = snprintf(text, sizeof text,
            "HTTP/1.1 200 OK\r\n"
            "Content-Type: application/json\r\n"
            "Lambda-Runtime-Aws-Request-Id: 8476a536-e9f4-11e8-9739-%012d\r\n"
            "Lambda-Runtime-Deadline-Ms: %lld\r\n"
            "Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:eu-central-1:123456789012:function:example\r\n"
            "Lambda-Runtime-Trace-Id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1\r\n"
            "Date: Mon, 23 Nov 2026 04:38:59 GMT\r\n"
            "Content-Length: %zu\r\n\r\n",
            i, time.tv_sec * 1000LL + 60000, size);
        long long cpu_before = now(clock), sent = now(CLOCK_MONOTONIC);
        send_all(text, head_size, event, size);

        next_request(&head);
        if (!head.answer) fail("GET next without an answer to the event before");
        if (head.chunked) answer_size = skip_chunks();
        else skip(answer_size = head.length);
        if (!i) first_answer = arrived - start, answer_cpu = now(clock);
        static const char accepted[] = "HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\n"
                                       "Date: Mon, 23 Nov 2026 04:38:59 GMT\r\nContent-Length: 16\r\n\r\n"
                                       "{\"status\":\"OK\"}\n";
        send_all(accepted, sizeof accepted - 1, "", 0);

        next_request(&head);
        turns[i] = arrived - sent;
        cpu[i] = now(clock) - cpu_before;
        if (!i || i % 1000 == 999) resident[resident_count++] = status_of(child, "VmRSS");
    }
    long long peak = status_of(child, "VmHWM");
    signal(SIGCHLD, SIG_DFL);
    kill(child, SIGKILL);

    file = fopen(seen_file, "w");
    if (!file) fail("cannot write what was seen");
    fprintf(file, "{\"next\": %lld, \"answer\": %lld, \"answer_cpu\": %lld, ", first_next, first_answer, answer_cpu);
    fprintf(file, "\"size\": %zu, \"peak\": %lld, ", answer_size, peak);
    write_list(file, "resident", resident, resident_count, ", ");
    write_list(file, "turns", turns, count, ", ");
    write_list(file, "cpu", cpu, count, ", ");
    write_list(file, "lags", lags, lag_count, "}\n");
    if (fclose(file)) fail("cannot write what was seen");
    return 0;
}

/* ── The smallest runtime: any event is its own answer ────────────────────────────────────────────────────────── */

static int client(void) {
    const char *api = getenv("AWS_LAMBDA_RUNTIME_API");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons(api && strchr(api, ':') ? atoi(strchr(api, ':') + 1) : 0);
    sock = socket(AF_INET, SOCK_STREAM, 0);
    int yes = 1;
    setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (connect(sock, (struct sockaddr *)&address, sizeof address)) fail("cannot connect");

    static char body[8 << 20];
    char text[1024];
    struct head head;
    for (;;) {
        int size = snprintf(text, sizeof text,
            "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: %s\r\n\r\n", api);
        send_all(text, size, "", 0);
        if (!read_head(&head) || head.length > sizeof body) return 1;
        for (size_t have = 0; have < head.length;) {
            if (begin == end && !fill()) return 1;
            size_t part = end - begin < head.length - have ? end - begin : head.length - have;
            memcpy(body + have, buffer + begin, part);
            begin += part, have += part;
        }
        size = snprintf(text, sizeof text,
            "POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: %s\r\n"
            "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
            head.request_id, api, head.length);
        send_all(text, size, body, head.length);
        if (!read_head(&head)) return 1;
        skip(head.length);
    }
}

int main(int count, char **words) {
    if (count == 2 && !strcmp(words[1], "client")) return client();
    if (count < 5) fail("see bench.py");
    return serve(words[1], atoi(words[2]), words[3], words + 4);
}

// A path between two loopback sockets: delays every datagram, loses some by chance, and drops what is too large.
//
//   relay TARGET_PORT DELAY_US LOSS_PPM DATAGRAM_BYTES_MAX SEED
//
// Stands before 127.0.0.1:TARGET_PORT for one dialer at a time, on a port that it prints. DELAY_US is one way. Each way has
// its own chance, so equal seeds lose the same places of two equal conversations. When standard input ends, it prints
// how many datagrams came each way and exits. One thread, many datagrams a system call: it must not be the narrow place.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, SLOTS = 8192, BYTES_MAX = 9216, BUFFER_BYTES = 8 << 20 };

struct datagram {
    int64_t due_ns;
    unsigned length;
    unsigned char bytes[BYTES_MAX];
};

struct way {
    int from, to;
    struct datagram *slots;  // a ring: the delay is the same for all, so nothing overtakes
    unsigned head, count;
    uint64_t chance;
    unsigned long seen, lost;
};

static struct sockaddr_in dialer;  // whoever spoke last

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static uint64_t next_chance(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int bound_socket(void) {
    int made = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), bytes = BUFFER_BYTES;
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (made < 0 || bind(made, (struct sockaddr *)&here, sizeof here)) fail("socket");
    setsockopt(made, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    setsockopt(made, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    return made;
}

// Take what has come; what is not lost waits for its time.
static void take(struct way *way, int is_front, int64_t delay_ns, unsigned loss_ppm, unsigned bytes_max) {
    static unsigned char buffers[BATCH][BYTES_MAX];
    struct iovec pieces[BATCH];
    struct sockaddr_in senders[BATCH];
    struct mmsghdr heads[BATCH];
    memset(heads, 0, sizeof heads);
    for (int i = 0; i < BATCH; i++) {
        pieces[i] = (struct iovec){buffers[i], BYTES_MAX};
        heads[i].msg_hdr.msg_iov = &pieces[i];
        heads[i].msg_hdr.msg_iovlen = 1;
        heads[i].msg_hdr.msg_name = is_front ? &senders[i] : NULL;
        heads[i].msg_hdr.msg_namelen = is_front ? sizeof senders[i] : 0;
    }
    int count = recvmmsg(way->from, heads, BATCH, MSG_DONTWAIT, NULL);
    int64_t due = now_ns() + delay_ns;
    for (int i = 0; i < count; i++) {
        if (is_front) dialer = senders[i];
        way->seen++;
        int dropped = next_chance(&way->chance) % 1000000 < loss_ppm;
        if (dropped || heads[i].msg_len > bytes_max || way->count == SLOTS) {
            way->lost++;
            continue;
        }
        struct datagram *slot = &way->slots[(way->head + way->count++) % SLOTS];
        slot->due_ns = due;
        slot->length = heads[i].msg_len;
        memcpy(slot->bytes, buffers[i], heads[i].msg_len);
    }
}

// Send what is due; a full socket is asked again a little later.
static void pass_on(struct way *way, int to_dialer) {
    struct iovec pieces[BATCH];
    struct mmsghdr heads[BATCH];
    int64_t now = now_ns();
    while (way->count && way->slots[way->head].due_ns <= now) {
        unsigned count = 0;
        memset(heads, 0, sizeof heads);
        while (count < BATCH && count < way->count) {
            struct datagram *slot = &way->slots[(way->head + count) % SLOTS];
            if (slot->due_ns > now) break;
            pieces[count] = (struct iovec){slot->bytes, slot->length};
            heads[count].msg_hdr.msg_iov = &pieces[count];
            heads[count].msg_hdr.msg_iovlen = 1;
            heads[count].msg_hdr.msg_name = to_dialer ? &dialer : NULL;
            heads[count].msg_hdr.msg_namelen = to_dialer ? sizeof dialer : 0;
            count++;
        }
        int sent = sendmmsg(way->to, heads, count, MSG_DONTWAIT);
        if (sent <= 0) {
            if (errno == EAGAIN || errno == ENOBUFS) return;
            sent = 1;  // nobody listens there: lost, as on any path
        }
        way->head = (way->head + sent) % SLOTS;
        way->count -= sent;
    }
}

static int64_t first_due(const struct way *ways) {
    int64_t due = INT64_MAX;
    for (int i = 0; i < 2; i++)
        if (ways[i].count && ways[i].slots[ways[i].head].due_ns < due) due = ways[i].slots[ways[i].head].due_ns;
    return due;
}

int main(int count, char **words) {
    if (count != 6) {
        fprintf(stderr, "usage: relay TARGET_PORT DELAY_US LOSS_PPM DATAGRAM_BYTES_MAX SEED\n");
        return 2;
    }
    int64_t delay_ns = atoll(words[2]) * 1000;
    unsigned loss_ppm = atoi(words[3]), bytes_max = atoi(words[4]);
    uint64_t seed = strtoull(words[5], NULL, 10);
    int front = bound_socket(), back = bound_socket();
    struct sockaddr_in target = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, here;
    socklen_t size = sizeof here;
    target.sin_port = htons(atoi(words[1]));
    if (connect(back, (struct sockaddr *)&target, sizeof target)) fail("connect");
    if (getsockname(front, (struct sockaddr *)&here, &size)) fail("getsockname");
    struct way ways[2] = {{.from = front, .to = back}, {.from = back, .to = front}};
    for (int i = 0; i < 2; i++) {
        ways[i].slots = calloc(SLOTS, sizeof *ways[i].slots);
        if (!ways[i].slots) fail("calloc");
        ways[i].chance = 88172645463325252ULL ^ (seed * 7919 + i);
        for (int turn = 0; turn < 16; turn++) next_chance(&ways[i].chance);
    }
    prctl(PR_SET_TIMERSLACK, 1);
    printf("{\"port\": %d}\n", ntohs(here.sin_port));
    fflush(stdout);
    struct pollfd watched[] = {{front, POLLIN, 0}, {back, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    while (!(watched[2].revents & (POLLIN | POLLHUP))) {
        int64_t due = first_due(ways), left = due == INT64_MAX ? 1000000000 : due - now_ns();
        struct timespec wait = {left > 0 ? left / 1000000000 : 0, left > 0 ? left % 1000000000 : 0};
        ppoll(watched, 3, &wait, NULL);
        for (int i = 0; i < 2; i++) {
            if (watched[i].revents) take(&ways[i], i == 0, delay_ns, loss_ppm, bytes_max);
            pass_on(&ways[i], i == 1);
        }
    }
    printf("{\"to_target\": %lu, \"to_dialer\": %lu, \"lost\": %lu}\n", ways[0].seen, ways[1].seen,
           ways[0].lost + ways[1].lost);
    return 0;
}

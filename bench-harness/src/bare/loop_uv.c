// libuv as its own documentation would have it: one stream handle a connection, an answer tried at once, what the socket
// did not take in a write request, and no reading until it is through.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

// As the other engines read. One buffer for all: it is lent for a callback, and answers go out or are copied there.
#define READ_BUFFER (64 * 1024)
#define REQUEST_BYTES 8

enum job { JOB_ECHO, JOB_PUMP, JOB_FAN_OUT };

struct conn {
    uv_tcp_t handle;
    // Write requests under way. Nothing is read meanwhile, but for a fan-out, whose answers are others'.
    size_t writing;
    // What was received of a request.
    unsigned char partial[REQUEST_BYTES];
    size_t held;
    struct conn *next, *previous;
};

// What a socket did not take, copied unless it is a piece of the pattern, which stays.
struct rest {
    uv_write_t request;
    uv_buf_t slice;
    char bytes[];
};

// Is called at each allocation, where they are counted.
static void (*allocated)(void);

static void *allocate(size_t bytes) {
    if (allocated != NULL) allocated();
    return malloc(bytes);
}

static void *allocate_zeroed(size_t count, size_t bytes) {
    if (allocated != NULL) allocated();
    return calloc(count, bytes);
}

static void *allocate_more(void *at, size_t bytes) {
    if (allocated != NULL) allocated();
    return realloc(at, bytes);
}

// Calls `callback` at each allocation of libuv and of this file from here on. It is to be the first call of libuv.
int kraft_bench_uv_count(void (*callback)(void)) {
    allocated = callback;
    return uv_replace_allocator(allocate, allocate_more, allocate_zeroed, free);
}

static char buffer[READ_BUFFER];
static enum job job;
static const char *pattern;
static size_t pattern_bytes;
static struct conn *conns;

static void on_close(uv_handle_t *handle) {
    struct conn *conn = (struct conn *)handle;
    if (conn->previous != NULL) conn->previous->next = conn->next;
    if (conn->next != NULL) conn->next->previous = conn->previous;
    if (conns == conn) conns = conn->next;
    free(conn);
}

static void end(struct conn *conn) {
    if (!uv_is_closing((uv_handle_t *)conn)) uv_close((uv_handle_t *)conn, on_close);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out) {
    (void)handle;
    (void)suggested;
    *out = uv_buf_init(buffer, READ_BUFFER);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *read);

static void on_written(uv_write_t *request, int status) {
    struct conn *conn = (struct conn *)request->handle;
    free(request);
    conn->writing--;
    if (uv_is_closing((uv_handle_t *)conn)) return;
    if (status < 0)
        end(conn);
    else if (conn->writing == 0 && job != JOB_FAN_OUT)
        uv_read_start((uv_stream_t *)conn, on_alloc, on_read);
}

static void put(struct conn *conn, const char *bytes, size_t count, int stays) {
    if (uv_is_closing((uv_handle_t *)conn)) return;
    uv_stream_t *stream = (uv_stream_t *)&conn->handle;
    uv_buf_t slice = uv_buf_init((char *)bytes, (unsigned)count);
    // With a write under way it answers EAGAIN.
    int sent = uv_try_write(stream, &slice, 1);
    if (sent >= 0 && (size_t)sent == count) return;
    if (sent < 0 && sent != UV_EAGAIN) {
        end(conn);
        return;
    }
    if (sent < 0) sent = 0;
    size_t left = count - (size_t)sent;
    struct rest *rest = allocate(sizeof *rest + (stays ? 0 : left));
    if (rest == NULL) abort();
    if (!stays) memcpy(rest->bytes, bytes + sent, left);
    rest->slice = uv_buf_init(stays ? (char *)bytes + sent : rest->bytes, (unsigned)left);
    if (job != JOB_FAN_OUT) uv_read_stop(stream);
    if (uv_write(&rest->request, stream, &rest->slice, 1, on_written) < 0) {
        free(rest);
        end(conn);
        return;
    }
    conn->writing++;
}

static uint32_t number(const unsigned char *bytes) {
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static void reply(struct conn *conn, const char *bytes, size_t count) {
    while (count > 0) {
        conn->partial[conn->held++] = (unsigned char)*bytes++;
        count--;
        if (conn->held < REQUEST_BYTES) continue;
        conn->held = 0;
        size_t from = number(conn->partial), length = number(conn->partial + 4);
        // A request names a piece of the pattern, or the load is at fault.
        if (from > pattern_bytes || length > pattern_bytes - from) abort();
        put(conn, pattern + from, length, 1);
    }
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *read) {
    struct conn *conn = (struct conn *)stream;
    if (count == 0) return;
    if (count < 0) {
        end(conn);
        return;
    }
    switch (job) {
    case JOB_ECHO:
        put(conn, read->base, (size_t)count, 0);
        break;
    case JOB_PUMP:
        reply(conn, read->base, (size_t)count);
        break;
    case JOB_FAN_OUT:
        for (struct conn *other = conns; other != NULL; other = other->next)
            if (other != conn) put(other, read->base, (size_t)count, 0);
        break;
    }
}

static void on_connection(uv_stream_t *listener, int status) {
    if (status < 0) return;
    struct conn *conn = allocate_zeroed(1, sizeof *conn);
    if (conn == NULL) abort();
    uv_tcp_init(listener->loop, &conn->handle);
    conn->next = conns;
    if (conns != NULL) conns->previous = conn;
    conns = conn;
    if (uv_accept(listener, (uv_stream_t *)conn) < 0) {
        end(conn);
        return;
    }
    uv_tcp_nodelay(&conn->handle, 1);
    uv_read_start((uv_stream_t *)conn, on_alloc, on_read);
}

// Serves the listening socket `fd` on this thread, for ever. Returns an error number of libuv if it cannot. The pattern
// stays for the life of the process.
int kraft_bench_uv_serve(int fd, int backlog, int what, const char *bytes, size_t count) {
    uv_loop_t loop;
    uv_tcp_t listener;
    job = (enum job)what;
    pattern = bytes;
    pattern_bytes = count;
    int outcome = uv_loop_init(&loop);
    if (outcome < 0) return outcome;
    if ((outcome = uv_tcp_init(&loop, &listener)) < 0) return outcome;
    if ((outcome = uv_tcp_open(&listener, fd)) < 0) return outcome;
    if ((outcome = uv_listen((uv_stream_t *)&listener, backlog, on_connection)) < 0) return outcome;
    return uv_run(&loop, UV_RUN_DEFAULT);
}

// Wakes. There is one loop of this kind in a process.
static uv_loop_t wake_loop;
static uv_async_t bell;
static void (*heard)(void *);
static void *heard_data;

static void on_bell(uv_async_t *handle) {
    (void)handle;
    heard(heard_data);
}

// Makes the loop; `callback` is called by it with `data` whenever it was woken.
int kraft_bench_uv_wake_open(void (*callback)(void *), void *data) {
    heard = callback;
    heard_data = data;
    int outcome = uv_loop_init(&wake_loop);
    return outcome < 0 ? outcome : uv_async_init(&wake_loop, &bell, on_bell);
}

// From any thread.
void kraft_bench_uv_wake(void) { uv_async_send(&bell); }

int kraft_bench_uv_wake_run(void) { return uv_run(&wake_loop, UV_RUN_DEFAULT); }

// Timers.
struct timers {
    uv_loop_t loop;
    size_t expired;
    uv_timer_t timers[];
};

static void on_timer(uv_timer_t *timer) { ((struct timers *)timer->data)->expired++; }

// A loop with so many timers that do not run. NULL if there is no memory.
struct timers *kraft_bench_uv_timers_open(size_t count) {
    struct timers *all = allocate_zeroed(1, sizeof *all + count * sizeof all->timers[0]);
    if (all == NULL || uv_loop_init(&all->loop) < 0) return NULL;
    for (size_t at = 0; at < count; at++) {
        uv_timer_init(&all->loop, &all->timers[at]);
        all->timers[at].data = all;
    }
    return all;
}

void kraft_bench_uv_timers_start(struct timers *all, size_t at, uint64_t after_ms) {
    uv_timer_start(&all->timers[at], on_timer, after_ms, 0);
}

void kraft_bench_uv_timers_stop(struct timers *all, size_t at) { uv_timer_stop(&all->timers[at]); }

// Runs the loop until no timer runs, and returns how many expired.
size_t kraft_bench_uv_timers_run(struct timers *all) {
    all->expired = 0;
    uv_run(&all->loop, UV_RUN_DEFAULT);
    return all->expired;
}

// The loop's clock stands while nothing runs it.
void kraft_bench_uv_timers_update(struct timers *all) { uv_update_time(&all->loop); }

// Echo over libuv, as its own documentation would have it: one stream handle a connection, an answer tried at once,
// what the socket did not take in a write request, and no reading until it is through.

#include <stdlib.h>
#include <string.h>
#include <uv.h>

// As the other engines read. One buffer for all: it is lent for a callback, and answers go out or are copied there.
#define READ_BUFFER (64 * 1024)

static char buffer[READ_BUFFER];

struct rest {
    uv_write_t request;
    uv_buf_t slice;
    char bytes[];
};

static void on_close(uv_handle_t *handle) { free(handle); }

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out) {
    (void)handle;
    (void)suggested;
    *out = uv_buf_init(buffer, READ_BUFFER);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *read);

static void on_written(uv_write_t *request, int status) {
    uv_stream_t *stream = request->handle;
    free(request);
    if (uv_is_closing((uv_handle_t *)stream)) return;
    if (status < 0)
        uv_close((uv_handle_t *)stream, on_close);
    else
        uv_read_start(stream, on_alloc, on_read);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *read) {
    if (count == 0) return;
    if (count < 0) {
        uv_close((uv_handle_t *)stream, on_close);
        return;
    }
    uv_buf_t slice = uv_buf_init(read->base, (unsigned)count);
    int sent = uv_try_write(stream, &slice, 1);
    if (sent == count) return;
    if (sent < 0 && sent != UV_EAGAIN) {
        uv_close((uv_handle_t *)stream, on_close);
        return;
    }
    if (sent < 0) sent = 0;
    size_t left = (size_t)(count - sent);
    struct rest *rest = malloc(sizeof *rest + left);
    if (rest == NULL) abort();
    memcpy(rest->bytes, read->base + sent, left);
    rest->slice = uv_buf_init(rest->bytes, (unsigned)left);
    uv_read_stop(stream);
    if (uv_write(&rest->request, stream, &rest->slice, 1, on_written) < 0) {
        free(rest);
        uv_close((uv_handle_t *)stream, on_close);
    }
}

static void on_connection(uv_stream_t *listener, int status) {
    if (status < 0) return;
    uv_tcp_t *conn = malloc(sizeof *conn);
    if (conn == NULL) abort();
    uv_tcp_init(listener->loop, conn);
    if (uv_accept(listener, (uv_stream_t *)conn) < 0) {
        uv_close((uv_handle_t *)conn, on_close);
        return;
    }
    uv_tcp_nodelay(conn, 1);
    uv_read_start((uv_stream_t *)conn, on_alloc, on_read);
}

// Serves the listening socket `fd` on this thread, for ever. Returns an error number of libuv if it cannot.
int kraft_bench_uv_echo(int fd, int backlog) {
    uv_loop_t loop;
    uv_tcp_t listener;
    int outcome = uv_loop_init(&loop);
    if (outcome < 0) return outcome;
    if ((outcome = uv_tcp_init(&loop, &listener)) < 0) return outcome;
    if ((outcome = uv_tcp_open(&listener, fd)) < 0) return outcome;
    if ((outcome = uv_listen((uv_stream_t *)&listener, backlog, on_connection)) < 0) return outcome;
    return uv_run(&loop, UV_RUN_DEFAULT);
}

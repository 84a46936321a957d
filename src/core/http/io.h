/*
 * io.h: one stream socket, plain or TLS. The only place of the engine that receives and sends.
 *
 * Owns the descriptor and its TLS session; decides nothing about bytes or time. Never blocks, never
 * raises SIGPIPE for plain sends (sendfile and TLS writes need SIGPIPE ignored). Called by the
 * connection engine and the client.
 */
#ifndef A67_CORE_HTTP_IO_H
#define A67_CORE_HTTP_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Results besides a byte count. */
#define A67_IO_EOF	   0	/* recv: orderly end */
#define A67_IO_ERROR   (-1) /* errno says why (EPROTO for TLS) */
#define A67_IO_WANT_RD (-2) /* try again when readable */
#define A67_IO_WANT_WR (-3) /* try again when writable */
#define A67_IO_DONE	   1	/* handshake */

struct ssl_st;

typedef struct A67Io
{
	int fd;
	struct ssl_st *ssl; /* NULL: plain */
} A67Io;

/* A67_IO_DONE at once for a plain socket. */
extern int a67_io_handshake(A67Io *io);
/* len must not be 0. more: further bytes follow at once, so a partial segment may wait. */
extern ssize_t a67_io_recv(A67Io *io, void *buf, size_t len);
extern ssize_t a67_io_send(A67Io *io, const void *buf, size_t len, bool more);
/* Plain sockets only: up to len bytes of file_fd from *offset, which moves on. 0: the file ended. */
extern ssize_t a67_io_sendfile(A67Io *io, int file_fd, uint64_t *offset, size_t len);
/* Whether recv would yield bytes that epoll does not announce. */
extern bool a67_io_has_pending(const A67Io *io);
/* Ends the sending direction. */
extern void a67_io_shutdown(A67Io *io);
/* Frees the session, closes the descriptor; fd becomes -1. Safe to repeat. */
extern void a67_io_close(A67Io *io);

#endif

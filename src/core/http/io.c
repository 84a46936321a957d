/*
 * io.c: recv, send and sendfile on one non-blocking socket; see io.h.
 *
 * EINTR is retried here, so that callers see only progress, "wait" or an error.
 */
#include "io.h"

#include "tls.h"

#include <errno.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

/* Maps a failed system call to a wait or an error. */
static ssize_t
failed(int wait)
{
	return errno == EAGAIN || errno == EWOULDBLOCK ? wait : A67_IO_ERROR;
}

int
a67_io_handshake(A67Io *io)
{
	return io->ssl != NULL ? a67_tls_handshake(io->ssl) : A67_IO_DONE;
}

ssize_t
a67_io_recv(A67Io *io, void *buf, size_t len)
{
	ssize_t n;

	if (io->ssl != NULL)
		return a67_tls_recv(io->ssl, buf, len);
	do
		n = recv(io->fd, buf, len, 0);
	while (n < 0 && errno == EINTR);
	return n >= 0 ? n : failed(A67_IO_WANT_RD);
}

ssize_t
a67_io_send(A67Io *io, const void *buf, size_t len, bool more)
{
	ssize_t n;

	if (io->ssl != NULL)
		return a67_tls_send(io->ssl, buf, len);
	do
		n = send(io->fd, buf, len, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
	while (n < 0 && errno == EINTR);
	return n >= 0 ? n : failed(A67_IO_WANT_WR);
}

ssize_t
a67_io_sendfile(A67Io *io, int file_fd, uint64_t *offset, size_t len)
{
	off_t at = (off_t) *offset;
	ssize_t n;

	do
		n = sendfile(io->fd, file_fd, &at, len);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return failed(A67_IO_WANT_WR);
	*offset = (uint64_t) at;
	return n;
}

bool
a67_io_has_pending(const A67Io *io)
{
	return io->ssl != NULL && a67_tls_has_pending(io->ssl);
}

void
a67_io_shutdown(A67Io *io)
{
	if (io->ssl != NULL)
		a67_tls_shutdown(io->ssl);
	/* Fails harmlessly when the peer is gone already. */
	(void) shutdown(io->fd, SHUT_WR);
}

void
a67_io_close(A67Io *io)
{
	if (io->ssl != NULL)
		a67_tls_free(io->ssl);
	io->ssl = NULL;
	if (io->fd >= 0)
		(void) close(io->fd);
	io->fd = -1;
}

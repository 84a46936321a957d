/*
 * peer.h: what client.c and response.c share; private to them.
 *
 * Invariants: io.fd is open while BUSY, and in DONE only when reusable. The head points into `in`,
 * whose front does not move from the end of the response head until the next request.
 */
#ifndef A67_CORE_HTTP_PEER_H
#define A67_CORE_HTTP_PEER_H

#include "../buf.h"
#include "../pace.h"
#include "chunked.h"
#include "client.h"
#include "io.h"
#include "tls.h"

#define CLIENT_OUT_BYTES  32768 /* request head */
#define CLIENT_FIRST_READ 4095
#define CLIENT_BODY_READ  65536 /* input buffer behind the head */
#define CLIENT_STEPS	  64	/* reads and writes in one call of step */
#define CLIENT_ERROR	  256

typedef enum ClientPhase
{
	PHASE_CONNECT,
	PHASE_HANDSHAKE,
	PHASE_TALK
} ClientPhase;

struct A67HttpClient
{
	A67HttpClientConfig config;
	uint8_t pin[A67_TLS_PIN_BYTES];
	A67HttpClientState state;
	ClientPhase phase;
	A67Io io;
	char host[A67_HTTP_HOST_BYTES];
	uint16_t port;
	bool https;
	bool reusable; /* the connection is kept for the next request */
	bool more;	   /* stopped by its share, not by the socket */
	bool send_broken;
	short wants; /* poll events of the handshake */
	struct addrinfo *addresses;
	const struct addrinfo *next_address;
	int attempts;
	int connect_errno;
	int64_t now;
	int64_t total_due;
	int64_t idle_due;
	/* Request. */
	A67Buf out;
	const char *upload;
	size_t unsent;
	bool head_only;
	int (*on_body)(void *arg, const char *data, size_t len);
	void *arg;
	/* Response. */
	A67Buf in;
	size_t seen;
	size_t head_len; /* 0 until the final head is whole */
	size_t taken;	 /* bytes of in consumed */
	int interim;	 /* 1xx heads so far */
	A67HttpHead head;
	A67HttpChunked chunked;
	uint64_t body_bytes;
	bool streaming;
	bool until_close; /* the end of the connection ends the body */
	A67Buf body;
	char error[CLIENT_ERROR];
};

extern void a67_client_fail(A67HttpClient *client, const char *format, ...) A67_PRINTF(2, 3);
/* The response is whole. */
extern void a67_client_done(A67HttpClient *client);

/* response.c */
extern void a67_client_expect_response(A67HttpClient *client);
/* Receives and decodes once; false when the socket has nothing. */
extern bool a67_client_receive(A67HttpClient *client);

#endif

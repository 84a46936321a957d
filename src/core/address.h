/*
 * address.h - IP addresses and networks as values, and whose word about a client's address counts.
 *
 * An address is 16 bytes of IPv6; IPv4 is ::ffff:a.b.c.d, so that the two kinds compare and hash
 * alike. Knows no socket and no name service. Used by the settings (a67.trusted_proxies), by the
 * listener, which limits, records and logs clients by address, and by the HTTP client, which guards what
 * is reached.
 */
#ifndef A67_ADDRESS_H
#define A67_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define A67_IP_BYTES	 16
#define A67_IP_TEXT_SIZE 46
#define A67_NETWORKS_MAX 64
#define A67_HOPS_MAX	 32 /* proxies in a row that are followed */

typedef struct A67Ip
{
	uint8_t bytes[A67_IP_BYTES];
} A67Ip;

/* Addresses whose first `bits` bits are those; for IPv4 96 bits are those of ::ffff:0:0. */
typedef struct A67Network
{
	A67Ip ip;
	uint8_t bits;
} A67Network;

typedef struct A67Networks
{
	int count;
	A67Network of[A67_NETWORKS_MAX];
} A67Networks;

/* An IPv4 address of 4 bytes in network order. */
A67Ip a67_ip_of_v4(const void *bytes);

/* Reads a numeric address without brackets, port or zone. */
bool a67_ip_parse(const char *text, size_t len, A67Ip *ip);

/* Writes it in its shortest form; IPv4 with dots. */
void a67_ip_text(const A67Ip *ip, char text[A67_IP_TEXT_SIZE]);

/* 127.0.0.0/8 or ::1. */
bool a67_ip_is_loopback(const A67Ip *ip);

/* The same of the host of a URL: an address, in brackets or not, or "localhost". */
bool a67_host_is_loopback(const char *host, size_t len);

/*
 * Whether the address is reachable all over the Internet: none that IANA lists as loopback, private,
 * link-local, shared, reserved, documentation or multicast. An IPv4 address behind NAT64 counts as itself.
 */
bool a67_ip_is_public(const A67Ip *ip);

/* What one customer of a network usually has: the IPv4 address itself, or the /64 of IPv6. */
A67Ip a67_ip_site(const A67Ip *ip);

/* Reads "10.0.0.0/8, ::1": "" is no network. False with a full sentence in err. */
bool a67_networks_parse(const char *text, A67Networks *networks, char *err, size_t err_size);

bool a67_networks_contain(const A67Networks *networks, const A67Ip *ip);

/*
 * Follows one X-Forwarded-For value from its right end: as long as *ip is a trusted proxy, it is
 * replaced by whom that proxy names. *hops counts them. Returns whether an earlier value (one further
 * up in the request) is to be followed too. A hop that is not an address ends the walk: the proxy
 * that named it counts as the client.
 */
bool a67_ip_forwarded(const A67Networks *trusted, const char *value, size_t len, A67Ip *ip,
					  int *hops);

#endif /* A67_ADDRESS_H */

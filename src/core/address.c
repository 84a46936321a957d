/*
 * address.c - reading, comparing and masking addresses; see address.h.
 *
 * Texts are read by inet_pton, so exactly the forms of the system are accepted.
 */
#include "address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const uint8_t v4_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static bool
is_v4(const A67Ip *ip)
{
	return memcmp(ip->bytes, v4_prefix, sizeof(v4_prefix)) == 0;
}

A67Ip
a67_ip_of_v4(const void *bytes)
{
	A67Ip ip;

	memcpy(ip.bytes, v4_prefix, sizeof(v4_prefix));
	memcpy(ip.bytes + sizeof(v4_prefix), bytes, 4);
	return ip;
}

bool
a67_ip_parse(const char *text, size_t len, A67Ip *ip)
{
	char copy[A67_IP_TEXT_SIZE];

	if (len == 0 || len >= sizeof(copy) || memchr(text, '\0', len) != NULL)
		return false;
	memcpy(copy, text, len);
	copy[len] = '\0';
	memcpy(ip->bytes, v4_prefix, sizeof(v4_prefix));
	return inet_pton(AF_INET, copy, ip->bytes + sizeof(v4_prefix)) == 1 ||
		   inet_pton(AF_INET6, copy, ip->bytes) == 1;
}

/* By hand, because it is done for each request: inet_ntop takes ten times as long. */
static void
v4_text(const uint8_t bytes[4], char *text)
{
	for (int i = 0; i < 4; i++)
	{
		if (i > 0)
			*text++ = '.';
		if (bytes[i] >= 100)
			*text++ = (char) ('0' + bytes[i] / 100);
		if (bytes[i] >= 10)
			*text++ = (char) ('0' + bytes[i] / 10 % 10);
		*text++ = (char) ('0' + bytes[i] % 10);
	}
	*text = '\0';
}

void
a67_ip_text(const A67Ip *ip, char text[A67_IP_TEXT_SIZE])
{
	if (is_v4(ip))
		v4_text(ip->bytes + sizeof(v4_prefix), text);
	else if (inet_ntop(AF_INET6, ip->bytes, text, A67_IP_TEXT_SIZE) == NULL)
		text[0] = '\0';
}

bool
a67_ip_is_loopback(const A67Ip *ip)
{
	static const A67Ip six = {.bytes = {[15] = 1}};

	if (is_v4(ip))
		return ip->bytes[sizeof(v4_prefix)] == 127;
	return memcmp(ip, &six, sizeof(six)) == 0;
}

bool
a67_host_is_loopback(const char *host, size_t len)
{
	static const char name[] = "localhost";
	A67Ip ip;

	if (len >= 2 && host[0] == '[' && host[len - 1] == ']')
		return a67_ip_parse(host + 1, len - 2, &ip) && a67_ip_is_loopback(&ip);
	if (a67_ip_parse(host, len, &ip))
		return a67_ip_is_loopback(&ip);
	return len == sizeof(name) - 1 && strncasecmp(host, name, len) == 0;
}

A67Ip
a67_ip_site(const A67Ip *ip)
{
	A67Ip site = *ip;

	if (!is_v4(ip))
		memset(site.bytes + 8, 0, 8);
	return site;
}

/* ---- networks ---- */

static bool
same_bits(const A67Ip *a, const A67Ip *b, unsigned bits)
{
	unsigned whole = bits / 8;
	unsigned mask = 0xff00u >> (bits % 8);

	return memcmp(a->bytes, b->bytes, whole) == 0 &&
		   (bits % 8 == 0 || ((a->bytes[whole] ^ b->bytes[whole]) & mask & 0xff) == 0);
}

/* One "address" or "address/bits". */
static bool
parse_network(const char *text, size_t len, A67Network *network)
{
	const char *slash = memchr(text, '/', len);
	size_t ip_len = slash != NULL ? (size_t) (slash - text) : len;
	unsigned most = 128;
	unsigned bits = 0;

	if (!a67_ip_parse(text, ip_len, &network->ip))
		return false;
	if (memchr(text, ':', ip_len) == NULL)
		most = 32;
	network->bits = 128;
	if (slash == NULL)
		return true;
	len -= ip_len + 1;
	if (len < 1 || len > 3)
		return false;
	for (size_t i = 0; i < len; i++)
	{
		if (slash[1 + i] < '0' || slash[1 + i] > '9')
			return false;
		bits = bits * 10 + (unsigned) (slash[1 + i] - '0');
	}
	network->bits = (uint8_t) (128 - most + bits);
	return bits <= most;
}

/* Moves *at over spaces and commas to the next entry; its length, 0 at the end. */
static size_t
next_entry(const char **at)
{
	*at += strspn(*at, ", \t\r\n");
	return strcspn(*at, ", \t\r\n");
}

bool
a67_networks_parse(const char *text, A67Networks *networks, char *err, size_t err_size)
{
	size_t len;

	memset(networks, 0, sizeof(*networks));
	for (; (len = next_entry(&text)) > 0; text += len)
	{
		if (networks->count == A67_NETWORKS_MAX)
		{
			(void) snprintf(err, err_size, "There are more than %d networks.", A67_NETWORKS_MAX);
			return false;
		}
		if (!parse_network(text, len, &networks->of[networks->count]))
		{
			(void) snprintf(err, err_size, "\"%.*s\" is not an IP address or network.",
							len > 64 ? 64 : (int) len, text);
			return false;
		}
		networks->count++;
	}
	return true;
}

bool
a67_networks_contain(const A67Networks *networks, const A67Ip *ip)
{
	for (int i = 0; i < networks->count; i++)
		if (same_bits(&networks->of[i].ip, ip, networks->of[i].bits))
			return true;
	return false;
}

/* ---- public ---- */

/* IANA's special-purpose registries: what is not globally reachable, plus multicast. */
static const A67Network special_v4[] = {
	{{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0}}, 96 + 8},
	{{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10}}, 96 + 8},
	{{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 100, 64}}, 96 + 10},
	{{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127}}, 96 + 8},
	{{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 169, 254}}, 96 + 16},
	{{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 172, 16}}, 96 + 12},
	{{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 0}}, 96 + 24},
	{{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2}}, 96 + 24},
	{{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 88, 99}}, 96 + 24},
	{{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168}}, 96 + 16},
	{{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 18}}, 96 + 15},
	{{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 51, 100}}, 96 + 24},
	{{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 203, 0, 113}}, 96 + 24},
	{{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 224}}, 96 + 4},
	{{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 240}}, 96 + 4},
};

/* Within 2000::/3, outside of which nothing is global: Teredo and the like, documentation, 6to4. */
static const A67Network special_v6[] = {
	{{{0x20, 0x01}}, 23},
	{{{0x20, 0x01, 0x0d, 0xb8}}, 32},
	{{{0x20, 0x02}}, 16},
	{{{0x3f, 0xff}}, 20},
};

static bool
is_within(const A67Network *networks, size_t count, const A67Ip *ip)
{
	for (size_t i = 0; i < count; i++)
	{
		if (same_bits(&networks[i].ip, ip, networks[i].bits))
			return true;
	}
	return false;
}

bool
a67_ip_is_public(const A67Ip *ip)
{
	static const A67Network global_v6 = {{{0x20}}, 3};
	static const A67Network nat64 = {{{0, 0x64, 0xff, 0x9b}}, 96};
	A67Ip v4 = *ip;

	if (same_bits(&nat64.ip, ip, nat64.bits))
		v4 = a67_ip_of_v4(ip->bytes + sizeof(v4_prefix));
	if (is_v4(&v4))
		return !is_within(special_v4, sizeof(special_v4) / sizeof(special_v4[0]), &v4);
	return same_bits(&global_v6.ip, ip, global_v6.bits) &&
		   !is_within(special_v6, sizeof(special_v6) / sizeof(special_v6[0]), ip);
}

/* ---- forwarded ---- */

/* Reads a hop: an address, perhaps in brackets, perhaps with a port. */
static bool
parse_hop(const char *text, size_t len, A67Ip *ip)
{
	const char *colon = memchr(text, ':', len);
	const char *bracket;

	if (len > 0 && text[0] == '[')
	{
		bracket = memchr(text, ']', len);
		return bracket != NULL && a67_ip_parse(text + 1, (size_t) (bracket - text - 1), ip);
	}
	/* One colon is a port; more are IPv6. */
	if (colon != NULL && memchr(colon + 1, ':', len - (size_t) (colon + 1 - text)) == NULL)
		len = (size_t) (colon - text);
	return a67_ip_parse(text, len, ip);
}

bool
a67_ip_forwarded(const A67Networks *trusted, const char *value, size_t len, A67Ip *ip, int *hops)
{
	const char *end = value + len;
	A67Ip next;

	while (a67_networks_contain(trusted, ip))
	{
		const char *at;

		while (end > value && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == ','))
			end--;
		if (end == value)
			return true;
		at = end;
		while (at > value && at[-1] != ',' && at[-1] != ' ' && at[-1] != '\t')
			at--;
		if (++*hops > A67_HOPS_MAX || !parse_hop(at, (size_t) (end - at), &next))
			return false;
		*ip = next;
		end = at;
	}
	return false;
}

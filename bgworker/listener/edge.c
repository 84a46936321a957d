/*
 * edge.c: addresses, limits and origins of requests; see edge.h.
 *
 * Health is not limited: it costs nothing, and a balancer that is told "too many" would take the server
 * for dead. Heartbeats from this machine are not counted by address, because a whole fleet of test nodes
 * has one; each is still counted by node. What an anonymous client does counts by address alone.
 */
#include "postgres.h"

#include "listener/edge.h"

#include "core/address.h"
#include "core/encode.h"
#include "core/http/cors.h"
#include "platform/clock.h"
#include "platform/settings.h"
#include "registry/rate.h"

#define FORWARDED "X-Forwarded-For"

const A67Refusal a67_edge_too_many = {.status = 429, .message = "too many requests"};

static const A67RateClass rate_classes[A67_CLASSES] = {
	[A67_CLASS_HEALTH] = A67_RATE_NONE,			[A67_CLASS_AUTH] = A67_RATE_AUTH,
	[A67_CLASS_READ] = A67_RATE_READ,			[A67_CLASS_WRITE] = A67_RATE_WRITE,
	[A67_CLASS_HEARTBEAT] = A67_RATE_HEARTBEAT, [A67_CLASS_BULK] = A67_RATE_BULK,
	[A67_CLASS_QUERY] = A67_RATE_WRITE,
};

/* ---- address ----------------------------------------------------------------------------------- */

/* Follows X-Forwarded-For from the peer back to the last address that a trusted proxy vouches for. */
static void
follow_proxies(const A67HttpHead *head, A67Ip *ip)
{
	int hops = 0;

	for (size_t i = head->nheaders; i > 0; i--)
	{
		const A67HttpHeader *header = &head->headers[i - 1];

		if (a67_http_str_is_nocase(header->name, FORWARDED) &&
			!a67_ip_forwarded(a67_trusted_networks, header->value.at, header->value.len, ip, &hops))
			return;
	}
}

/* The client's address, which also goes to the visit as text; false when it has none. */
static bool
find_address(A67Visit *visit, A67Ip *ip)
{
	const A67Ip *peer = a67_http_conn_peer(visit->conn);

	visit->address[0] = '\0';
	if (peer == NULL)
		return false;
	*ip = *peer;
	if (a67_networks_contain(a67_trusted_networks, ip))
		follow_proxies(visit->head, ip);
	a67_ip_text(ip, visit->address);
	return true;
}

/* ---- limits ------------------------------------------------------------------------------------ */

static long long
whole_seconds(int64 ms)
{
	return (long long) ((ms + 999) / 1000);
}

/* Has the answer to the request say how far its sender is from the limit. */
static void
tell(A67HttpConn *conn, const A67RateAnswer *rate)
{
	char limit[16];
	char remaining[16];
	char reset[24];
	char retry[24];
	A67HttpField fields[] = {
		{"RateLimit-Limit", limit},
		{"RateLimit-Remaining", remaining},
		{"RateLimit-Reset", reset},
		{rate->allowed ? NULL : "Retry-After", retry},
		{NULL, NULL},
	};

	if (rate->limit == 0)
		return;
	snprintf(limit, sizeof(limit), "%u", rate->limit);
	snprintf(remaining, sizeof(remaining), "%u", rate->remaining);
	snprintf(reset, sizeof(reset), "%lld", whole_seconds(rate->reset_ms));
	snprintf(retry, sizeof(retry), "%lld", whole_seconds(rate->retry_ms));
	(void) a67_http_respond_also(conn, fields);
}

/* Counts by address; the answer tells of it when nothing else will be counted, or it is refused. */
static bool
count_address(A67HttpConn *conn, A67RateClass class, const A67Ip *ip, bool last)
{
	A67Ip site = a67_ip_site(ip);
	A67RateAnswer rate;

	a67_rate_count(class, site.bytes, a67_now_ms(), &rate);
	if (last || !rate.allowed)
		tell(conn, &rate);
	return rate.allowed;
}

bool
a67_edge_arrive(A67Visit *visit)
{
	const A67RouteMatch *match = &visit->match;
	A67RateClass rate = match->route != NULL ? rate_classes[match->class] : A67_RATE_ADDRESS;
	bool last;
	A67Cors cors;
	A67Ip ip;

	a67_cors_fields(a67_cors_origins, visit->head, match->allow, &cors);
	if (cors.fields[0].name != NULL)
		(void) a67_http_respond_also(visit->conn, cors.fields);
	if (!find_address(visit, &ip) || rate == A67_RATE_NONE ||
		(rate == A67_RATE_HEARTBEAT && a67_ip_is_loopback(&ip)))
		return true;
	last = rate == A67_RATE_ADDRESS ||
		   (rate != A67_RATE_AUTH && a67_http_header(visit->head, "Authorization") == NULL);
	return count_address(visit->conn, A67_RATE_ADDRESS, &ip, last);
}

bool
a67_edge_limit_beat(A67HttpConn *conn, const uint8 node_id[16])
{
	A67RateAnswer rate;

	a67_rate_count(A67_RATE_HEARTBEAT, node_id, a67_now_ms(), &rate);
	/* Nobody reads it on the many heartbeats that are taken. */
	if (!rate.allowed)
		tell(conn, &rate);
	return rate.allowed;
}

bool
a67_edge_limit(A67HttpConn *conn, A67RouteClass class, const char *address,
			   const A67JwtClaims *claims)
{
	uint8 owner[A67_CLIENT_BYTES] = {0};
	A67RateAnswer rate;
	A67Ip ip;

	if (rate_classes[class] == A67_RATE_AUTH)
		return !a67_ip_parse(address, strlen(address), &ip) ||
			   count_address(conn, A67_RATE_AUTH, &ip, true);
	if (claims == NULL)
		return true;
	if (!a67_uuid_from_text(claims->sub, strlen(claims->sub), owner))
		memcpy(owner, claims->sub, Min(strlen(claims->sub), sizeof(owner)));
	if (class == A67_CLASS_HEARTBEAT)
		return a67_edge_limit_beat(conn, owner);
	a67_rate_count(rate_classes[class], owner, a67_now_ms(), &rate);
	tell(conn, &rate);
	return rate.allowed;
}

/*
 * token.c - strict reading of JWTs and the judgement of commands.  See token.h.
 *
 * The signature is verified before any claim is read; the algorithm is never taken from the token.
 */
#include "token.h"

#include <errno.h>
#include <string.h>

#include <jansson.h>
#include <sodium.h>

#include "core/encode.h"

#define PART_MAX_BYTES 2048
#define JTI_MAX		   128

static const char *const join_prefix = "a67j.";

/* Reads the 32 bytes of one part, which ends at a dot or at the end; *text moves behind the part. */
static bool
read_part(const char **text, uint8_t bytes[A67_KEY_BYTES])
{
	size_t len = strcspn(*text, ".");
	size_t count = 0;
	bool good =
		a67_base64url_decode(*text, len, bytes, A67_KEY_BYTES, &count) && count == A67_KEY_BYTES;

	*text += len;
	return good;
}

int
a67_join_token_parse(const char *token, A67JoinKeys *keys, A67Why *why)
{
	const char *at = token + strlen(join_prefix);
	uint8_t secret[A67_KEY_BYTES];
	bool good;

	memset(keys, 0, sizeof(*keys));
	if (strncmp(token, join_prefix, strlen(join_prefix)) != 0)
		return a67_why(why, -EINVAL, "the join token does not begin with \"%s\"", join_prefix);
	good = read_part(&at, secret) && *at++ == '.' && read_part(&at, keys->controller);
	sodium_memzero(secret, sizeof(secret));
	if (good && *at == '.')
	{
		at++;
		keys->pinned = true;
		good = read_part(&at, keys->tls_pin);
	}
	if (!good || *at != '\0')
		return a67_why(why, -EINVAL, "the join token is damaged: is it complete?");
	return 0;
}

/* A JWT in its three parts; pointers into the token. */
typedef struct Parts
{
	const char *header;
	size_t header_len;
	const char *payload;
	size_t payload_len;
	const char *signature;
	size_t signature_len;
} Parts;

static bool
split(const char *token, size_t len, Parts *parts)
{
	const char *first = memchr(token, '.', len);
	const char *second;

	if (first == NULL)
		return false;
	second = memchr(first + 1, '.', len - (size_t) (first + 1 - token));
	if (second == NULL)
		return false;
	parts->header = token;
	parts->header_len = (size_t) (first - token);
	parts->payload = first + 1;
	parts->payload_len = (size_t) (second - first - 1);
	parts->signature = second + 1;
	parts->signature_len = len - (size_t) (second + 1 - token);
	return true;
}

/* One base64url part as a JSON object, or NULL. */
static json_t *
decode_part(const char *text, size_t len)
{
	char bytes[PART_MAX_BYTES];
	size_t count = 0;
	json_t *object;

	if (!a67_base64url_decode(text, len, bytes, sizeof(bytes), &count))
		return NULL;
	object = json_loadb(bytes, count, JSON_REJECT_DUPLICATES, NULL);
	if (object != NULL && !json_is_object(object))
	{
		json_decref(object);
		return NULL;
	}
	return object;
}

static bool
claim_time(json_t *claims, const char *name, int64_t *out)
{
	json_t *value = json_object_get(claims, name);

	if (json_is_integer(value))
		*out = json_integer_value(value);
	else if (json_is_real(value) && json_real_value(value) > 0 && json_real_value(value) < 1e15)
		*out = (int64_t) json_real_value(value);
	else
		return false;
	/* Keeps every sum with a life or a skew far from overflow. */
	return *out > 0 && *out < INT64_C(1) << 50;
}

bool
a67_jwt_times(const char *token, int64_t *iat_s, int64_t *exp_s)
{
	Parts parts;
	json_t *claims;
	bool good;

	if (!split(token, strlen(token), &parts))
		return false;
	claims = decode_part(parts.payload, parts.payload_len);
	if (claims == NULL)
		return false;
	good = claim_time(claims, "iat", iat_s) && claim_time(claims, "exp", exp_s);
	json_decref(claims);
	return good;
}

void
a67_replay_init(A67Replay *replay)
{
	memset(replay->seen, 0, sizeof(replay->seen));
	randombytes_buf(replay->key, sizeof(replay->key));
}

/* Remembers a jti; false when it is known already, or, with *full set, when there is no room. */
static bool
spend(A67Replay *replay, const char *jti, int64_t until_s, int64_t now_s, bool *full)
{
	uint64_t hash;
	size_t place = A67_REPLAY_MAX;

	(void) crypto_shorthash((unsigned char *) &hash, (const unsigned char *) jti, strlen(jti),
							replay->key);
	for (size_t i = 0; i < A67_REPLAY_PROBES; i++)
	{
		size_t at = (hash + i) % A67_REPLAY_MAX;

		if (replay->seen[at].until_s < now_s)
		{
			if (place == A67_REPLAY_MAX)
				place = at;
			if (replay->seen[at].until_s == 0)
				break;
		}
		else if (replay->seen[at].hash == hash)
		{
			*full = false;
			return false;
		}
	}
	*full = place == A67_REPLAY_MAX;
	if (*full)
		return false;
	replay->seen[place].hash = hash;
	replay->seen[place].until_s = until_s;
	return true;
}

static bool
text_claim_is(json_t *claims, const char *name, const char *want, size_t len)
{
	json_t *value = json_object_get(claims, name);

	return json_is_string(value) && json_string_length(value) == len &&
		   memcmp(json_string_value(value), want, len) == 0;
}

static bool
header_is_eddsa(const Parts *parts)
{
	json_t *header = decode_part(parts->header, parts->header_len);
	bool good;

	if (header == NULL)
		return false;
	/* "crit" would oblige us to understand extensions; there are none. */
	good = text_claim_is(header, "alg", "EdDSA", 5) && json_object_get(header, "crit") == NULL;
	json_decref(header);
	return good;
}

static bool
body_matches(json_t *claims, const A67CommandCheck *check)
{
	unsigned char digest[crypto_hash_sha256_BYTES];
	char hex[A67_HEX_SIZE(crypto_hash_sha256_BYTES)];

	if (check->body_sha256 != NULL)
		return text_claim_is(claims, "body_sha256", check->body_sha256, strlen(check->body_sha256));
	(void) crypto_hash_sha256(digest, check->body_len > 0 ? check->body : (const void *) "",
							  check->body_len);
	return a67_hex_encode(digest, sizeof(digest), hex, sizeof(hex)) &&
		   text_claim_is(claims, "body_sha256", hex, sizeof(hex) - 1);
}

static int
judge_claims(json_t *claims, const A67CommandCheck *check, A67Replay *replay, A67Why *why)
{
	json_t *jti = json_object_get(claims, "jti");
	int64_t iat = 0;
	int64_t exp = 0;
	bool full = false;

	if (!claim_time(claims, "iat", &iat) || !claim_time(claims, "exp", &exp) || exp <= iat ||
		exp - iat > A67_COMMAND_LIFE_S)
		return a67_why(why, -EACCES, "command token must live at most %d seconds",
					   A67_COMMAND_LIFE_S);
	if (check->now_s > exp + A67_CLOCK_SKEW_S)
		return a67_why(why, -EACCES, "command token has expired");
	if (check->now_s < iat - A67_CLOCK_SKEW_S)
		return a67_why(why, -EACCES, "command token is from the future: do the clocks differ?");
	if (iat < check->not_before_s)
		return a67_why(why, -EACCES, "command token is older than this agent: make another one");
	if (!text_claim_is(claims, "aud", check->node_id, strlen(check->node_id)))
		return a67_why(why, -EACCES, "command token is for another node");
	if (!text_claim_is(claims, "method", check->method, check->method_len) ||
		!text_claim_is(claims, "path", check->target, check->target_len))
		return a67_why(why, -EACCES, "command token is for another request");
	if (!json_is_string(jti) || json_string_length(jti) == 0 || json_string_length(jti) > JTI_MAX)
		return a67_why(why, -EACCES, "command token has no jti");
	if (check->head_only)
		return 0;
	if (!body_matches(claims, check))
		return a67_why(why, -EACCES, "command token is for another body");
	if (spend(replay, json_string_value(jti), exp + A67_CLOCK_SKEW_S, check->now_s, &full))
		return 0;
	if (full)
		return a67_why(why, -EBUSY, "too many commands at once");
	return a67_why(why, -EACCES, "command token has been used already");
}

/* A token of acceptable length in its parts, with its signature decoded. */
static bool
split_signed(const char *token, size_t len, Parts *parts,
			 unsigned char signature[crypto_sign_BYTES])
{
	size_t count = 0;

	return len <= A67_BEARER_MAX_BYTES && split(token, len, parts) &&
		   a67_base64url_decode(parts->signature, parts->signature_len, signature,
								crypto_sign_BYTES, &count) &&
		   count == crypto_sign_BYTES;
}

static bool
is_signed(const char *token, const Parts *parts, const unsigned char *signature, const uint8_t *key)
{
	return crypto_sign_verify_detached(signature, (const unsigned char *) token,
									   parts->header_len + 1 + parts->payload_len, key) == 0;
}

bool
a67_handover_read(const char *token, const uint8_t key[A67_KEY_BYTES], uint8_t next[A67_KEY_BYTES])
{
	static const char subject[] = "controller-key";
	unsigned char signature[crypto_sign_BYTES];
	const char *text;
	size_t count = 0;
	json_t *claims;
	Parts parts;
	bool good;

	if (!split_signed(token, strlen(token), &parts, signature) ||
		!is_signed(token, &parts, signature, key) || !header_is_eddsa(&parts))
		return false;
	claims = decode_part(parts.payload, parts.payload_len);
	text = json_string_value(json_object_get(claims, "next"));
	good = text != NULL && text_claim_is(claims, "sub", subject, sizeof(subject) - 1) &&
		   a67_base64url_decode(text, strlen(text), next, A67_KEY_BYTES, &count) &&
		   count == A67_KEY_BYTES;
	json_decref(claims);
	return good;
}

int
a67_command_verify(const A67CommandCheck *check, const char *token, size_t token_len,
				   A67Replay *replay, A67Why *why)
{
	Parts parts;
	unsigned char signature[crypto_sign_BYTES];
	json_t *claims;
	int result;

	if (!split_signed(token, token_len, &parts, signature))
		return a67_why(why, -EACCES, "command token is malformed");
	if (check->next_key != NULL)
		*check->by_next = is_signed(token, &parts, signature, check->next_key);
	if ((check->next_key == NULL || !*check->by_next) &&
		!is_signed(token, &parts, signature, check->controller_key))
		return a67_why(why, -EACCES, "command token is not signed by this node's controller");
	if (!header_is_eddsa(&parts))
		return a67_why(why, -EACCES, "command token is not an EdDSA token");
	claims = decode_part(parts.payload, parts.payload_len);
	if (claims == NULL)
		return a67_why(why, -EACCES, "command token is malformed");
	result = judge_claims(claims, check, replay, why);
	json_decref(claims);
	return result;
}

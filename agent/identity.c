/*
 * identity.c - node.key (base64url of the Ed25519 seed) and node.json.  See identity.h.
 */
#include "identity.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <sodium.h>

#include "core/http/tls.h"

#define KEY_FILE	   "node.key"
#define NODE_FILE	   "node.json"
#define NODE_MAX_BYTES 16384

static int
make_key(const A67StateDir *dir, A67Identity *identity, A67Why *why)
{
	unsigned char seed[crypto_sign_SEEDBYTES];
	unsigned char secret[crypto_sign_SECRETKEYBYTES];
	char text[A67_KEY_TEXT_SIZE + 1];
	int err;

	randombytes_buf(seed, sizeof(seed));
	(void) crypto_sign_seed_keypair(identity->public_key, secret, seed);
	(void) a67_base64url_encode(seed, sizeof(seed), text, A67_KEY_TEXT_SIZE);
	text[A67_KEY_TEXT_SIZE - 1] = '\n';
	err = a67_statedir_write(dir, KEY_FILE, text, A67_KEY_TEXT_SIZE, why);
	sodium_memzero(seed, sizeof(seed));
	sodium_memzero(secret, sizeof(secret));
	sodium_memzero(text, sizeof(text));
	return err;
}

/* 0 with the seed, which the caller wipes; -EBADMSG: the file holds no key; or another -errno. */
static int
read_seed(const A67StateDir *dir, unsigned char seed[crypto_sign_SEEDBYTES], A67Why *why)
{
	size_t count = 0;
	A67Buf text;
	bool good;
	int err;

	a67_buf_init(&text, 128);
	err = a67_statedir_read(dir, KEY_FILE, &text, why);
	good = err == 0 && text.len == A67_KEY_TEXT_SIZE && text.data[text.len - 1] == '\n' &&
		   a67_base64url_decode(text.data, text.len - 1, seed, crypto_sign_SEEDBYTES, &count) &&
		   count == crypto_sign_SEEDBYTES;
	if (text.data != NULL)
		sodium_memzero(text.data, text.len);
	a67_buf_free(&text);
	if (err != 0 && err != -EFBIG)
		return err;
	return good ? 0 : a67_why(why, -EBADMSG, "\"%s\" is not a key", KEY_FILE);
}

static int
load_key(const A67StateDir *dir, A67Identity *identity, A67Why *why)
{
	unsigned char seed[crypto_sign_SEEDBYTES];
	unsigned char secret[crypto_sign_SECRETKEYBYTES];
	int err = read_seed(dir, seed, why);

	if (err == -EBADMSG)
		a67_statedir_quarantine(dir, KEY_FILE, "not a key");
	if (err == -ENOENT || err == -EBADMSG)
		return make_key(dir, identity, why);
	if (err != 0)
		return err;
	(void) crypto_sign_seed_keypair(identity->public_key, secret, seed);
	sodium_memzero(seed, sizeof(seed));
	sodium_memzero(secret, sizeof(secret));
	return 0;
}

int
a67_identity_unseal(const A67StateDir *dir, const uint8_t *box, size_t len, uint8_t *out,
					A67Why *why)
{
	unsigned char seed[crypto_sign_SEEDBYTES];
	unsigned char ed25519[crypto_sign_SECRETKEYBYTES];
	unsigned char ed25519_public[crypto_sign_PUBLICKEYBYTES];
	unsigned char secret[crypto_box_SECRETKEYBYTES];
	unsigned char public_key[crypto_box_PUBLICKEYBYTES];
	int err = read_seed(dir, seed, why);

	if (err != 0)
		return err;
	(void) crypto_sign_seed_keypair(ed25519_public, ed25519, seed);
	if (crypto_sign_ed25519_sk_to_curve25519(secret, ed25519) != 0 ||
		crypto_sign_ed25519_pk_to_curve25519(public_key, ed25519_public) != 0 ||
		crypto_box_seal_open(out, box, len, public_key, secret) != 0)
		err = a67_why(why, -EBADMSG,
					  "sealed_env cannot be opened: damaged, or sealed for another node");
	sodium_memzero(seed, sizeof(seed));
	sodium_memzero(ed25519, sizeof(ed25519));
	sodium_memzero(secret, sizeof(secret));
	return err;
}

struct ssl_ctx_st *
a67_identity_tls(const A67StateDir *dir, A67Why *why)
{
	unsigned char seed[crypto_sign_SEEDBYTES];
	struct ssl_ctx_st *tls;

	if (read_seed(dir, seed, why) != 0)
		return NULL;
	tls = a67_tls_self_context(seed, why->text, sizeof(why->text));
	sodium_memzero(seed, sizeof(seed));
	return tls;
}

static bool
copy_text(json_t *node, const char *name, char *out, size_t size)
{
	json_t *value = json_object_get(node, name);

	if (!json_is_string(value) || json_string_length(value) >= size ||
		json_string_length(value) == 0)
		return false;
	memcpy(out, json_string_value(value), json_string_length(value) + 1);
	return true;
}

/* 32 bytes in base64url. */
static bool
copy_key(json_t *node, const char *name, uint8_t key[A67_KEY_BYTES])
{
	char text[A67_KEY_TEXT_SIZE];
	size_t count = 0;

	return copy_text(node, name, text, sizeof(text)) &&
		   a67_base64url_decode(text, strlen(text), key, A67_KEY_BYTES, &count) &&
		   count == A67_KEY_BYTES;
}

/*
 * False leaves the identity unregistered.  So does a registration of another key: the controller would
 * not know us by ours.
 */
static bool
read_node(json_t *node, A67Identity *identity)
{
	uint8_t id[A67_UUID_BYTES];
	uint8_t key[A67_KEY_BYTES];
	json_int_t port = json_integer_value(json_object_get(node, "port"));
	json_int_t beat = json_integer_value(json_object_get(node, "heartbeat_ms"));

	if (!copy_text(node, "node_id", identity->node_id, sizeof(identity->node_id)) ||
		!a67_uuid_from_text(identity->node_id, strlen(identity->node_id), id) ||
		!copy_text(node, "name", identity->name, sizeof(identity->name)) ||
		!copy_text(node, "node_token", identity->node_token, sizeof(identity->node_token)) ||
		!copy_text(node, "controller_url", identity->controller_url,
				   sizeof(identity->controller_url)) ||
		!copy_key(node, "public_key", key) || memcmp(key, identity->public_key, sizeof(key)) != 0 ||
		!copy_key(node, "controller_key", identity->controller_key) || port < 1 ||
		port > UINT16_MAX || beat < 1 || beat > 86400000)
		return false;
	if (!copy_key(node, "join_key", identity->join_key))
		memcpy(identity->join_key, identity->controller_key, A67_KEY_BYTES);
	identity->has_next = copy_key(node, "next_key", identity->next_key);
	identity->tls_pinned = json_object_get(node, "tls_pin") != NULL;
	if (identity->tls_pinned && !copy_key(node, "tls_pin", identity->tls_pin))
		return false;
	identity->port = (uint16_t) port;
	identity->plain = json_is_true(json_object_get(node, "insecure_loopback"));
	identity->heartbeat_ms = beat;
	return true;
}

int
a67_identity_load(const A67StateDir *dir, A67Identity *identity, A67Why *why)
{
	A67Buf text;
	json_t *node;
	int err;

	memset(identity, 0, sizeof(*identity));
	err = load_key(dir, identity, why);
	if (err != 0)
		return err;
	a67_buf_init(&text, NODE_MAX_BYTES);
	err = a67_statedir_read(dir, NODE_FILE, &text, why);
	if (err == -ENOENT)
		return 0;
	if (err != 0 && err != -EFBIG)
		return err;
	node =
		err == 0 ? json_loadb(a67_buf_text(&text), text.len, JSON_REJECT_DUPLICATES, NULL) : NULL;
	identity->registered = json_is_object(node) && read_node(node, identity);
	json_decref(node);
	if (text.data != NULL)
		sodium_memzero(text.data, text.len);
	a67_buf_free(&text);
	if (!identity->registered)
		a67_statedir_quarantine(dir, NODE_FILE, "not a registration");
	return 0;
}

bool
a67_identity_knows_key(const A67Identity *identity, const uint8_t key[A67_KEY_BYTES])
{
	return memcmp(key, identity->controller_key, A67_KEY_BYTES) == 0 ||
		   memcmp(key, identity->join_key, A67_KEY_BYTES) == 0 ||
		   (identity->has_next && memcmp(key, identity->next_key, A67_KEY_BYTES) == 0);
}

void
a67_identity_promote_key(A67Identity *identity)
{
	memcpy(identity->controller_key, identity->next_key, A67_KEY_BYTES);
	identity->has_next = false;
}

int
a67_identity_save(const A67StateDir *dir, const A67Identity *identity, A67Why *why)
{
	char own[A67_KEY_TEXT_SIZE];
	char key[A67_KEY_TEXT_SIZE];
	char join[A67_KEY_TEXT_SIZE];
	char next[A67_KEY_TEXT_SIZE];
	char pin[A67_KEY_TEXT_SIZE];
	json_t *node;
	char *text;
	int err;

	(void) a67_base64url_encode(identity->public_key, A67_KEY_BYTES, own, sizeof(own));
	(void) a67_base64url_encode(identity->controller_key, A67_KEY_BYTES, key, sizeof(key));
	(void) a67_base64url_encode(identity->join_key, A67_KEY_BYTES, join, sizeof(join));
	(void) a67_base64url_encode(identity->next_key, A67_KEY_BYTES, next, sizeof(next));
	(void) a67_base64url_encode(identity->tls_pin, A67_KEY_BYTES, pin, sizeof(pin));
	node = json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s*,s:s*,s:I,s:i,s:b}", "node_id",
					 identity->node_id, "name", identity->name, "public_key", own, "node_token",
					 identity->node_token, "controller_url", identity->controller_url, "join_key",
					 join, "controller_key", key, "next_key", identity->has_next ? next : NULL,
					 "tls_pin", identity->tls_pinned ? pin : NULL, "heartbeat_ms",
					 (json_int_t) identity->heartbeat_ms, "port", (int) identity->port,
					 "insecure_loopback", (int) identity->plain);
	text = node != NULL ? json_dumps(node, JSON_INDENT(1)) : NULL;
	json_decref(node);
	if (text == NULL)
		return a67_why(why, -ENOMEM, "out of memory");
	err = a67_statedir_write(dir, NODE_FILE, text, strlen(text), why);
	sodium_memzero(text, strlen(text));
	free(text);
	return err;
}

void
a67_identity_forget(const A67StateDir *dir)
{
	a67_statedir_remove(dir, NODE_FILE);
	a67_statedir_remove(dir, KEY_FILE);
}

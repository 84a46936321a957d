/*
 * identity.c - node.key (base64url of the Ed25519 seed) and node.json.  See identity.h.
 */
#include "identity.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <sodium.h>

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

static int
load_key(const A67StateDir *dir, A67Identity *identity, A67Why *why)
{
	unsigned char seed[crypto_sign_SEEDBYTES];
	unsigned char secret[crypto_sign_SECRETKEYBYTES];
	size_t count = 0;
	A67Buf text;
	bool good;
	int err;

	a67_buf_init(&text, 128);
	err = a67_statedir_read(dir, KEY_FILE, &text, why);
	if (err == -ENOENT)
		return make_key(dir, identity, why);
	if (err != 0 && err != -EFBIG)
		return err;
	good = err == 0 && text.len == A67_KEY_TEXT_SIZE && text.data[text.len - 1] == '\n' &&
		   a67_base64url_decode(text.data, text.len - 1, seed, sizeof(seed), &count) &&
		   count == sizeof(seed);
	if (text.data != NULL)
		sodium_memzero(text.data, text.len);
	a67_buf_free(&text);
	if (!good)
	{
		a67_statedir_quarantine(dir, KEY_FILE, "not a key");
		return make_key(dir, identity, why);
	}
	(void) crypto_sign_seed_keypair(identity->public_key, secret, seed);
	sodium_memzero(seed, sizeof(seed));
	sodium_memzero(secret, sizeof(secret));
	return 0;
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

/* False leaves the identity unregistered. */
static bool
read_node(json_t *node, A67Identity *identity)
{
	uint8_t id[A67_UUID_BYTES];
	json_int_t port = json_integer_value(json_object_get(node, "port"));
	json_int_t beat = json_integer_value(json_object_get(node, "heartbeat_ms"));

	if (!copy_text(node, "node_id", identity->node_id, sizeof(identity->node_id)) ||
		!a67_uuid_from_text(identity->node_id, strlen(identity->node_id), id) ||
		!copy_text(node, "name", identity->name, sizeof(identity->name)) ||
		!copy_text(node, "node_token", identity->node_token, sizeof(identity->node_token)) ||
		!copy_text(node, "controller_url", identity->controller_url,
				   sizeof(identity->controller_url)) ||
		!copy_key(node, "controller_key", identity->controller_key) || port < 1 ||
		port > UINT16_MAX || beat < 1 || beat > 86400000)
		return false;
	identity->tls_pinned = json_object_get(node, "tls_pin") != NULL;
	if (identity->tls_pinned && !copy_key(node, "tls_pin", identity->tls_pin))
		return false;
	identity->port = (uint16_t) port;
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

int
a67_identity_save(const A67StateDir *dir, const A67Identity *identity, A67Why *why)
{
	char key[A67_KEY_TEXT_SIZE];
	char pin[A67_KEY_TEXT_SIZE];
	json_t *node;
	char *text;
	int err;

	(void) a67_base64url_encode(identity->controller_key, A67_KEY_BYTES, key, sizeof(key));
	(void) a67_base64url_encode(identity->tls_pin, A67_KEY_BYTES, pin, sizeof(pin));
	node = json_pack("{s:s,s:s,s:s,s:s,s:s,s:s*,s:I,s:i}", "node_id", identity->node_id, "name",
					 identity->name, "node_token", identity->node_token, "controller_url",
					 identity->controller_url, "controller_key", key, "tls_pin",
					 identity->tls_pinned ? pin : NULL, "heartbeat_ms",
					 (json_int_t) identity->heartbeat_ms, "port", (int) identity->port);
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

/*
 * env_seal.c - what one replica may know, opened from the vault and sealed to the key of its node.
 *
 * The plaintext is {"replica": id, "env": {...}, "secrets": {variable: value}}; it exists inside this one call
 * only, in buffers that are wiped however it ends, and only the node can open what goes back to SQL
 * (docs/protocol.md). The id keeps a box from being given to another replica of the same node. Memory: all in
 * the caller's context but the text, which has its full size from the start, so that growing leaves no copies.
 */
#include "postgres.h"

#include <sodium.h>

#include "catalog/pg_type_d.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

#include "core/buf.h"
#include "core/encode.h"
#include "crypto/guarded.h"
#include "crypto/vault.h"
#include "platform/errors.h"

#define VALUES_MAX	128
#define ESCAPED_MAX 6	/* bytes that one byte of a value may take in JSON */
#define FRAME_BYTES 128 /* all but names and values */

typedef struct Value
{
	const char *name;
	const uint8 *sealed;
	Size sealed_len;
	const char *label;
	uint8 *plain; /* NULL until opened */
	Size len;
} Value;

/* The env object is values[0], secrets follow. */
typedef struct Handout
{
	const char *replica;
	int count;
	bool has_env;
	Value values[1 + VALUES_MAX];
	A67Buf text;
} Handout;

static void
open_values(Handout *handout)
{
	Size room = FRAME_BYTES;

	for (int i = handout->has_env ? 0 : 1; i < handout->count; i++)
	{
		Value *value = &handout->values[i];

		value->plain = a67_vault_open(value->sealed, value->sealed_len, value->label, &value->len);
		room += value->len * ESCAPED_MAX + strlen(value->name) + 8;
	}
	a67_buf_init(&handout->text, room);
	if (!a67_buf_reserve(&handout->text, room))
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
}

static void
write_text(Handout *handout)
{
	A67Buf *text = &handout->text;
	const Value *env = &handout->values[0];

	a67_buf_append_fmt(text, "{\"replica\":\"%s\",\"env\":", handout->replica);
	/* The env object was sealed as JSON. */
	if (handout->has_env)
		a67_buf_append(text, env->plain, env->len);
	else
		a67_buf_append_str(text, "{}");
	a67_buf_append_str(text, ",\"secrets\":{");
	for (int i = 1; i < handout->count; i++)
	{
		const Value *value = &handout->values[i];

		a67_buf_append_str(text, i > 1 ? "," : "");
		a67_buf_append_json_string(text, value->name, strlen(value->name));
		a67_buf_append_str(text, ":");
		a67_buf_append_json_string(text, (const char *) value->plain, value->len);
	}
	a67_buf_append_str(text, "}}");
	if (text->failed)
		elog(ERROR, "environment does not fit");
}

static void
wipe(Handout *handout)
{
	for (int i = 0; i < handout->count; i++)
		if (handout->values[i].plain != NULL)
			sodium_memzero(handout->values[i].plain, handout->values[i].len);
	if (handout->text.data != NULL)
		sodium_memzero(handout->text.data, handout->text.len);
	a67_buf_free(&handout->text);
}

/* The box, in base64. */
static text *
seal(const A67Buf *plain, const uint8 node_key[crypto_box_PUBLICKEYBYTES])
{
	Size len = plain->len + crypto_box_SEALBYTES;
	Size size = sodium_base64_ENCODED_LEN(len, sodium_base64_VARIANT_ORIGINAL);
	uint8 *box = palloc(len);
	char *encoded = palloc(size);

	if (crypto_box_seal(box, (const uint8 *) plain->data, plain->len, node_key) != 0)
		elog(ERROR, "could not seal the environment");
	(void) sodium_bin2base64(encoded, size, box, len, sodium_base64_VARIANT_ORIGINAL);
	return cstring_to_text(encoded);
}

/* The X25519 key that belongs to the Ed25519 key under which the node is registered. */
static void
parse_node_key(const char *encoded, uint8 key[crypto_box_PUBLICKEYBYTES])
{
	uint8 ed25519[crypto_sign_PUBLICKEYBYTES];
	size_t count;

	if (!a67_base64url_decode(encoded, strlen(encoded), ed25519, sizeof(ed25519), &count) ||
		count != sizeof(ed25519) || crypto_sign_ed25519_pk_to_curve25519(key, ed25519) != 0)
		ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION),
						errmsg("the public key of the node is not an Ed25519 key")));
}

/* Elements of an array argument that must be as many as secrets and not null. */
static Datum *
elements(FunctionCallInfo fcinfo, int argument, Oid type, int *count)
{
	static const char *const names[] = {[4] = "variables", [5] = "secrets", [6] = "labels"};
	Datum *values;
	bool *nulls;

	if (PG_ARGISNULL(argument))
		a67_error_null(names[argument]);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(argument), type, -1, false, TYPALIGN_INT, &values,
					  &nulls, count);
	for (int i = 0; i < *count; i++)
		if (nulls[i])
			a67_error_null(names[argument]);
	if (*count > VALUES_MAX)
		a67_error_parameter(names[argument], "It has more than 128 elements.");
	return values;
}

static void
take_arguments(FunctionCallInfo fcinfo, Handout *handout)
{
	int counts[3];
	Datum *variables = elements(fcinfo, 4, TEXTOID, &counts[0]);
	Datum *secrets = elements(fcinfo, 5, BYTEAOID, &counts[1]);
	Datum *labels = elements(fcinfo, 6, TEXTOID, &counts[2]);

	if (counts[0] != counts[1] || counts[0] != counts[2])
		a67_error_parameter("secrets", "Variables, secrets and labels must be as many.");
	handout->replica = DatumGetCString(DirectFunctionCall1(uuid_out, PG_GETARG_DATUM(1)));
	handout->has_env = !PG_ARGISNULL(2);
	handout->count = 1 + counts[0];
	if (handout->has_env)
	{
		bytea *sealed = PG_GETARG_BYTEA_PP(2);

		if (PG_ARGISNULL(3))
			a67_error_null("env_label");
		handout->values[0] = (Value){.name = "",
									 .sealed = (const uint8 *) VARDATA_ANY(sealed),
									 .sealed_len = VARSIZE_ANY_EXHDR(sealed),
									 .label = text_to_cstring(PG_GETARG_TEXT_PP(3))};
	}
	for (int i = 0; i < counts[0]; i++)
	{
		bytea *sealed = DatumGetByteaPP(secrets[i]);

		handout->values[1 + i] = (Value){.name = TextDatumGetCString(variables[i]),
										 .sealed = (const uint8 *) VARDATA_ANY(sealed),
										 .sealed_len = VARSIZE_ANY_EXHDR(sealed),
										 .label = TextDatumGetCString(labels[i])};
	}
}

PG_FUNCTION_INFO_V1(a67_sql_env_seal);

/*
 * _env_seal(node_key text, replica_id uuid, env bytea, env_label text, variables text[], secrets bytea[],
 * labels text[]) returns text; env may be null
 */
Datum
a67_sql_env_seal(PG_FUNCTION_ARGS)
{
	uint8 node_key[crypto_box_PUBLICKEYBYTES];
	Handout *handout = palloc0(sizeof(*handout));
	text *volatile result = NULL;

	if (PG_ARGISNULL(0))
		a67_error_null("node_key");
	if (PG_ARGISNULL(1))
		a67_error_null("replica_id");
	a67_secret_process();
	a67_crypto_init();
	parse_node_key(text_to_cstring(PG_GETARG_TEXT_PP(0)), node_key);
	take_arguments(fcinfo, handout);
	PG_TRY();
	{
		open_values(handout);
		write_text(handout);
		result = seal(&handout->text, node_key);
	}
	PG_FINALLY();
	{
		wipe(handout);
	}
	PG_END_TRY();
	PG_RETURN_TEXT_P(result);
}

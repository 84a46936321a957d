/*
 * vault_admin.c - SQL faces of what an administrator and the launcher do with master keys.
 *
 * Which key is current and which others are still needed is said by the caller, who knows the rows; here it is
 * found out whether some source has them. Keys pass through a list in guarded memory, freed on every way out.
 * Whether a caller may is decided by grants: nobody but the extension's owner.
 */
#include "postgres.h"

#include <sodium.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "crypto/key_source.h"
#include "crypto/keyring.h"
#include "crypto/vault.h"
#include "platform/errors.h"

/* Keys on their way, and what keeps them from going it. */
typedef struct Transit
{
	A67KeyList *given;
	A67KeyList *found;
	A67KeyList *chosen;
	char why[A67_KEY_WHY_SIZE];
} Transit;

static void
transit_end(Transit *transit)
{
	a67_key_list_free(transit->given);
	a67_key_list_free(transit->found);
	a67_key_list_free(transit->chosen);
}

static void
transit_begin(Transit *transit)
{
	a67_shared_require();
	a67_crypto_init();
	a67_secret_process();
	memset(transit, 0, sizeof(*transit));
	transit->given = a67_key_list_make();
	transit->found = a67_key_list_make();
	transit->chosen = a67_key_list_make();
	if (transit->given != NULL && transit->found != NULL && transit->chosen != NULL)
		return;
	transit_end(transit);
	ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
}

static const uint8 *
id_of(Datum value)
{
	bytea *id = DatumGetByteaPP(value);

	if (VARSIZE_ANY_EXHDR(id) != A67_KEY_ID_BYTES)
		a67_error_parameter("key_id", "It must have 8 bytes.");
	return (const uint8 *) VARDATA_ANY(id);
}

static bytea *
id_bytea(const uint8 *id)
{
	bytea *result = palloc(VARHDRSZ + A67_KEY_ID_BYTES);

	SET_VARSIZE(result, VARHDRSZ + A67_KEY_ID_BYTES);
	memcpy(VARDATA(result), id, A67_KEY_ID_BYTES);
	return result;
}

static void
elements(ArrayType *array, Datum **values, int *count)
{
	bool *nulls;

	deconstruct_array(array, BYTEAOID, -1, false, TYPALIGN_INT, values, &nulls, count);
	for (int i = 0; i < *count; i++)
	{
		if (nulls[i])
			a67_error_null("key_ids");
		(void) id_of((*values)[i]);
	}
}

static A67Kdf
kdf_of(Datum salt, Datum iterations, Datum memory_kb)
{
	bytea *bytes = DatumGetByteaPP(salt);

	if (VARSIZE_ANY_EXHDR(bytes) != A67_KDF_SALT_BYTES)
		a67_error_parameter("salt", "It must have 16 bytes.");
	return (A67Kdf){(const uint8 *) VARDATA_ANY(bytes), DatumGetInt32(iterations),
					DatumGetInt32(memory_kb)};
}

/* ---- loading ----------------------------------------------------------------------------------- */

/* Adds the key of an id to what is to be held; false when it is not in the list. */
static bool
choose(Transit *transit, const A67KeyList *from, const uint8 *id)
{
	const A67SourcedKey *key = a67_key_list_find(from, id);

	if (key == NULL)
		return false;
	if (transit->chosen->count < A67_KEYS_MAX)
		(void) a67_key_list_add(transit->chosen, key->key.key, key->source);
	return true;
}

/* The key or passphrase that somebody gave: adds at most one key. */
static void
take_given(Transit *transit, text *given, const A67Kdf *kdf)
{
	const char *bytes = VARDATA_ANY(given);
	Size len = VARSIZE_ANY_EXHDR(given);

	if (len != A67_KEY_TEXT_SIZE || !a67_key_list_parse(transit->given, bytes, len, A67_KEY_GIVEN))
	{
		if (kdf == NULL)
			return;
		a67_key_derive(transit->given, bytes, len, kdf);
	}
	(void) a67_key_list_add(transit->found, transit->given->keys[0].key.key,
							transit->given->keys[0].source);
}

static void
take_sources(Transit *transit, bool create)
{
	char why[A67_KEY_WHY_SIZE];

	a67_key_sources_read(transit->found, transit->why);
	if (transit->found->count > 0 || !create || transit->why[0] != '\0')
		return;
	a67_key_file_create();
	if (a67_key_file_read(transit->found, why) != A67_KEY_FILE_READ)
		strlcpy(transit->why, why, sizeof(transit->why));
}

/* Whether a key that was given is one of those that are wanted. */
static bool
was_right(const Transit *transit)
{
	return transit->given->count > 0 &&
		   a67_key_list_find(transit->chosen, transit->given->keys[0].key.id) != NULL;
}

/* Chooses from what was found and puts it into the pages; NULL id: whichever key comes first. */
static bool
hold_chosen(Transit *transit, const uint8 *id, const Datum *others, int count, bool given)
{
	bool complete;

	if (id == NULL && transit->found->count > 0)
		id = transit->found->keys[0].key.id;
	complete = id != NULL && choose(transit, transit->found, id);
	for (int i = 0; i < count; i++)
		(void) choose(transit, transit->found, id_of(others[i]));
	if (given && !was_right(transit))
	{
		a67_master_key_failed();
		return false;
	}
	if (complete)
		a67_master_keys_replace(transit->chosen);
	else if (!given && !a67_vault_is_sealed())
	{
		/* Keys of another installation, or of one that was restored over. */
		sodium_memzero(transit->chosen, sizeof(*transit->chosen));
		a67_master_keys_replace(transit->chosen);
	}
	return complete;
}

PG_FUNCTION_INFO_V1(a67_sql_vault_load);

/*
 * _vault_load(key_id bytea, old_key_ids bytea[], given text, salt bytea, iterations integer, memory_kb integer,
 *             create_file boolean, OUT current_id bytea, OUT problem text) returns record
 *
 * Holds the key of key_id as the current one, and those of old_key_ids, as far as what is held already, given,
 * or (given NULL) the sources have them. current_id is NULL when that leaves the vault sealed; problem says
 * what is wrong with a source. key_id NULL takes the first key there is, create_file makes one if there is
 * none. salt NULL: a text that is no key is no passphrase either.
 */
Datum
a67_sql_vault_load(PG_FUNCTION_ARGS)
{
	const uint8 *id = PG_ARGISNULL(0) ? NULL : id_of(PG_GETARG_DATUM(0));
	text *given = PG_ARGISNULL(2) ? NULL : PG_GETARG_TEXT_PP(2);
	Datum *others;
	int count;
	Transit transit;
	A67Kdf kdf = {0};
	Datum values[2] = {0};
	bool nulls[2] = {true, true};
	TupleDesc shape;

	if (get_call_result_type(fcinfo, NULL, &shape) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "_vault_load must return a record");
	elements(PG_GETARG_ARRAYTYPE_P(1), &others, &count);
	if (!PG_ARGISNULL(3))
		kdf = kdf_of(PG_GETARG_DATUM(3), PG_GETARG_DATUM(4), PG_GETARG_DATUM(5));
	transit_begin(&transit);
	PG_TRY();
	{
		/* A new vault is not to depend on what an earlier one has left in memory. */
		if (id != NULL)
			a67_master_keys_list(transit.found);
		if (given == NULL)
			take_sources(&transit, PG_GETARG_BOOL(6));
		else if (a67_master_key_may_try())
			take_given(&transit, given, kdf.salt == NULL ? NULL : &kdf);
		if ((given == NULL || a67_master_key_may_try()) &&
			hold_chosen(&transit, id, others, count, given != NULL))
		{
			values[0] = PointerGetDatum(id_bytea(transit.chosen->keys[0].key.id));
			nulls[0] = false;
		}
	}
	PG_FINALLY();
	{
		transit_end(&transit);
	}
	PG_END_TRY();
	nulls[1] = transit.why[0] == '\0';
	if (!nulls[1])
		values[1] = CStringGetTextDatum(transit.why);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(shape), values, nulls)));
}

/* ---- rotation ---------------------------------------------------------------------------------- */

/* A fresh key in the first line of the file, the others behind it; it comes first in found, too. */
static void
renew_file(Transit *transit)
{
	A67KeyList *old = a67_key_list_make();
	char why[A67_KEY_WHY_SIZE];
	uint8 key[A67_VAULT_KEY_BYTES];

	if (old == NULL)
	{
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
		pg_unreachable();
	}
	randombytes_buf(key, sizeof(key));
	sodium_memzero(transit->found, sizeof(*transit->found));
	(void) a67_key_list_add(transit->found, key, A67_KEY_FROM_FILE);
	sodium_memzero(key, sizeof(key));
	(void) a67_key_file_read(old, why);
	for (uint32 i = 0; i < old->count && transit->found->count < A67_KEYS_MAX; i++)
		(void) a67_key_list_add(transit->found, old->keys[i].key.key, A67_KEY_FROM_FILE);
	a67_key_list_free(old);
	a67_key_file_write(transit->found, ERROR);
}

/* Makes the next key the first of found: derived, given by a source, or made for the file. */
static void
find_next(Transit *transit, const uint8 *current, text *passphrase, const A67Kdf *kdf)
{
	if (passphrase != NULL)
	{
		a67_key_derive(transit->found, VARDATA_ANY(passphrase), VARSIZE_ANY_EXHDR(passphrase), kdf);
		return;
	}
	take_sources(transit, true);
	if (transit->why[0] != '\0')
		ereport(ERROR, (errcode(ERRCODE_CONFIG_FILE_ERROR),
						errmsg("could not read the sources of master keys"),
						errdetail("%s", transit->why)));
	if (memcmp(transit->found->keys[0].key.id, current, A67_KEY_ID_BYTES) != 0)
		return;
	if (transit->found->keys[0].source != A67_KEY_FROM_FILE)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("there is no new master key"),
				 errhint("Let the environment or the command give the new key first, then the "
						 "current one, and call this again.")));
	renew_file(transit);
}

PG_FUNCTION_INFO_V1(a67_sql_vault_adopt);

/*
 * _vault_adopt(key_id bytea, passphrase text, salt bytea, iterations integer, memory_kb integer) returns bytea
 *
 * Finds the key that is to follow the current one (key_id), holds it beside that and returns its id. It is not
 * used before _vault_select names it.
 */
Datum
a67_sql_vault_adopt(PG_FUNCTION_ARGS)
{
	const uint8 *current = id_of(PG_GETARG_DATUM(0));
	text *passphrase = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	A67Kdf kdf = {0};
	Transit transit;
	bytea *next = NULL;

	a67_vault_require();
	if (passphrase != NULL)
		kdf = kdf_of(PG_GETARG_DATUM(2), PG_GETARG_DATUM(3), PG_GETARG_DATUM(4));
	transit_begin(&transit);
	PG_TRY();
	{
		const A67SourcedKey *fresh = &transit.found->keys[0];

		find_next(&transit, current, passphrase, &kdf);
		next = id_bytea(fresh->key.id);
		a67_master_keys_list(transit.given);
		if (!choose(&transit, transit.given, current))
			elog(ERROR, "the current master key is not held");
		(void) a67_key_list_add(transit.chosen, fresh->key.key, fresh->source);
		a67_master_keys_replace(transit.chosen);
	}
	PG_FINALLY();
	{
		transit_end(&transit);
	}
	PG_END_TRY();
	PG_RETURN_BYTEA_P(next);
}

PG_FUNCTION_INFO_V1(a67_sql_vault_select);

/* _vault_select(key_id bytea) returns boolean; strict: makes a held key the current one */
Datum
a67_sql_vault_select(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(a67_master_key_select(id_of(PG_GETARG_DATUM(0))));
}

/* Rewrites the file without the retired keys, when it holds any. One that may only be read keeps them. */
static void
retire_from_file(Transit *transit, const Datum *ids, int count)
{
	char why[A67_KEY_WHY_SIZE];

	if (a67_key_file_read(transit->found, why) != A67_KEY_FILE_READ)
		return;
	for (uint32 i = 0; i < transit->found->count; i++)
	{
		const A67SourcedKey *key = &transit->found->keys[i];
		bool retired = false;

		for (int j = 0; j < count && !retired; j++)
			retired = memcmp(id_of(ids[j]), key->key.id, A67_KEY_ID_BYTES) == 0;
		if (!retired)
			(void) a67_key_list_add(transit->chosen, key->key.key, key->source);
	}
	if (transit->chosen->count < transit->found->count)
		a67_key_file_write(transit->chosen, LOG);
}

PG_FUNCTION_INFO_V1(a67_sql_vault_forget);

/* _vault_forget(key_ids bytea[]) returns void; strict: drops retired keys from memory and from the file */
Datum
a67_sql_vault_forget(PG_FUNCTION_ARGS)
{
	Datum *ids;
	int count;
	Transit transit;

	elements(PG_GETARG_ARRAYTYPE_P(0), &ids, &count);
	if (count == 0)
		PG_RETURN_VOID();
	transit_begin(&transit);
	PG_TRY();
	{
		/* The file first: what throws there is tried again as long as the key is in memory. */
		retire_from_file(&transit, ids, count);
		for (int i = 0; i < count; i++)
			a67_master_key_forget(id_of(ids[i]));
	}
	PG_FINALLY();
	{
		transit_end(&transit);
	}
	PG_END_TRY();
	PG_RETURN_VOID();
}

/* ---- state ------------------------------------------------------------------------------------- */

PG_FUNCTION_INFO_V1(a67_sql_vault_hold);

/* _vault_hold() returns void: forgets every key, those that tokens are verified with too */
Datum
a67_sql_vault_hold(PG_FUNCTION_ARGS)
{
	static const A67Keyring empty;

	a67_shared_require();
	a67_master_keys_hold();
	a67_keyring_replace(&empty);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(a67_sql_vault_state);

/*
 * _vault_state(OUT held boolean, OUT failures bigint, OUT retry_at timestamptz, OUT key_ids bytea[],
 *              OUT sources text[]) returns record
 */
Datum
a67_sql_vault_state(PG_FUNCTION_ARGS)
{
	A67VaultState state;
	Datum ids[A67_KEYS_MAX];
	Datum sources[A67_KEYS_MAX];
	Datum values[5];
	bool nulls[5] = {false};
	TupleDesc shape;

	if (get_call_result_type(fcinfo, NULL, &shape) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "_vault_state must return a record");
	a67_vault_state(&state);
	for (uint32 i = 0; i < state.count; i++)
	{
		ids[i] = PointerGetDatum(id_bytea(state.keys[i].id));
		sources[i] = CStringGetTextDatum(a67_key_source_name(state.keys[i].source));
	}
	values[0] = BoolGetDatum(state.held);
	values[1] = Int64GetDatum(state.failures);
	values[2] = TimestampTzGetDatum(state.retry_at);
	nulls[2] = state.retry_at <= GetCurrentTimestamp();
	values[3] =
		PointerGetDatum(construct_array(ids, (int) state.count, BYTEAOID, -1, false, TYPALIGN_INT));
	values[4] = PointerGetDatum(
		construct_array(sources, (int) state.count, TEXTOID, -1, false, TYPALIGN_INT));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(shape), values, nulls)));
}

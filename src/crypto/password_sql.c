/*
 * password_sql.c - SQL faces of password hashing.
 *
 * Takes the cost from the settings and turns verdicts into values and errors; who may log in is decided in
 * SQL. A copy of the password that unpacking the argument made is wiped before the call ends; no message
 * holds any of it. Called by the owner's functions only, as grants decide.
 */
#include "postgres.h"

#include <sodium.h>

#include "access/detoast.h"
#include "fmgr.h"
#include "utils/builtins.h"

#include "crypto/password.h"
#include "crypto/vault.h"
#include "platform/errors.h"
#include "platform/settings.h"

static void no_memory(void) pg_attribute_noreturn();

static A67PasswordCost
current_cost(void)
{
	return (A67PasswordCost){(uint32) a67_password_memory, (uint32) a67_password_iterations};
}

static void
no_memory(void)
{
	ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"),
					errdetail("A password hash needs the memory that \"a67.password_memory\" said "
							  "when it was made.")));
	pg_unreachable();
}

/* The password in an argument; its length is checked before a copy is made. */
static text *
take_password(Datum argument)
{
	Size len = toast_raw_datum_size(argument) - VARHDRSZ;

	if (len < 1 || len > A67_PASSWORD_MAX)
		a67_error_parameter("password", "It must have 1 to 1024 bytes.");
	a67_crypto_init();
	return DatumGetTextPP(argument);
}

static void
drop_password(text *password, Datum argument)
{
	if (PointerGetDatum(password) == argument)
		return;
	sodium_memzero(password, VARSIZE_ANY(password));
	pfree(password);
}

PG_FUNCTION_INFO_V1(a67_sql_password_hash);

/* _password_hash(password text) returns text; strict */
Datum
a67_sql_password_hash(PG_FUNCTION_ARGS)
{
	char hash[A67_PASSWORD_HASH_SIZE];
	text *password = take_password(PG_GETARG_DATUM(0));
	bool ok =
		a67_password_hash(current_cost(), VARDATA_ANY(password), VARSIZE_ANY_EXHDR(password), hash);

	drop_password(password, PG_GETARG_DATUM(0));
	if (!ok)
		no_memory();
	PG_RETURN_TEXT_P(cstring_to_text(hash));
}

PG_FUNCTION_INFO_V1(a67_sql_password_check);

/* _password_check(password text, hash text) returns boolean; not strict: without a hash it takes as long */
Datum
a67_sql_password_check(PG_FUNCTION_ARGS)
{
	text *hash = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	text *password;
	A67PasswordVerdict verdict;

	if (PG_ARGISNULL(0))
		a67_error_null("password");
	password = take_password(PG_GETARG_DATUM(0));
	verdict = a67_password_check(current_cost(), VARDATA_ANY(password), VARSIZE_ANY_EXHDR(password),
								 hash == NULL ? NULL : VARDATA_ANY(hash),
								 hash == NULL ? 0 : VARSIZE_ANY_EXHDR(hash));
	drop_password(password, PG_GETARG_DATUM(0));
	if (verdict == A67_PASSWORD_NO_MEMORY)
		no_memory();
	PG_RETURN_BOOL(verdict == A67_PASSWORD_RIGHT);
}

PG_FUNCTION_INFO_V1(a67_sql_password_outdated);

/* _password_outdated(hash text) returns boolean; strict */
Datum
a67_sql_password_outdated(PG_FUNCTION_ARGS)
{
	text *hash = PG_GETARG_TEXT_PP(0);

	a67_crypto_init();
	PG_RETURN_BOOL(
		a67_password_outdated(current_cost(), VARDATA_ANY(hash), VARSIZE_ANY_EXHDR(hash)));
}

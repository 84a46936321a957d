/*
 * totp_sql.c - SQL faces of one-time codes and base32.
 *
 * Parses arguments and nothing else. Called by the owner's functions only, as grants decide.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "crypto/totp.h"
#include "platform/errors.h"

#define BASE32_BYTES_MAX 1024

PG_FUNCTION_INFO_V1(a67_sql_totp);

/* _totp(secret bytea, step bigint, digits integer) returns text; strict */
Datum
a67_sql_totp(PG_FUNCTION_ARGS)
{
	bytea *secret = PG_GETARG_BYTEA_PP(0);
	Size len = VARSIZE_ANY_EXHDR(secret);
	int64 step = PG_GETARG_INT64(1);
	int32 digits = PG_GETARG_INT32(2);
	int32 code;

	if (len < A67_TOTP_SECRET_MIN || len > A67_TOTP_SECRET_MAX)
		a67_error_parameter("secret", "It must have 16 to 128 bytes.");
	if (step < 0)
		a67_error_parameter("step", "It must not be negative.");
	if (digits < A67_TOTP_DIGITS_MIN || digits > A67_TOTP_DIGITS_MAX)
		a67_error_parameter("digits", "It must be between 6 and 8.");
	code = a67_totp((const uint8 *) VARDATA_ANY(secret), len, (uint64) step, (unsigned) digits);
	if (code < 0)
		ereport(ERROR, (errcode(ERRCODE_SYSTEM_ERROR), errmsg("could not compute HMAC-SHA-1")));
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%0*d", digits, code)));
}

PG_FUNCTION_INFO_V1(a67_sql_base32);

/* _base32(data bytea) returns text; strict */
Datum
a67_sql_base32(PG_FUNCTION_ARGS)
{
	bytea *data = PG_GETARG_BYTEA_PP(0);
	Size len = VARSIZE_ANY_EXHDR(data);
	char *out;

	if (len > BASE32_BYTES_MAX)
		a67_error_parameter("data", "It must not be longer than 1024 bytes.");
	out = palloc(A67_BASE32_SIZE(len));
	(void) a67_base32_encode(VARDATA_ANY(data), len, out, A67_BASE32_SIZE(len));
	PG_RETURN_TEXT_P(cstring_to_text(out));
}

/*
 * key.h - the canonical text of a shard key, which is what is hashed.
 *
 * Values that are equal have the same text, whatever integer or text type they come as, under whatever settings: integers
 * and numeric in plain decimal without exponent, trailing zeros or "-0"; floats in shortest form, -0 as 0; text, varchar, bpchar
 * and names as their bytes (bpchar without trailing blanks) in UTF-8; timestamps, dates and times in ISO format,
 * timestamptz in UTC; boolean "true"/"false"; intervals as microseconds by PostgreSQL's comparison (months of 30 days); inet and
 * cidr as inet; uuid, bytea (hex), macaddr, enums and other built-in scalars: the type's own output; jsonb, arrays, ranges,
 * multiranges and composites as their output with canonical elements; domains as their base type. docs/router.md says it for
 * people who compute shards in other languages; golden vectors in test/sql/shard_key.sql.
 */
#ifndef A67_ROUTER_KEY_H
#define A67_ROUTER_KEY_H

#include "postgres.h"

#include "lib/stringinfo.h"

/* Whether values of the type can be keys under this collation; if not, *why says so in a full sentence. */
bool a67_key_supported(Oid type, Oid collation, const char **why);

/*
 * Types of one family (never InvalidOid for supported types) have equal texts for values that an operator "=" between them calls
 * equal: int2, int4, int8 and numeric are one; so are text, varchar and name. bpchar is one of its own: text as bpchar has other equals.
 */
Oid a67_key_family(Oid type);

/* Whether values of the type can be bounds of ranges, too; else *why. */
bool a67_key_orderable(Oid type, Oid collation, const char **why);

/* Appends the canonical text. */
void a67_key_text(StringInfo out, Datum value, Oid type);

/* The value, of an orderable type (a domain: of its base type), that has this canonical text. Throws what the type's input does. */
Datum a67_key_parse(const char *text, Oid type);

/* Order of two values of one family, or of bpchar and text, by the order of their types under the collation. */
int a67_key_compare(Datum left, Oid left_type, Datum right, Oid right_type, Oid collation);

/* MurmurHash3 of the canonical text, seed 0. Fast for integers, uuid and text. */
uint32 a67_key_hash(Datum value, Oid type);

#endif /* A67_ROUTER_KEY_H */

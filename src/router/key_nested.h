/*
 * key_nested.h - canonical text of keys that consist of other values: arrays, ranges, multiranges, named composites.
 *
 * As PostgreSQL writes them, with canonical texts in the places of elements. `type` is a base type everywhere. Called by key.c only.
 */
#ifndef A67_ROUTER_KEY_NESTED_H
#define A67_ROUTER_KEY_NESTED_H

#include "postgres.h"

#include "lib/stringinfo.h"

/* Whether the type is one of these. */
bool a67_key_nested(Oid type);

/* Whether what it consists of can be keys; else *why. */
bool a67_key_nested_supported(Oid type, const char **why);

void a67_key_nested_text(StringInfo out, Datum value, Oid type);

#endif /* A67_ROUTER_KEY_NESTED_H */

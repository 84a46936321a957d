/*
 * caller.c - who calls; see caller.h.
 *
 * Remembers the last claims it has read and, for psql, the operator: both only as guesses that the nodes of
 * that user confirm. Memory: two small statics.
 */
#include "postgres.h"

#include "registry/caller.h"

#include "catalog/namespace.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

static char *known_claims; /* of known_subject; in TopMemoryContext */
static uint8 known_subject[16];
static bool operator_known;
static uint8 known_operator[16];

bool
a67_caller_is_admin(void)
{
	Oid admin = get_role_oid("a67_admin", true);
	Oid caller = GetOuterUserId();

	return OidIsValid(admin) ? has_privs_of_role(caller, admin) : superuser_arg(caller);
}

/* The subject of claims; false when they have none. Throws for claims that are no JSON. */
static bool
read_subject(const char *claims, uint8 subject[16])
{
	Jsonb *object = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(claims)));
	JsonbValue *sub;
	char *text;

	if (!JB_ROOT_IS_OBJECT(object))
		return false;
	sub = getKeyJsonValueFromContainer(&object->root, "sub", 3, NULL);
	if (sub == NULL || sub->type != jbvString)
		return false;
	text = pnstrdup(sub->val.string.val, sub->val.string.len);
	memcpy(subject, DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(text)))->data,
		   UUID_LEN);
	return true;
}

bool
a67_caller_claims(uint8 user_id[16])
{
	const char *claims = GetConfigOption("request.jwt.claims", true, false);

	if (claims == NULL || claims[0] == '\0')
	{
		memcpy(user_id, known_operator, 16);
		return operator_known && a67_caller_is_admin();
	}
	if (known_claims == NULL || strcmp(known_claims, claims) != 0)
	{
		uint8 subject[16];

		if (!read_subject(claims, subject))
			return false;
		if (known_claims != NULL)
			pfree(known_claims);
		known_claims = NULL;
		known_claims = MemoryContextStrdup(TopMemoryContext, claims);
		memcpy(known_subject, subject, 16);
	}
	memcpy(user_id, known_subject, 16);
	return true;
}

void
a67_caller_ask(uint8 user_id[16])
{
	List *name = list_make2(makeString("a67_internal"), makeString("_user_id"));
	Oid function = LookupFuncName(name, 0, NULL, false);
	const char *claims;

	memcpy(user_id, DatumGetUUIDP(OidFunctionCall0(function))->data, UUID_LEN);
	claims = GetConfigOption("request.jwt.claims", true, false);
	if (claims == NULL || claims[0] == '\0')
	{
		memcpy(known_operator, user_id, 16);
		operator_known = true;
	}
}

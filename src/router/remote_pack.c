/*
 * remote_pack.c - an A67Remote as a List and back; see remote.h.
 *
 * The form is of nodes that copyObject() and the plan cache know, and is read at every execution: a
 * few list cells.
 */
#include "postgres.h"

#include "router/remote.h"

#include "nodes/pg_list.h"
#include "nodes/value.h"

enum
{
	NUMBER_RELID,
	NUMBER_WHERE,
	NUMBER_PARAMS,
	NUMBER_KEYS,
	NUMBER_COMMAND,
	NUMBER_EFFECT,
	NUMBER_FLAGS
};

#define FLAG_RETURNS 1
#define FLAG_COPIES	 2
#define FLAG_WHOLE	 4
#define FLAG_PREPARE 8
#define FLAG_ROWS	 16

static int
flags_of(const A67Remote *remote)
{
	return (remote->returns ? FLAG_RETURNS : 0) | (remote->copies ? FLAG_COPIES : 0) |
		   (remote->whole ? FLAG_WHOLE : 0) | (remote->prepare ? FLAG_PREPARE : 0) |
		   (remote->only_rows ? FLAG_ROWS : 0);
}

List *
a67_remote_pack(const A67Remote *remote)
{
	List *numbers = NIL;

	numbers = lappend_int(numbers, (int) remote->relid);
	numbers = lappend_int(numbers, (int) remote->where);
	numbers = lappend_int(numbers, remote->param_count);
	numbers = lappend_int(numbers, remote->key_count);
	numbers = lappend_int(numbers, (int) remote->command);
	numbers = lappend_int(numbers, (int) remote->effect);
	numbers = lappend_int(numbers, flags_of(remote));
	return list_make5(numbers, makeString(pstrdup(remote->sql)),
					  makeString(pstrdup(remote->strategy != NULL ? remote->strategy : "")),
					  remote->shard_ids, remote->quals);
}

A67Remote *
a67_remote_unpack(List *packed)
{
	A67Remote *remote = palloc(sizeof(A67Remote));
	List *numbers = (List *) linitial(packed);
	int flags = list_nth_int(numbers, NUMBER_FLAGS);

	*remote = (A67Remote){
		.sql = strVal(lsecond(packed)),
		.relid = (Oid) list_nth_int(numbers, NUMBER_RELID),
		.where = (A67Where) list_nth_int(numbers, NUMBER_WHERE),
		.shard_ids = (List *) lfourth(packed),
		.param_count = list_nth_int(numbers, NUMBER_PARAMS),
		.key_count = list_nth_int(numbers, NUMBER_KEYS),
		.quals = (List *) list_nth(packed, 4),
		.command = (CmdType) list_nth_int(numbers, NUMBER_COMMAND),
		.effect = (A67Effect) list_nth_int(numbers, NUMBER_EFFECT),
		.returns = (flags & FLAG_RETURNS) != 0,
		.copies = (flags & FLAG_COPIES) != 0,
		.whole = (flags & FLAG_WHOLE) != 0,
		.prepare = (flags & FLAG_PREPARE) != 0,
		.only_rows = (flags & FLAG_ROWS) != 0,
		.strategy = strVal(lthird(packed)),
	};
	return remote;
}

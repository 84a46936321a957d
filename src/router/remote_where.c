/*
 * remote_where.c - the shards that a remote statement goes to, once its keys are known; see
 * remote_run.h.
 */
#include "postgres.h"

#include "router/remote_run.h"

#include "miscadmin.h"

#include "router/prune.h"

static Bitmapset *
listed_shards(const A67Remote *remote, const A67Database *database)
{
	Bitmapset *shards = NULL;
	ListCell *cell;

	foreach(cell, remote->shard_ids)
	{
		int shard = a67_shard_index(database, lfirst_int(cell));

		if (shard < 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("a shard of virtual database \"%s\" was removed", database->name),
					 errhint("Run the statement again.")));
		shards = bms_add_member(shards, shard);
	}
	return shards;
}

/*
 * Any shard will do. A process stays with its own as long as that is well: then it needs one
 * connection, and all processes share the work.
 */
static int
any_shard(const A67Database *database)
{
	int own = MyProcPid % database->shard_count;

	for (int i = 0; i < database->shard_count; i++)
	{
		int shard = (own + i) % database->shard_count;

		if (a67_shard_is_well(&database->shards[shard]))
			return shard;
	}
	return own;
}

/*
 * The one shard of all keys. Nothing has a null key or one without a shard: then the conditions are
 * false everywhere, and any shard can say what follows from that.
 */
static Bitmapset *
shard_of_keys(const A67Remote *remote, const A67Table *table, const A67RemoteKey *keys)
{
	int found = -1;

	for (int i = 0; i < remote->key_count; i++)
	{
		int shard = keys[i].is_null ? -1 : a67_shard_of_key(table, keys[i].value, keys[i].type);

		if (shard < 0 && remote->only_rows)
			return NULL;
		if (shard >= 0 && found >= 0 && shard != found)
			ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
							errmsg("keys of one statement are on different shards"),
							errhint("Use one statement for each key.")));
		if (shard >= 0)
			found = shard;
	}
	return bms_make_singleton(found >= 0 ? found : any_shard(table->database));
}

Bitmapset *
a67_remote_shards(const A67Remote *remote, const A67Table *table, const A67RemoteKey *keys,
				  ParamListInfo params)
{
	const A67Database *database = table->database;

	switch (remote->where)
	{
		case A67_WHERE_LIST:
			return listed_shards(remote, database);
		case A67_WHERE_ANY:
			return bms_make_singleton(any_shard(database));
		case A67_WHERE_KEY:
			return shard_of_keys(remote, table, keys);
		case A67_WHERE_PRUNE:
			return bms_int_members(a67_prune(table, remote->quals, 1, params),
								   listed_shards(remote, database));
	}
	elog(ERROR, "unknown way to find shards: %d", (int) remote->where);
}

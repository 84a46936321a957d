/*
 * shard_prepare.c - the statements that were prepared on a connection.
 *
 * Found by their text and parameter types. At most PREPARED_MAX for a connection: the one that was not used for the longest
 * time is deallocated ahead of the next statement. Prepared statements outlive the remote transaction, rolled back or not.
 */
#include "postgres.h"

#include "net/shard_session.h"

#include "common/hashfn.h"
#include "utils/memutils.h"

#define PREPARED_MAX 256

static uint32 changes;

typedef struct PreparedKey
{
	const char *sql;
	int param_count;
	const Oid *param_types;
} PreparedKey;

struct A67Prepared
{
	PreparedKey key; /* first: the table's key */
	dlist_node lru;	 /* the last used is first */
	bool there;		 /* the shard has confirmed it */
	char name[24];
};

static uint32
key_hash(const void *key, Size size)
{
	const PreparedKey *k = key;

	return hash_bytes((const unsigned char *) k->sql, (int) strlen(k->sql)) ^
		   hash_bytes((const unsigned char *) k->param_types, (int) sizeof(Oid) * k->param_count);
}

static int
key_match(const void *one, const void *other, Size size)
{
	const PreparedKey *a = one;
	const PreparedKey *b = other;

	if (a->param_count != b->param_count ||
		(a->param_count > 0 &&
		 memcmp(a->param_types, b->param_types, sizeof(Oid) * a->param_count) != 0))
		return 1;
	return strcmp(a->sql, b->sql);
}

/* The text stays readable until dynahash is done with the entry. */
static void
drop(A67Link *link, A67Prepared *prepared)
{
	PreparedKey key = prepared->key;

	dlist_delete(&prepared->lru);
	hash_search(link->prepared, &key, HASH_REMOVE, NULL);
	link->prepared_count--;
	pfree(unconstify(char *, key.sql));
	if (key.param_types != NULL)
		pfree(unconstify(Oid *, key.param_types));
}

/* Its name is deallocated with the next statement. */
static void
drop_there(A67Link *link, A67Prepared *prepared)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	if (prepared->there)
		link->leftover = lappend(link->leftover, pstrdup(prepared->name));
	MemoryContextSwitchTo(old);
	drop(link, prepared);
}

static HTAB *
make_table(void)
{
	HASHCTL control = {.keysize = sizeof(PreparedKey),
					   .entrysize = sizeof(A67Prepared),
					   .hash = key_hash,
					   .match = key_match,
					   .hcxt = TopMemoryContext};

	return hash_create("a67 prepared statements of a shard", 32, &control,
					   HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
}

static PreparedKey
copy_key(const PreparedKey *key)
{
	PreparedKey copy = {.param_count = key->param_count};

	copy.sql = MemoryContextStrdup(TopMemoryContext, key->sql);
	if (key->param_count > 0)
	{
		Oid *types = MemoryContextAlloc(TopMemoryContext, sizeof(Oid) * key->param_count);

		memcpy(types, key->param_types, sizeof(Oid) * key->param_count);
		copy.param_types = types;
	}
	return copy;
}

void
a67_shard_statements_changed(void)
{
	changes++;
}

static void
start_over(A67Link *link)
{
	MemoryContext old;

	if (link->prepared_count == 0)
		return;
	a67_prepared_clear(link);
	old = MemoryContextSwitchTo(TopMemoryContext);
	link->leftover = list_make1(pstrdup("ALL"));
	MemoryContextSwitchTo(old);
}

A67Prepared *
a67_prepared(A67Link *link, const A67Statement *statement, bool *fresh)
{
	PreparedKey key = {statement->sql, statement->param_count, statement->param_types};
	A67Prepared *prepared;
	bool found;

	if (link->prepared == NULL)
		link->prepared = make_table();
	if (unlikely(link->statements != changes))
		start_over(link);
	link->statements = changes;
	prepared = hash_search(link->prepared, &key, HASH_FIND, &found);
	if (found && prepared->there)
	{
		dlist_move_head(&link->prepared_lru, &prepared->lru);
		*fresh = false;
		return prepared;
	}
	/* It was sent, but nobody read whether it arrived. */
	if (found)
		start_over(link);
	if (link->prepared_count >= PREPARED_MAX)
		drop_there(link, dlist_tail_element(A67Prepared, lru, &link->prepared_lru));
	key = copy_key(&key);
	prepared = hash_search(link->prepared, &key, HASH_ENTER, &found);
	prepared->there = false;
	snprintf(prepared->name, sizeof(prepared->name), "a67_%u", ++link->prepared_number);
	dlist_push_head(&link->prepared_lru, &prepared->lru);
	link->prepared_count++;
	*fresh = true;
	return prepared;
}

const char *
a67_prepared_name(const A67Prepared *prepared)
{
	return prepared->name;
}

void
a67_prepared_done(A67Prepared *prepared)
{
	prepared->there = true;
}

void
a67_prepared_forget(A67Link *link, A67Prepared *prepared)
{
	drop_there(link, prepared);
}

void
a67_prepared_clear(A67Link *link)
{
	while (!dlist_is_empty(&link->prepared_lru))
		drop(link, dlist_head_element(A67Prepared, lru, &link->prepared_lru));
	list_free_deep(link->leftover);
	link->leftover = NIL;
}

/*
 * insert_twice.c - refuses a row that ON CONFLICT DO UPDATE would change a second time; see insert.h.
 *
 * PostgreSQL refuses it within a statement. A shard sees one statement per batch, so what was proposed in earlier batches is remembered here:
 * 64 bits of a hash of the canonical text of the columns that decide on a conflict. (Two different rows with the same hash among millions
 * are as unlikely as they are harmless: the statement is refused.)
 */
#include "postgres.h"

#include "router/insert.h"

#include "common/hashfn.h"
#include "utils/hsearch.h"

#include "router/key.h"

struct A67InsertTwice
{
	List *columns;
	TupleDesc desc;
	HTAB *proposed; /* of uint64 */
	StringInfoData text;
};

A67InsertTwice *
a67_insert_twice(List *columns, TupleDesc desc)
{
	A67InsertTwice *twice = palloc(sizeof(A67InsertTwice));
	HASHCTL control = {.keysize = sizeof(uint64),
					   .entrysize = sizeof(uint64),
					   .hcxt = CurrentMemoryContext};

	twice->columns = columns;
	twice->desc = desc;
	twice->proposed =
		hash_create("a67 proposed rows", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	initStringInfo(&twice->text);
	return twice;
}

void
a67_insert_twice_check(A67InsertTwice *twice, const Datum *values, const bool *nulls)
{
	ListCell *lc;
	uint64 hash;
	bool found;

	resetStringInfo(&twice->text);
	foreach(lc, twice->columns)
	{
		int i = lfirst_int(lc) - 1;

		if (nulls[i])
			return; /* conflicts with nothing */
		a67_key_text(&twice->text, values[i], TupleDescAttr(twice->desc, i)->atttypid);
		appendStringInfoChar(&twice->text, '\0');
	}
	hash = hash_bytes_extended((const unsigned char *) twice->text.data, twice->text.len, 0);
	(void) hash_search(twice->proposed, &hash, HASH_ENTER, &found);
	if (found)
		ereport(ERROR,
				(errcode(ERRCODE_CARDINALITY_VIOLATION),
				 errmsg("ON CONFLICT DO UPDATE command cannot affect row a second time"),
				 errhint("Ensure that no rows proposed for insertion within the same command have "
						 "duplicate constrained values.")));
}

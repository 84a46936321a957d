/*
 * shard_address.c - reads, judges and uses connection strings; see shard_address.h.
 *
 * Rows are read straight from the tables: whoever queries a virtual table needs no right on them, and the planner is not
 * to be entered again from within an executor.
 */
#include "postgres.h"

#include "net/shard_address.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "common/hashfn.h"
#include "common/ip.h"
#include "mb/pg_wchar.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/uuid.h"

#include "core/address.h"
#include "crypto/vault.h"
#include "platform/errors.h"
#include "platform/settings.h"

#define KEYWORDS_MAX 80

/* What a connection has unless its string says something else. */
static const char *const defaults[][2] = {
	{"fallback_application_name", "a67"}, {"keepalives_idle", "30"},
	{"keepalives_interval", "10"},		  {"keepalives_count", "3"},
	{"tcp_user_timeout", "30000"},
};

/* All that a user's string may say. None of these names a file or a secret of this server. */
static const char *const allowed[] = {
	"host",
	"port",
	"dbname",
	"user",
	"password",
	"sslmode",
	"sslsni",
	"ssl_min_protocol_version",
	"ssl_max_protocol_version",
	"sslnegotiation",
	"channel_binding",
	"target_session_attrs",
	"load_balance_hosts",
	"connect_timeout",
	"application_name",
	"options",
	"keepalives",
	"keepalives_idle",
	"keepalives_interval",
	"keepalives_count",
	"tcp_user_timeout",
};

typedef struct Lookup
{
	const char *table;
	const char *key;	/* column */
	RegProcedure equal; /* its "=" */
	Datum value;
	const char *wanted; /* column */
} Lookup;

static Oid shards_relid;

Oid
a67_address_relation(void)
{
	return shards_relid;
}

static AttrNumber
column(Relation table, const char *name)
{
	AttrNumber number = get_attnum(RelationGetRelid(table), name);

	if (number == InvalidAttrNumber)
		elog(ERROR, "column \"%s\" of relation \"%s\" does not exist", name,
			 RelationGetRelationName(table));
	return number;
}

/* The wanted column of each row found, as Datums (never toasted, by reference palloc'd); nulls are left out. */
static List *
look_up(const Lookup *lookup)
{
	Oid relid = get_relname_relid(lookup->table, get_namespace_oid("a67_internal", false));
	Relation table = table_open(relid, AccessShareLock);
	AttrNumber wanted = column(table, lookup->wanted);
	AttrNumber key = column(table, lookup->key);
	int16 len = TupleDescAttr(RelationGetDescr(table), wanted - 1)->attlen;
	List *indexes = RelationGetIndexList(table);
	bool by_index = key == 1 && OidIsValid(table->rd_pkindex);
	ScanKeyData scankey;
	SysScanDesc scan;
	HeapTuple row;
	List *found = NIL;

	ScanKeyInit(&scankey, key, BTEqualStrategyNumber, lookup->equal, lookup->value);
	scan = systable_beginscan(table, by_index ? table->rd_pkindex : InvalidOid, by_index, NULL, 1,
							  &scankey);
	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		bool null;
		Datum value = heap_getattr(row, wanted, RelationGetDescr(table), &null);
		Datum *copy = palloc(sizeof(*copy));

		if (null)
			continue;
		if (len == -1)
			*copy = PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
		else
			*copy =
				datumCopy(value, len <= (int16) sizeof(Datum) && len > 0 && len != UUID_LEN, len);
		found = lappend(found, copy);
	}
	systable_endscan(scan);
	list_free(indexes);
	table_close(table, AccessShareLock);
	return found;
}

static bool
look_up_one(const Lookup *lookup, Datum *value)
{
	List *found = look_up(lookup);

	if (found == NIL)
		return false;
	*value = *(Datum *) linitial(found);
	return true;
}

/* Whether the shard's database is nobody's but the operator's. */
static bool
is_trusted(int32 shard_id)
{
	Lookup shard = {"database_shard", "shard_id", F_INT4EQ, Int32GetDatum(shard_id), "database_id"};
	Lookup database = {"database", "database_id", F_UUID_EQ, (Datum) 0, "owner_id"};
	Datum owner;

	return look_up_one(&shard, &database.value) && !look_up_one(&database, &owner);
}

static int32
shard_of_replica(int32 replica_id)
{
	Lookup lookup = {"shard_replica", "replica_id", F_INT4EQ, Int32GetDatum(replica_id),
					 "shard_id"};
	Datum shard_id;

	return look_up_one(&lookup, &shard_id) ? DatumGetInt32(shard_id) : 0;
}

void
a67_address_read(int32 shard_id, int32 replica_id, const char *name, A67ShardAddress *address)
{
	bool replica = replica_id != 0;
	Lookup lookup = {replica ? "shard_replica" : "database_shard",
					 replica ? "replica_id" : "shard_id", F_INT4EQ,
					 Int32GetDatum(replica ? replica_id : shard_id), "connection_sealed"};
	char label[64];
	Datum sealed;
	uint8 *plain;
	Size len;

	if (!look_up_one(&lookup, &sealed) || (replica && shard_of_replica(replica_id) != shard_id))
		ereport(ERROR, (errcode(A67_ERRCODE_NOT_FOUND),
						errmsg("shard \"%s\" has no connection string", name)));
	shards_relid = get_relname_relid("database_shard", get_namespace_oid("a67_internal", false));
	snprintf(label, sizeof(label), "%s.connection:%d", lookup.table,
			 replica ? replica_id : shard_id);
	plain = a67_vault_open((uint8 *) VARDATA_ANY(DatumGetPointer(sealed)),
						   VARSIZE_ANY_EXHDR(DatumGetPointer(sealed)), label, &len);
	address->connection = pnstrdup((char *) plain, len);
	explicit_bzero(plain, len);
	pfree(plain);
	address->hash = hash_bytes_extended((unsigned char *) address->connection, (int) len, 0);
	address->trusted = is_trusted(shard_id);
}

void
a67_address_wipe(A67ShardAddress *address)
{
	if (address->connection == NULL)
		return;
	explicit_bzero(address->connection, strlen(address->connection));
	pfree(address->connection);
	address->connection = NULL;
}

List *
a67_address_replicas(int32 shard_id)
{
	Lookup lookup = {"shard_replica", "shard_id", F_INT4EQ, Int32GetDatum(shard_id), "replica_id"};
	List *found = look_up(&lookup);
	List *ids = NIL;
	ListCell *cell;

	foreach(cell, found)
		ids = lappend_int(ids, DatumGetInt32(*(Datum *) lfirst(cell)));
	return ids;
}

typedef struct Parameters
{
	const char *keywords[KEYWORDS_MAX];
	const char *values[KEYWORDS_MAX];
	int count;
} Parameters;

static void
add(Parameters *parameters, const char *keyword, const char *value)
{
	Assert(parameters->count < KEYWORDS_MAX - 1);
	parameters->keywords[parameters->count] = keyword;
	parameters->values[parameters->count] = value;
	parameters->count++;
}

static const char *
value_of(const PQconninfoOption *options, const char *keyword)
{
	for (; options->keyword != NULL; options++)
		if (strcmp(options->keyword, keyword) == 0)
			return options->val != NULL && options->val[0] != '\0' ? options->val : NULL;
	return NULL;
}

static bool
is_allowed(const char *keyword)
{
	for (size_t i = 0; i < lengthof(allowed); i++)
		if (strcmp(keyword, allowed[i]) == 0)
			return true;
	return false;
}

static const char *
judge(const PQconninfoOption *options)
{
	for (const PQconninfoOption *option = options; option->keyword != NULL; option++)
		if (option->val != NULL && option->val[0] != '\0' && !is_allowed(option->keyword))
			return psprintf("Its connection string must not contain \"%s\".", option->keyword);
	if (value_of(options, "host") == NULL)
		return "Its connection string must name a host.";
	if (strpbrk(value_of(options, "host"), "/@") != NULL)
		return "Its host must be a name or an address.";
	if (value_of(options, "user") == NULL || value_of(options, "password") == NULL ||
		value_of(options, "dbname") == NULL)
		return "Its connection string must contain user, password and dbname.";
	return NULL;
}

/* Appends the public addresses of one host, and as often its name and port. */
static const char *
resolve_one(const char *host, const char *port, StringInfo lists[3])
{
	struct addrinfo hint = {.ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC};
	struct addrinfo *all = NULL;

	if (pg_getaddrinfo_all(host, NULL, &hint, &all) != 0 || all == NULL)
		return "The name of its host is not known.";
	for (struct addrinfo *one = all; one != NULL; one = one->ai_next)
	{
		char text[A67_IP_TEXT_SIZE];
		const char *comma = lists[0]->len > 0 ? "," : "";
		A67Ip ip;

		if (one->ai_family == AF_INET)
			ip = a67_ip_of_v4(&((struct sockaddr_in *) one->ai_addr)->sin_addr);
		else if (one->ai_family == AF_INET6)
			memcpy(ip.bytes, &((struct sockaddr_in6 *) one->ai_addr)->sin6_addr, A67_IP_BYTES);
		else
			continue;
		if (!a67_outbound_private && !a67_ip_is_public(&ip))
			continue;
		a67_ip_text(&ip, text);
		appendStringInfo(lists[0], "%s%s", comma, host);
		appendStringInfo(lists[1], "%s%s", comma, text);
		appendStringInfo(lists[2], "%s%s", comma, port);
	}
	pg_freeaddrinfo_all(AF_UNSPEC, all);
	return lists[0]->len > 0 ? NULL : "The address of its host is not allowed.";
}

/* The hosts of the list, each replaced by its addresses: what is judged is what is connected to. */
static const char *
resolve(const PQconninfoOption *options, Parameters *parameters)
{
	const char *ports = value_of(options, "port");
	StringInfoData text[3];
	StringInfo lists[3] = {&text[0], &text[1], &text[2]};
	char *rest = pstrdup(value_of(options, "host"));
	char *rest_of_ports = pstrdup(ports != NULL ? ports : "5432");
	char *port = strsep(&rest_of_ports, ",");
	char *host;

	for (int i = 0; i < 3; i++)
		initStringInfo(&text[i]);
	while ((host = strsep(&rest, ",")) != NULL)
	{
		const char *why = resolve_one(host, port[0] != '\0' ? port : "5432", lists);

		if (why != NULL)
			return why;
		if (rest_of_ports != NULL)
			port = strsep(&rest_of_ports, ",");
	}
	add(parameters, "host", text[0].data);
	add(parameters, "hostaddr", text[1].data);
	add(parameters, "port", text[2].data);
	/* Nothing of the server's own: no password file, no client certificate, no ticket. */
	add(parameters, "passfile", "/dev/null");
	add(parameters, "sslcert", "/dev/null/none");
	add(parameters, "gssencmode", "disable");
	return NULL;
}

static const char *
collect(const A67ShardAddress *address, const PQconninfoOption *options, Parameters *parameters)
{
	const char *why = address->trusted ? NULL : judge(options);

	for (size_t i = 0; i < lengthof(defaults); i++)
		add(parameters, defaults[i][0], defaults[i][1]);
	for (; why == NULL && options->keyword != NULL; options++)
		if (options->val != NULL && options->val[0] != '\0')
			add(parameters, options->keyword, options->val);
	return why;
}

PGconn *
a67_address_start(const A67ShardAddress *address, const char **why)
{
	Parameters parameters = {.count = 0};
	PQconninfoOption *options = PQconninfoParse(address->connection, NULL);
	PGconn *conn = NULL;

	if (options == NULL)
	{
		*why = "Its connection string cannot be read.";
		return NULL;
	}
	PG_TRY();
	{
		*why = collect(address, options, &parameters);
		/* What comes later counts. */
		if (*why == NULL && !address->trusted)
			*why = resolve(options, &parameters);
		add(&parameters, "client_encoding", GetDatabaseEncodingName());
		if (*why == NULL)
			conn = PQconnectStartParams(parameters.keywords, parameters.values, 0);
	}
	PG_FINALLY();
	{
		PQconninfoFree(options);
	}
	PG_END_TRY();
	if (*why == NULL && conn == NULL)
		*why = A67_ADDRESS_NO_MEMORY;
	if (conn != NULL)
		PQsetErrorVerbosity(conn, PQERRORS_SQLSTATE);
	return conn;
}

bool
a67_address_login_ok(const A67ShardAddress *address, PGconn *conn)
{
	return address->trusted || PQconnectionUsedPassword(conn);
}

/* libpq's message ends in the SQLSTATE, if the server sent one. */
static int
sqlstate_of_failure(const PGconn *conn)
{
	const char *text = PQerrorMessage(conn);
	size_t len = strlen(text);

	while (len > 0 && isspace((unsigned char) text[len - 1]))
		len--;
	if (len < 8 || strncmp(text + len - 8, ":  ", 3) != 0 ||
		strspn(text + len - 5, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") < 5)
		return 0;
	text += len - 5;
	return MAKE_SQLSTATE(text[0], text[1], text[2], text[3], text[4]);
}

const char *
a67_address_failure(const PGconn *conn, int *sqlstate)
{
	int code = sqlstate_of_failure(conn);

	if (code == 0 && strstr(PQerrorMessage(conn), "out of memory") != NULL)
	{
		*sqlstate = ERRCODE_OUT_OF_MEMORY;
		return A67_ADDRESS_NO_MEMORY;
	}
	*sqlstate = code;
	if (code != 0)
		return psprintf("The server answered with SQLSTATE %s.", unpack_sql_state(code));
	return "The server cannot be reached, or not in this way.";
}

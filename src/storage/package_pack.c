/*
 * package_pack.c - files given in SQL, packed as a tar.gz: the same files, the same bytes.
 *
 * Nothing but names, contents and whether a file is a program goes in: no times, no owners, entries in the
 * order that the caller gives. The format is GNU tar, which takes names as the bytes they are: pax converts
 * them, and libarchive 3.6 crashes over that in the locale C. What libarchive writes is collected in malloc'd
 * memory, because its callback must not throw; it is freed in every case.
 */
#include "postgres.h"

#include <archive.h>
#include <archive_entry.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "core/buf.h"
#include "platform/settings.h"

/*
 * libarchive calls this for entries that a format cannot hold, which we never write. Its own definition stands
 * in a file that refers to every format, and so to five more libraries; with this one the linker leaves that
 * file out of the static archive.
 */
void __archive_write_entry_filetype_unsupported(struct archive *archive,
												struct archive_entry *entry, const char *format);

void
__archive_write_entry_filetype_unsupported(struct archive *archive, struct archive_entry *entry,
										   const char *format)
{
	archive_set_error(archive, EINVAL, "%s cannot hold this entry", format);
}

typedef struct Pack
{
	struct archive *archive;
	struct archive_entry *entry;
	A67Buf out;
} Pack;

static la_ssize_t
collect(struct archive *archive, void *arg, const void *bytes, size_t len)
{
	Pack *pack = arg;

	if (a67_buf_append(&pack->out, bytes, len))
		return (la_ssize_t) len;
	archive_set_error(archive, ENOSPC, "full");
	return -1;
}

static void
check_result(const Pack *pack, int result)
{
	if (result == ARCHIVE_OK)
		return;
	if (pack->out.failed && pack->out.len > 0)
		ereport(ERROR,
				(errcode(MAKE_SQLSTATE('P', 'T', '4', '1', '3')),
				 errmsg("package is larger than %d bytes", a67_package_max_size),
				 errdetail("Field: files."), errhint("See the setting a67.package_max_size.")));
	ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not pack the files")));
}

static void
begin(Pack *pack)
{
	pack->archive = archive_write_new();
	pack->entry = archive_entry_new();
	if (pack->archive == NULL || pack->entry == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	check_result(pack, archive_write_add_filter_gzip(pack->archive));
	check_result(pack, archive_write_set_format_gnutar(pack->archive));
	check_result(pack, archive_write_set_options(pack->archive,
												 "gzip:!timestamp,gzip:compression-level=6"));
	check_result(pack, archive_write_set_bytes_in_last_block(pack->archive, 1));
	check_result(pack, archive_write_open(pack->archive, pack, NULL, collect, NULL));
}

static void
add_file(Pack *pack, const char *name, const bytea *content, bool program)
{
	size_t len = VARSIZE_ANY_EXHDR(content);

	CHECK_FOR_INTERRUPTS();
	(void) archive_entry_clear(pack->entry);
	archive_entry_set_pathname(pack->entry, name);
	archive_entry_set_filetype(pack->entry, AE_IFREG);
	archive_entry_set_perm(pack->entry, program ? 0755 : 0644);
	archive_entry_set_size(pack->entry, (la_int64_t) len);
	archive_entry_set_mtime(pack->entry, 0, 0);
	check_result(pack, archive_write_header(pack->archive, pack->entry));
	if (len > 0 && archive_write_data(pack->archive, VARDATA_ANY(content), len) != (la_ssize_t) len)
		check_result(pack, ARCHIVE_FATAL);
}

static void
end(Pack *pack)
{
	if (pack->entry != NULL)
		archive_entry_free(pack->entry);
	if (pack->archive != NULL)
		(void) archive_write_free(pack->archive);
	a67_buf_free(&pack->out);
}

/* An argument's elements, of a type of fixed length or of -1; none may be null. */
static Datum *
elements(FunctionCallInfo fcinfo, int at, Oid type, int *count)
{
	bool fixed = type == BOOLOID;
	bool *nulls;
	Datum *values;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(at), type, fixed ? 1 : -1, fixed,
					  fixed ? TYPALIGN_CHAR : TYPALIGN_INT, &values, &nulls, count);
	for (int i = 0; i < *count; i++)
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("file must not be null")));
	return values;
}

PG_FUNCTION_INFO_V1(a67_sql_package_pack);

/* _package_pack(names text[], contents bytea[], programs boolean[]) returns bytea; strict. */
Datum
a67_sql_package_pack(PG_FUNCTION_ARGS)
{
	int counts[3];
	Datum *names = elements(fcinfo, 0, TEXTOID, &counts[0]);
	Datum *contents = elements(fcinfo, 1, BYTEAOID, &counts[1]);
	Datum *programs = elements(fcinfo, 2, BOOLOID, &counts[2]);
	Pack pack = {0};
	bytea *packed = NULL;

	if (counts[0] != counts[1] || counts[0] != counts[2])
		elog(ERROR, "arrays differ in length");
	a67_buf_init(&pack.out, (size_t) a67_package_max_size);
	PG_TRY();
	{
		begin(&pack);
		for (int i = 0; i < counts[0]; i++)
			add_file(&pack, TextDatumGetCString(names[i]), DatumGetByteaPP(contents[i]),
					 DatumGetBool(programs[i]));
		check_result(&pack, archive_write_close(pack.archive));
		packed = palloc(VARHDRSZ + pack.out.len);
		SET_VARSIZE(packed, VARHDRSZ + pack.out.len);
		memcpy(VARDATA(packed), pack.out.data, pack.out.len);
	}
	PG_FINALLY();
	{
		end(&pack);
	}
	PG_END_TRY();
	PG_RETURN_BYTEA_P(packed);
}

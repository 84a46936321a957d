/*
 * package_check.c - is this a package that agents would unpack? SQL face of the check of uploads.
 *
 * Reads the tar.gz once, keeps nothing of it, and refuses what the agent's unpacking refuses, by the same
 * rules (core/package_path.h): names and links that lead out, devices, encrypted entries, entries that
 * collide, too many files or bytes. So an owner is told at once, not by a failed replica. libarchive has
 * no callbacks here; its reader is freed in every case.
 */
#include "postgres.h"

#include <archive.h>
#include <archive_entry.h>

#include "common/hashfn.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "core/package_path.h"

typedef enum PathKind
{
	PATH_DIRECTORY,
	PATH_FILE,
	PATH_LINK
} PathKind;

/* What is at a path of the archive so far. */
typedef struct PathEntry
{
	const char *path; /* key */
	PathKind kind;
} PathEntry;

typedef struct Check
{
	struct archive *archive;
	HTAB *paths;
	MemoryContext context; /* of paths */
	int64 files;
	int64 bytes;
} Check;

static uint32
path_hash(const void *key, Size size)
{
	const char *path = *(const char *const *) key;

	return hash_bytes((const unsigned char *) path, (int) strlen(path));
}

static int
path_compare(const void *a, const void *b, Size size)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

static HTAB *
make_paths(MemoryContext context)
{
	HASHCTL control;

	memset(&control, 0, sizeof(control));
	control.keysize = sizeof(const char *);
	control.entrysize = sizeof(PathEntry);
	control.hash = path_hash;
	control.match = path_compare;
	control.hcxt = context;
	return hash_create("a67 package paths", 256, &control,
					   HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
}

pg_attribute_noreturn() static void refuse(const char *path, const char *fault);

static void
refuse(const char *path, const char *fault)
{
	/* Names of an archive may be of any bytes; what is not UTF-8 must not reach a message. */
	if (!pg_verifymbstr(path, (int) strlen(path), true))
		path = "?";
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("package refused: \"%.120s\" %s", path, fault), errdetail("Field: content.")));
	pg_unreachable();
}

pg_attribute_noreturn() static void damaged(void);

static void
damaged(void)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("package is not a tar.gz archive, or is damaged"),
					errdetail("Field: content.")));
	pg_unreachable();
}

static PathEntry *
find_path(const Check *check, const char *path)
{
	return hash_search(check->paths, &path, HASH_FIND, NULL);
}

static void
add_path(const Check *check, const char *path, PathKind kind)
{
	const char *key;
	PathEntry *entry;

	/* Directories that no entry names count too: a short archive could name very many of them. */
	if (hash_get_num_entries(check->paths) >= A67_PACKAGE_MAX_FILES)
		refuse(path, "makes the package have too many files");
	key = MemoryContextStrdup(check->context, path);
	entry = hash_search(check->paths, &key, HASH_ENTER, NULL);
	entry->kind = kind;
}

/* The directories above a path, real ones only, as unpacking makes them. */
static void
add_parents(const Check *check, const char *path)
{
	char parent[A67_PACKAGE_MAX_PATH];

	for (const char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/'))
	{
		PathEntry *entry;

		strlcpy(parent, path, (size_t) (slash - path) + 1);
		entry = find_path(check, parent);
		if (entry == NULL)
			add_path(check, parent, PATH_DIRECTORY);
		else if (entry->kind != PATH_DIRECTORY)
			refuse(path, "collides with another entry");
	}
}

/* libarchive has no multibyte form of a pax name that the locale cannot hold; the UTF-8 form is there. */
static const char *
either(const char *name, const char *utf8)
{
	return name != NULL ? name : utf8;
}

static void
check_hard_link(const Check *check, const char *path, const char *target)
{
	char normal[A67_PACKAGE_MAX_PATH];
	const PathEntry *entry;

	if (!a67_package_path(target, normal) || normal[0] == '\0')
		refuse(path, "is a link that leads out of the package");
	entry = find_path(check, normal);
	if (entry == NULL || entry->kind != PATH_FILE)
		refuse(path, "is a link to nothing");
}

/* What kind of entry it is, when it is one that may be there. */
static PathKind
judge_entry(const Check *check, struct archive_entry *entry, const char *path)
{
	const char *hard = either(archive_entry_hardlink(entry), archive_entry_hardlink_utf8(entry));

	if (archive_entry_is_encrypted(entry))
		refuse(path, "is encrypted");
	if (hard != NULL)
	{
		check_hard_link(check, path, hard);
		return PATH_FILE;
	}
	switch (archive_entry_filetype(entry))
	{
		case AE_IFREG:
			if (check->bytes + archive_entry_size(entry) > A67_PACKAGE_MAX_BYTES)
				refuse(path, "makes the package too large");
			return PATH_FILE;
		case AE_IFDIR:
			return PATH_DIRECTORY;
		case AE_IFLNK:
			if (!a67_package_link_inside(path, either(archive_entry_symlink(entry),
													  archive_entry_symlink_utf8(entry))))
				refuse(path, "is a link that leads out of the package");
			return PATH_LINK;
		default:
			refuse(path, "is neither file, directory nor link");
	}
}

/* Reads the content of the entry to its end; holes count as content. */
static void
read_content(Check *check, const char *path)
{
	int64 written = 0;

	for (;;)
	{
		const void *bytes;
		size_t len;
		la_int64_t offset;
		int result = archive_read_data_block(check->archive, &bytes, &len, &offset);

		CHECK_FOR_INTERRUPTS();
		if (result == ARCHIVE_EOF)
			break;
		if (result != ARCHIVE_OK || offset < 0)
			damaged();
		written = Max(written, offset + (int64) len);
		if (check->bytes + written > A67_PACKAGE_MAX_BYTES)
			refuse(path, "makes the package too large");
	}
	check->bytes += written;
}

static void
check_entry(Check *check, struct archive_entry *entry)
{
	const char *name = either(archive_entry_pathname(entry), archive_entry_pathname_utf8(entry));
	char path[A67_PACKAGE_MAX_PATH];
	PathEntry *there;
	PathKind kind;

	if (++check->files > A67_PACKAGE_MAX_FILES)
		refuse(name != NULL ? name : "?", "makes the package have too many files");
	if (!a67_package_path(name, path))
		refuse(name != NULL ? name : "?", "is not a safe relative name");
	kind = judge_entry(check, entry, path);
	if (path[0] == '\0')
	{
		if (kind != PATH_DIRECTORY)
			refuse(".", "is no directory");
		return;
	}
	add_parents(check, path);
	there = find_path(check, path);
	if (there == NULL)
		add_path(check, path, kind);
	else if (kind != PATH_DIRECTORY || there->kind != PATH_DIRECTORY)
		refuse(path, "collides with another entry");
	read_content(check, path);
}

static void
check_archive(Check *check, const char *content, size_t len)
{
	struct archive_entry *entry;
	int result;

	if (archive_read_support_filter_gzip(check->archive) != ARCHIVE_OK ||
		archive_read_support_format_tar(check->archive) != ARCHIVE_OK ||
		archive_read_open_memory(check->archive, content, len) != ARCHIVE_OK)
		damaged();
	while ((result = archive_read_next_header(check->archive, &entry)) == ARCHIVE_OK ||
		   result == ARCHIVE_WARN)
		check_entry(check, entry);
	if (result != ARCHIVE_EOF)
		damaged();
	if (archive_filter_code(check->archive, 0) != ARCHIVE_FILTER_GZIP)
		damaged();
	if (check->files == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("package is empty"),
						errdetail("Field: content.")));
}

PG_FUNCTION_INFO_V1(a67_sql_package_check);

/* _package_check(content bytea, OUT files integer, OUT unpacked_bytes bigint); strict; raises 22023. */
Datum
a67_sql_package_check(PG_FUNCTION_ARGS)
{
	bytea *content = PG_GETARG_BYTEA_PP(0);
	Check check;
	TupleDesc desc;
	Datum values[2];
	bool nulls[2] = {false, false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	memset(&check, 0, sizeof(check));
	check.context =
		AllocSetContextCreate(CurrentMemoryContext, "a67 package paths", ALLOCSET_DEFAULT_SIZES);
	check.paths = make_paths(check.context);
	check.archive = archive_read_new();
	if (check.archive == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	PG_TRY();
	{
		check_archive(&check, VARDATA_ANY(content), VARSIZE_ANY_EXHDR(content));
	}
	PG_FINALLY();
	{
		(void) archive_read_free(check.archive);
	}
	PG_END_TRY();
	MemoryContextDelete(check.context);
	values[0] = Int32GetDatum((int32) check.files);
	values[1] = Int64GetDatum(check.bytes);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

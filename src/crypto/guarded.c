/*
 * guarded.c - maps, locks and excludes pages from core files.  See guarded.h.
 *
 * Anonymous shared mappings are kept across fork and lost by exec, so programs that the server starts
 * (archive_command and the like) do not have them.
 */
#include "postgres.h"

#include "crypto/guarded.h"

#include <sodium.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "miscadmin.h"

void *
a67_guarded_map(Size size)
{
	Size page = (Size) sysconf(_SC_PAGESIZE);
	Size whole = TYPEALIGN(page, size);
	void *pages = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	Assert(!IsUnderPostmaster);
	if (pages == MAP_FAILED)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not map memory for keys: %m")));
	if (mlock(pages, whole) != 0)
		ereport(LOG, (errmsg("could not lock the memory of keys: %m"),
					  errdetail("Keys may be written to swap space."),
					  errhint("Raise the limit of locked memory (ulimit -l, LimitMEMLOCK).")));
	if (madvise(pages, whole, MADV_DONTDUMP) != 0)
		ereport(LOG, (errmsg("could not exclude the memory of keys from core files: %m")));
	return pages;
}

void
a67_crypto_init(void)
{
	if (sodium_init() < 0)
		ereport(ERROR, (errcode(ERRCODE_SYSTEM_ERROR), errmsg("could not initialize libsodium")));
	if (IsUnderPostmaster)
		a67_secret_process();
}

void
a67_secret_process(void)
{
	static pid_t done;

	/* Inherited by fork, but the postmaster never calls this; a pid keeps that from mattering. */
	if (done == MyProcPid)
		return;
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
		ereport(LOG, (errmsg("could not forbid core files of this process: %m")));
	done = MyProcPid;
}

/*
 * query_limit.c - a bound for the memory that one statement may take.
 *
 * By the operating system: beyond it malloc() fails, which PostgreSQL turns into an error of the statement. On systems that do not tell
 * how much a process has, there is none. One bound at a time in a process; a process that ends lifts it, as ending takes memory.
 */
#include "postgres.h"

#include "router/query.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "storage/ipc.h"

static bool capped;
static rlim_t former; /* soft limit */

/* Bytes of private data, by Linux's /proc; 0 when unknown. */
static uint64
data_bytes(void)
{
	char line[256];
	unsigned long long pages = 0;
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	ssize_t len;

	if (fd < 0)
		return 0;
	len = read(fd, line, sizeof(line) - 1);
	(void) close(fd);
	if (len <= 0)
		return 0;
	line[len] = '\0';
	if (sscanf(line, "%*u %*u %*u %*u %*u %llu", &pages) != 1)
		return 0;
	return (uint64) pages * (uint64) sysconf(_SC_PAGESIZE);
}

static void
uncap_at_exit(int code, Datum arg)
{
	a67_memory_uncap();
}

void
a67_memory_cap(int64 bytes)
{
	static bool registered;
	struct rlimit limit;
	uint64 used = data_bytes();
	uint64 wanted = used + (uint64) bytes;

	if (!registered)
		before_shmem_exit(uncap_at_exit, (Datum) 0);
	registered = true;
	if (used == 0 || capped || getrlimit(RLIMIT_DATA, &limit) != 0)
		return;
	/* One that the operator has set stays when it is lower. */
	if (limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur <= wanted)
		return;
	former = limit.rlim_cur;
	limit.rlim_cur = (rlim_t) wanted;
	capped = setrlimit(RLIMIT_DATA, &limit) == 0;
}

void
a67_memory_uncap(void)
{
	struct rlimit limit;

	if (!capped || getrlimit(RLIMIT_DATA, &limit) != 0)
		return;
	limit.rlim_cur = former;
	(void) setrlimit(RLIMIT_DATA, &limit);
	capped = false;
}

/*
 * agent_log_test.c - log files that give up their heads: offsets, holes, records, what is counted.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "applog.h"
#include "core/pace.h"
#include "unit.h"

#define ID	  "2f0a0c1e-7d2b-4a53-9a53-0e9c1f4a6b11"
#define CHUNK (1024 * 1024)

static A67StateDir dir;
static char path[] = "/tmp/a67-unit-log-XXXXXX";

static void
clean_up(void)
{
	a67_applog_remove(&dir, ID);
	(void) unlinkat(dir.fd, "logs", AT_REMOVEDIR);
	(void) rmdir(path);
}

static void
setup(void)
{
	if (dir.fd == 0)
	{
		REQUIRE(mkdtemp(path) != NULL && atexit(clean_up) == 0);
		dir.fd = open(path, O_RDONLY | O_DIRECTORY);
	}
	(void) mkdirat(dir.fd, "logs", 0700);
	a67_applog_remove(&dir, ID);
}

/* Writes `chunks` MB, each full of its number. */
static void
write_chunks(int first, int chunks)
{
	char *chunk = malloc(CHUNK);
	int fd = a67_applog_open(&dir, ID);

	CHECK(fd >= 0);
	for (int i = first; i < first + chunks; i++)
	{
		memset(chunk, 'a' + i, CHUNK);
		CHECK_INT(write(fd, chunk, CHUNK), CHUNK);
	}
	(void) close(fd);
	free(chunk);
}

static int64_t
blocks(void)
{
	struct stat st;

	CHECK(fstatat(dir.fd, "logs/" ID ".log", &st, 0) == 0);
	return (int64_t) st.st_blocks * 512;
}

static char
byte_at(const A67AppLog *log, int64_t offset)
{
	char byte = '?';
	int fd = a67_applog_open_read(&dir, ID);

	CHECK_INT(a67_applog_read(log, fd, offset, &byte, 1), 1);
	(void) close(fd);
	return byte;
}

static void
offsets_stay_while_the_head_goes(void)
{
	A67AppLog log;
	A67AppLog next;
	char byte;
	int fd;

	setup();
	a67_applog_load(&dir, &log, ID);
	CHECK(!a67_applog_look(&dir, &log, 1000));
	write_chunks(0, 4);
	CHECK(a67_applog_look(&dir, &log, 2000));
	CHECK_INT(log.end, 4 * CHUNK);
	CHECK(!a67_applog_trim(&dir, &log, 1000));
	CHECK(a67_applog_trim(&dir, &log, 2 * CHUNK + 5));
	CHECK_INT(log.start, 2 * CHUNK);
	CHECK_INT(a67_applog_dropped(&log), 2 * CHUNK);
	CHECK(blocks() <= 2 * CHUNK + 65536);
	CHECK_INT(byte_at(&log, 2 * CHUNK), 'c');
	fd = a67_applog_open_read(&dir, ID);
	CHECK_INT(a67_applog_read(&log, fd, 2 * CHUNK - 1, &byte, 1), -ESTALE);
	CHECK_INT(a67_applog_read(&log, fd, log.end, &byte, 1), 0);
	(void) close(fd);
	a67_applog_load(&dir, &next, ID);
	CHECK_INT(next.start, log.start);
	CHECK_INT(next.end, log.end);
	CHECK_INT(a67_applog_dropped(&next), 2 * CHUNK);
}

static void
only_what_nobody_had_is_counted(void)
{
	A67AppLog log;

	setup();
	write_chunks(0, 6);
	a67_applog_load(&dir, &log, ID);
	a67_applog_ack(&dir, &log, CHUNK);
	CHECK(a67_applog_trim(&dir, &log, 2 * CHUNK));
	CHECK_INT(a67_applog_dropped(&log), CHUNK);
	/* On its way while its place is given up: it has not been lost. What lies in front of it has been. */
	log.sent_from = 2 * CHUNK;
	log.sent_to = 3 * CHUNK;
	CHECK_INT(a67_applog_dropped(&log), CHUNK);
	CHECK(a67_applog_trim(&dir, &log, 4 * CHUNK));
	CHECK_INT(a67_applog_dropped(&log), 2 * CHUNK);
	a67_applog_ack(&dir, &log, 3 * CHUNK);
	log.sent_to = 0;
	CHECK_INT(log.dropped, CHUNK);
	CHECK_INT(a67_applog_dropped(&log), 2 * CHUNK);
	a67_applog_load(&dir, &log, ID);
	CHECK_INT(a67_applog_dropped(&log), 2 * CHUNK);
}

static void
without_holes_the_file_is_cut(void)
{
	A67AppLog log;
	A67AppLog next;

	setup();
	write_chunks(0, 3);
	a67_applog_load(&dir, &log, ID);
	a67_applog_ack(&dir, &log, CHUNK);
	log.no_holes = true;
	CHECK(a67_applog_trim(&dir, &log, 2 * CHUNK));
	CHECK_INT(log.start, 3 * CHUNK);
	CHECK_INT(a67_applog_dropped(&log), 2 * CHUNK);
	write_chunks(5, 1);
	CHECK(a67_applog_look(&dir, &log, 1000));
	CHECK_INT(log.end, 4 * CHUNK);
	CHECK_INT(byte_at(&log, 3 * CHUNK), 'f');
	a67_applog_load(&dir, &next, ID);
	CHECK_INT(next.end, 4 * CHUNK);
	CHECK_INT(byte_at(&next, 3 * CHUNK), 'f');
}

static void
a_file_that_somebody_cut(void)
{
	A67AppLog log;

	setup();
	write_chunks(0, 2);
	a67_applog_load(&dir, &log, ID);
	CHECK(a67_applog_look(&dir, &log, 1) == false);
	{
		int fd = openat(dir.fd, "logs/" ID ".log", O_WRONLY | O_TRUNC);

		(void) close(fd);
	}
	write_chunks(4, 1);
	(void) a67_applog_look(&dir, &log, 2);
	CHECK_INT(log.start, 2 * CHUNK);
	CHECK_INT(log.end, 3 * CHUNK);
	CHECK_INT(byte_at(&log, 2 * CHUNK), 'e');
}

static void
offsets_go_on_where_the_controller_is(void)
{
	A67AppLog log;

	/* Never shipped: all of it is new. */
	setup();
	write_chunks(0, 1);
	a67_applog_load(&dir, &log, ID);
	a67_applog_ack(&dir, &log, 10 * CHUNK);
	CHECK_INT(log.start, 10 * CHUNK);
	CHECK_INT(log.end, 11 * CHUNK);
	CHECK_INT(byte_at(&log, 10 * CHUNK), 'a');
	/* Shipped, then lost by the disk: what is there is known. */
	a67_applog_ack(&dir, &log, 11 * CHUNK);
	a67_applog_ack(&dir, &log, 20 * CHUNK);
	CHECK_INT(log.end, 20 * CHUNK);
	a67_applog_load(&dir, &log, ID);
	CHECK_INT(log.end, 20 * CHUNK);
	CHECK_INT(log.acked, 20 * CHUNK);
}

static void
records_that_cannot_be_read(void)
{
	static const char *const broken[] = {
		"",
		"a67log 1 1 2 3",
		"a67log 2 0 0 0 0\n",
		"a67log 1 -1 0 0 0\n",
		"a67log 1 5 3 0 0\n",
		"\xff\xfe",
	};

	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++)
	{
		A67AppLog log;
		int fd;

		setup();
		write_chunks(0, 1);
		fd = openat(dir.fd, "logs/" ID ".pos", O_WRONLY | O_CREAT | O_TRUNC, 0600);
		CHECK_INT(write(fd, broken[i], strlen(broken[i])), (long) strlen(broken[i]));
		(void) close(fd);
		a67_applog_load(&dir, &log, ID);
		CHECK_INT(log.start, 0);
		CHECK_INT(log.end, CHUNK);
		CHECK_INT(log.acked, 0);
	}
}

static void
times(void)
{
	A67AppLog log;

	setup();
	a67_applog_load(&dir, &log, ID);
	write_chunks(0, 1);
	CHECK(a67_applog_look(&dir, &log, 10000));
	write_chunks(1, 1);
	CHECK(a67_applog_look(&dir, &log, 20000));
	CHECK_INT(a67_applog_seen_ms(&log, 0), 10000);
	CHECK_INT(a67_applog_seen_ms(&log, CHUNK), 20000);
	CHECK_INT(a67_applog_since(&log, 5000), 0);
	CHECK_INT(a67_applog_since(&log, 15000), 0);
	CHECK_INT(a67_applog_since(&log, 20001), 2 * CHUNK);
	for (int i = 0; i < 200; i++)
	{
		int fd = a67_applog_open(&dir, ID);

		CHECK_INT(write(fd, "x", 1), 1);
		(void) close(fd);
		CHECK(a67_applog_look(&dir, &log, 30000 + i * 1000));
	}
	CHECK(log.mark_count <= A67_LOG_MARKS);
	CHECK_INT(a67_applog_seen_ms(&log, log.end - 1), 229000);
	CHECK(a67_applog_since(&log, 228500) >= log.end - 3);
	/* Whatever was merged: nothing written at or after the time is left out. */
	for (int i = 0; i < 200; i++)
		CHECK(a67_applog_since(&log, 30000 + i * 1000) <= 2 * CHUNK + i);
}

static void
tail_and_notes(void)
{
	A67Buf out;

	setup();
	a67_buf_init(&out, 100);
	CHECK(a67_applog_tail(&dir, ID, 10, &out) == -ENOENT);
	a67_applog_note(&dir, ID, "process was killed by signal 9");
	CHECK_INT(a67_applog_tail(&dir, ID, 9, &out), 0);
	CHECK_STR(a67_buf_text(&out), "signal 9\n");
	a67_buf_free(&out);
}

UNIT_MAIN("agent_log", UNIT(offsets_stay_while_the_head_goes),
		  UNIT(only_what_nobody_had_is_counted), UNIT(without_holes_the_file_is_cut),
		  UNIT(a_file_that_somebody_cut), UNIT(offsets_go_on_where_the_controller_is),
		  UNIT(records_that_cannot_be_read), UNIT(times), UNIT(tail_and_notes));

/*
 * proxystat_test.c - what HAProxy says of itself: several processes, columns in any order, quotes, numbers that are
 * none, lines that were cut.
 */
#include "core/proxystat.h"

#include "unit.h"

#define HEADER \
	"# pxname,svname,qcur,scur,slim,stot,dreq,econ,eresp,wretr,wredis,status,weight,type,hrsp_5xx,ctime,rtime,addr,\n"

static A67ProxyReader reader;
static A67ProxyRow row;

static bool
same(A67ProxyText text, const char *word)
{
	return text.len == strlen(word) && memcmp(text.text, word, text.len) == 0;
}

static void
begin(const char *text)
{
	a67_proxy_reader_init(&reader, text, strlen(text));
}

static void
a_process_and_its_servers(void)
{
	begin(
		"Name: HAProxy\nVersion: 2.6\nPid: 4711\nStart_time_sec: 1700000000\ndescription: a67-ab\n"
		"Stopping: 0\n\n" HEADER "f,FRONTEND,,3,4000,9,0,,,,,OPEN,,0,1,,,\n"
		"b1,s1,2,1,77,50,,3,4,5,6,UP,13,2,7,8,9,127.0.0.1:80,\n"
		"b1,BACKEND,20,3,400,60,11,0,0,0,0,UP,13,1,7,8,9,,\n\n");
	REQUIRE(a67_proxy_next(&reader, &row));
	CHECK_INT(row.kind, A67_PROXY_PROCESS);
	CHECK_INT(reader.process.pid, 4711);
	CHECK_INT(reader.process.started, 1700000000);
	CHECK(!reader.process.stopping);
	CHECK_STR(reader.process.description, "a67-ab");
	REQUIRE(a67_proxy_next(&reader, &row));
	CHECK_INT(row.kind, A67_PROXY_SERVER);
	CHECK(same(row.backend, "b1") && same(row.server, "s1") && same(row.status, "UP"));
	CHECK(same(row.address, "127.0.0.1:80"));
	CHECK_INT(row.weight, 13);
	CHECK_INT(row.limit, 77);
	CHECK_INT(row.sessions, 1);
	CHECK_INT(row.queued, 2);
	CHECK_INT(row.requests, 50);
	CHECK_INT(row.failures, 7 + 3 + 4 + 6); /* retries and redispatches are the same ones */
	CHECK_INT(row.latency_ms, 17);
	REQUIRE(a67_proxy_next(&reader, &row));
	CHECK_INT(row.kind, A67_PROXY_BACKEND);
	CHECK_INT(row.refused, 11);
	CHECK_INT(row.queued, 20);
	CHECK(!a67_proxy_next(&reader, &row));
}

static void
several_processes_are_kept_apart(void)
{
	begin("Name: HAProxy\nPid: 1\nStart_time_sec: 5\nStopping: 1\ndescription: old\n\n" HEADER
		  "b,s,,,,1,,,,,,DRAIN,,2,,,,,\n\nName: HAProxy\nPid: 2\n\n" HEADER
		  "b,s,,,,2,,,,,,UP,,2,,,,,\n");
	CHECK(a67_proxy_next(&reader, &row) && reader.process.pid == 1 && reader.process.stopping);
	CHECK(a67_proxy_next(&reader, &row) && row.requests == 1);
	CHECK(a67_proxy_next(&reader, &row) && reader.process.pid == 2 && !reader.process.stopping);
	CHECK_STR(reader.process.description, "");
	CHECK_INT(reader.process.started, 0);
	CHECK(a67_proxy_next(&reader, &row) && row.requests == 2);
	CHECK(!a67_proxy_next(&reader, &row));
}

static void
columns_are_found_by_name(void)
{
	begin("# type,unknown,svname,stot,pxname\n2,x,\"a,\"\"b\",3,p\r\n");
	CHECK(a67_proxy_next(&reader, &row));
	REQUIRE(a67_proxy_next(&reader, &row));
	CHECK(same(row.server, "a,\"\"b") && same(row.backend, "p"));
	CHECK_INT(row.requests, 3);
	CHECK_INT(row.weight, 0);
}

static void
failures_are_requests_too(void)
{
	begin(HEADER "b,s,,,,1,,1,,3,3,DOWN,,2,,,,,\n");
	CHECK(a67_proxy_next(&reader, &row));
	CHECK(a67_proxy_next(&reader, &row));
	CHECK_INT(row.failures, 1);
}

static void
numbers_that_are_none(void)
{
	begin(HEADER "b,s,-1,1x,99999999999999999999,9223372036854775807,,,9223372036854775807,,,UP,,2,"
				 "9223372036854775807,9223372036854775807,9223372036854775807,,\n");
	CHECK(a67_proxy_next(&reader, &row));
	REQUIRE(a67_proxy_next(&reader, &row));
	CHECK_INT(row.queued, 0);
	CHECK_INT(row.sessions, 0);
	CHECK_INT(row.limit, INT64_MAX);
	CHECK_INT(row.failures, INT64_MAX);
	CHECK_INT(row.latency_ms, INT64_MAX);
}

static void
lines_that_say_nothing(void)
{
	const char *const texts[] = {
		"",
		"\n\n\n",
		"Pid",
		"Pid:",
		"# ",
		"# \n,,,\n",
		HEADER "b\n",
		HEADER "b,s,1,1,1,1,1,1,1,1,1,UP,1,4,,,,,\n",
		HEADER ",s,,,,,,,,,,UP,,2,,,,,\n",
		"b,s,,,,,,,,,,UP,,2,,,,,\n",
		"description: 0123456789012345678901234567890123456789012345678901234567890123456789\n",
		"Unknown command, but maybe one of the following ones is a better match:\n",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
	{
		begin(texts[i]);
		while (a67_proxy_next(&reader, &row))
			CHECK_INT(row.kind, A67_PROXY_PROCESS);
		CHECK_STR(reader.process.description, "");
	}
}

static uint64_t
digest(const char *text)
{
	return a67_proxy_digest(text, strlen(text));
}

static void
the_digest_is_of_what_is_read(void)
{
	const char *one = "Name: HAProxy\nPid: 4\nUptime_sec: 5\n\n" HEADER
					  "b,s,1,2,3,4,5,,6,7,8,UP,1,2,7,8,9,a:1,\n";
	const char *const others[] = {
		"",
		"Name: HAProxy\nPid: 4\nStopping: 1\n\n" HEADER "b,s,1,2,3,4,5,,6,7,8,UP,1,2,7,8,9,a:1,\n",
		"Name: HAProxy\nPid: 5\n\n" HEADER "b,s,1,2,3,4,5,,6,7,8,UP,1,2,7,8,9,a:1,\n",
		"Name: HAProxy\nPid: 4\ndescription: x\n\n" HEADER
		"b,s,1,2,3,4,5,,6,7,8,UP,1,2,7,8,9,a:1,\n",
		"Name: HAProxy\nPid: 4\n\n" HEADER,
		"Name: HAProxy\nPid: 4\n\n" HEADER "bs,,1,2,3,4,5,,6,7,8,UP,1,2,7,8,9,a:1,\n",
		"Name: HAProxy\nPid: 4\n\n" HEADER "b,s,1,2,3,4,5,,6,7,8,DOWN,1,2,7,8,9,a:1,\n",
		"Name: HAProxy\nPid: 4\n\n" HEADER "b,s,2,2,3,4,5,,6,7,8,UP,1,2,7,8,9,a:1,\n",
		"Name: HAProxy\nPid: 4\n\n" HEADER "b,s,1,2,3,4,5,,6,7,8,UP,1,2,7,8,9,a:2,\n",
	};

	CHECK(digest(one) == digest("Name: HAProxy\nPid: 4\nUptime_sec: 6\n\n" HEADER
								"b,s,1,2,3,4,5,,6,7,8,UP,1,2,7,8,9,a:1,\n"));
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		CHECK(digest(one) != digest(others[i]));
}

static void
any_cut_is_survived(void)
{
	const char *text =
		"Name: HAProxy\nPid: 4\n\n" HEADER "b,\"s,\"\"\",2,1,7,5,,3,4,5,6,UP,1,2,7,8,9,a:1,\n";

	for (size_t len = 0; len <= strlen(text); len++)
	{
		char *copy = malloc(len + 1);

		REQUIRE(copy != NULL);
		memcpy(copy, text, len);
		a67_proxy_reader_init(&reader, copy, len);
		while (a67_proxy_next(&reader, &row))
			;
		free(copy);
	}
}

UNIT_MAIN("proxystat", UNIT(a_process_and_its_servers), UNIT(several_processes_are_kept_apart),
		  UNIT(columns_are_found_by_name), UNIT(failures_are_requests_too),
		  UNIT(numbers_that_are_none), UNIT(lines_that_say_nothing),
		  UNIT(the_digest_is_of_what_is_read), UNIT(any_cut_is_survived));

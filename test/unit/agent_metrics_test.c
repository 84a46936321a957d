/*
 * agent_metrics_test.c - what the agent reads of its machine, from files made for the purpose.
 */
#include "metrics.h"

#include <unistd.h>

#include "unit.h"

#define HEADING                                                                      \
	"Inter-|   Receive                                                |  Transmit\n" \
	" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs\n"

static int64_t
network_of(const char *text)
{
	char path[] = "/tmp/a67-net-XXXXXX";
	int fd = mkstemp(path);
	int64_t bytes;

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t) strlen(text))
		return -2;
	(void) close(fd);
	bytes = a67_metrics_network(path);
	(void) unlink(path);
	return bytes;
}

static void
interfaces_are_added_up(void)
{
	CHECK_INT(network_of(HEADING "  eth0: 1000 2 0 0 0 0 0 0 500 3 0 0 0 0 0 0\n"
								 "wlan0:7 2 0 0 0 0 0 0 5 3 0 0 0 0 0 0\n"),
			  1512);
	CHECK_INT(network_of(HEADING "eth0.5:1: 1 2 0 0 0 0 0 0 2 3 0 0 0 0 0 0\n"), 3);
}

static void
loopback_is_not_counted(void)
{
	CHECK_INT(network_of(HEADING "    lo: 1000 2 0 0 0 0 0 0 1000 3 0 0 0 0 0 0\n"
								 "  lo0: 1 2 0 0 0 0 0 0 2 3 0 0 0 0 0 0\n"),
			  3);
}

static void
nonsense_is_nothing(void)
{
	CHECK_INT(a67_metrics_network("/nonexistent/dev"), -1);
	CHECK_INT(a67_metrics_network("/"), 0);
	CHECK_INT(network_of(""), 0);
	CHECK_INT(network_of(HEADING), 0);
	CHECK_INT(network_of("eth0: 1 2 3\neth1 1 2 0 0 0 0 0 0 2\neth2:\n:\n::\n"), 0);
	CHECK_INT(network_of("eth0: x 2 0 0 0 0 0 0 2 3 0\n"), 0);
	/* A line that was cut off. */
	CHECK_INT(network_of("eth0: 5 2 0 0 0 0 0 0 6"), 11);
}

/* A counter that has run over must not look like "not known". */
static void
the_largest_counters_stay_positive(void)
{
	CHECK(network_of("eth0: 18446744073709551615 0 0 0 0 0 0 0 0 0 0\n") >= 0);
	CHECK(network_of("eth0: 9223372036854775807 0 0 0 0 0 0 0 9 0 0\n") >= 0);
}

static void
this_machine_has_numbers(void)
{
	A67Metrics metrics = {0};
	A67Sample sample;

	a67_metrics_sample(&metrics, "/", 1000, &sample);
	CHECK(sample.memory_total_bytes > 0 && sample.memory_free_bytes > 0);
	CHECK(sample.memory_free_bytes <= sample.memory_total_bytes);
	CHECK(sample.uptime_s > 0 && sample.load1 >= 0);
	CHECK(sample.network_bytes >= -1);
}

UNIT_MAIN("agent_metrics", UNIT(interfaces_are_added_up), UNIT(loopback_is_not_counted),
		  UNIT(nonsense_is_nothing), UNIT(the_largest_counters_stay_positive),
		  UNIT(this_machine_has_numbers));

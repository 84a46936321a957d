/*
 * agent_metrics_test.c - what the agent reads of its machine and of its applications, from files made for the purpose.
 */
#include "metrics.h"

#include <ftw.h>
#include <unistd.h>

#include "metrics_fixture.h"
#include "unit.h"
#include "usage.h"

#define HEADING                                                                      \
	"Inter-|   Receive                                                |  Transmit\n" \
	" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs\n"

/* The first look at the machine that was made. */
static A67Sample
look(void)
{
	A67Metrics metrics;

	a67_metrics_init(&metrics, fixture_root, "/", 1000);
	return metrics.last;
}

/* ---- network ---- */

static A67Sample
network_of(const char *text)
{
	A67Sample sample = {0};

	if (fixture_begin())
	{
		fixture_write("/proc/net/dev", text);
		sample = look();
	}
	fixture_end();
	return sample;
}

static void
interfaces_are_added_up(void)
{
	A67Sample sample = network_of(HEADING "  eth0: 1000 2 0 0 0 0 0 0 500 3 0 0 0 0 0 0\n"
										  "wlan0:7 2 0 0 0 0 0 0 5 3 0 0 0 0 0 0\n");

	CHECK_INT(sample.received_bytes, 1007);
	CHECK_INT(sample.transmitted_bytes, 505);
	CHECK_INT(network_of(HEADING "eth0.5:1: 1 2 0 0 0 0 0 0 2 3 0 0 0 0 0 0\n").received_bytes, 1);
}

static void
loopback_is_not_counted(void)
{
	A67Sample sample = network_of(HEADING "    lo: 1000 2 0 0 0 0 0 0 1000 3 0 0 0 0 0 0\n"
										  "  lo0: 1 2 0 0 0 0 0 0 2 3 0 0 0 0 0 0\n");

	CHECK_INT(sample.received_bytes, 1);
	CHECK_INT(sample.transmitted_bytes, 2);
}

static void
nonsense_is_no_traffic(void)
{
	CHECK_INT(network_of("").received_bytes, 0);
	CHECK_INT(network_of(HEADING).received_bytes, 0);
	CHECK_INT(network_of("eth0: 1 2 3\neth1 1 2 0 0 0 0 0 0 2\neth2:\n:\n::\n").transmitted_bytes,
			  0);
	CHECK_INT(network_of("eth0: x 2 0 0 0 0 0 0 2 3 0\n").received_bytes, 0);
	/* A line that was cut off. */
	CHECK_INT(network_of("eth0: 5 2 0 0 0 0 0 0 6").transmitted_bytes, 6);
	/* Counters that have run over do not look like "not known". */
	CHECK(network_of("eth0: 18446744073709551615 0 0 0 0 0 0 0 0 0 0\n").received_bytes >= 0);
	CHECK(network_of("eth0: 9223372036854775807 0 0 0 0 0 0 0 9 0 0\n"
					 "eth1: 9 0 0 0 0 0 0 0 9 0 0\n")
			  .received_bytes >= 0);
}

/* ---- disks ---- */

static A67Sample
disks_of(const char *text)
{
	A67Sample sample = {0};

	if (fixture_begin())
	{
		fixture_write("/proc/diskstats", text);
		sample = look();
	}
	fixture_end();
	return sample;
}

static void
whole_disks_are_added_up(void)
{
	A67Sample sample = disks_of("   8       0 sda 10 0 100 5 20 0 200 6 0 70 11 0 0 0 0 0 0\n"
								"   8       1 sda1 9 0 99 5 20 0 200 6 0 70 11\n"
								" 259       0 nvme0n1 1 0 2 3 4 0 6 7 8 9 10\n"
								" 259       1 nvme0n1p1 1 0 2 3 4 0 6 7 8 9 10\n"
								" 253       0 dm-0 1 0 1000 3 4 0 6000 7 8 9 10\n"
								"   7       0 loop0 1 0 1000 3 4 0 6000 7 8 9 10\n"
								" 179       0 mmcblk0 1 0 1 3 4 0 1 7 8 1 10\n"
								" 179       8 mmcblk0boot0 1 0 1 3 4 0 1 7 8 1 10\n"
								" 202       0 xvda 1 0 1 3 4 0 1 7 8 1 10\n"
								" 202       1 xvda1 1 0 1 3 4 0 1 7 8 1 10\n");

	CHECK_INT(sample.disk_read_bytes, (100 + 2 + 1 + 1) * 512);
	CHECK_INT(sample.disk_written_bytes, (200 + 6 + 1 + 1) * 512);
	CHECK_INT(sample.disk_busy_ms, 70 + 9 + 1 + 1);
}

static void
nonsense_is_no_disk(void)
{
	CHECK_INT(disks_of("").disk_read_bytes, 0);
	CHECK_INT(disks_of("sda\n   8 0 sda\n   8 0 sda x 0 1 2\n8 0 sd 1 0 5 0 1 0 5 0 0 0 0\n")
				  .disk_read_bytes,
			  0);
	CHECK(disks_of("8 0 sda 1 0 18446744073709551615 5 20 0 18446744073709551615 6 0 70 11\n"
				   "8 0 sdb 1 0 18446744073709551615 5 20 0 18446744073709551615 6 0 70 11\n")
			  .disk_written_bytes >= 0);
}

/* ---- the rest of the machine ---- */

static void
nothing_can_be_read(void)
{
	A67Sample sample;

	REQUIRE(fixture_begin());
	sample = look();
	CHECK_INT(sample.memory_total_bytes, 0);
	CHECK_NEAR(sample.memory_percent, 0, 0);
	CHECK_NEAR(sample.cpu_percent, 0, 0);
	CHECK(sample.cores >= 1);
	CHECK_INT(sample.received_bytes, -1);
	CHECK_INT(sample.disk_read_bytes, -1);
	CHECK_INT(sample.pressure[A67_PRESSURE_IO].some_us, -1);
	CHECK_INT(sample.uptime_s, 0);
	fixture_end();
}

static void
garbage_is_nothing(void)
{
	static const char *const names[] = {
		"/proc/stat",	 "/proc/meminfo", "/proc/diskstats",	"/proc/net/dev",
		"/proc/loadavg", "/proc/uptime",  "/proc/pressure/cpu", "/proc/self/cgroup",
	};
	static const char *const texts[] = {
		"\n", "-1 -1 -1\n", "%s%n%d\n", "\xff\xfe\n\n",
		"cpu -1 x\nMemTotal: -5 kB\nsome total=\nfull \n0::\n:::\n"};

	for (size_t t = 0; t < sizeof(texts) / sizeof(texts[0]); t++)
	{
		A67Sample sample;

		REQUIRE(fixture_begin());
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			fixture_write(names[i], texts[t]);
		sample = look();
		CHECK_INT(sample.memory_total_bytes, 0);
		CHECK(sample.cpu_percent >= 0 && sample.cpu_percent <= 100);
		CHECK_INT(sample.uptime_s, 0);
		CHECK_INT(sample.disk_read_bytes, 0);
		fixture_end();
	}
}

static void
load_memory_and_pressure_are_read(void)
{
	A67Sample sample;

	REQUIRE(fixture_begin());
	fixture_write("/proc/loadavg", "0.50 1.25 2.75 3/456 7890\n");
	fixture_write("/proc/uptime", "123456.78 200000.00\n");
	fixture_write("/proc/meminfo",
				  "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable: 250 kB\n");
	fixture_write("/proc/pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500\n"
										   "full avg10=0.00 avg60=0.00 avg300=0.00 total=700\n");
	/* Old kernels have no "full" here. */
	fixture_write("/proc/pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=99\n");
	sample = look();
	CHECK_NEAR(sample.load1, 0.5, 0);
	CHECK_NEAR(sample.load15, 2.75, 0);
	CHECK_INT(sample.uptime_s, 123456);
	CHECK_INT(sample.memory_total_bytes, 1024000);
	CHECK_INT(sample.memory_free_bytes, 256000);
	CHECK_NEAR(sample.memory_percent, 75, 1e-9);
	CHECK_INT(sample.pressure[A67_PRESSURE_MEMORY].some_us, 1500);
	CHECK_INT(sample.pressure[A67_PRESSURE_MEMORY].full_us, 700);
	CHECK_INT(sample.pressure[A67_PRESSURE_CPU].some_us, 99);
	CHECK_INT(sample.pressure[A67_PRESSURE_CPU].full_us, -1);
	CHECK_INT(sample.pressure[A67_PRESSURE_IO].some_us, -1);
	fixture_end();
}

static void
looks_are_five_seconds_apart(void)
{
	A67Metrics metrics;

	REQUIRE(fixture_begin());
	fixture_write("/proc/stat", "cpu  100 0 0 900 0 0 0 0 0 0\ncpu0 1 2 3\n");
	a67_metrics_init(&metrics, fixture_root, "/", 1000);
	CHECK_NEAR(metrics.last.cpu_percent, 0, 0);
	fixture_write("/proc/stat", "cpu  130 0 0 960 10 0 0 0 0 0\n");
	CHECK(!a67_metrics_step(&metrics, 5999));
	CHECK(a67_metrics_step(&metrics, 6000));
	CHECK_NEAR(metrics.last.cpu_percent, 30, 1e-9);
	CHECK(!a67_metrics_step(&metrics, 6001));
	/* Counters that go back, as those of a machine that was moved. */
	fixture_write("/proc/stat", "cpu  1 0 0 9 0 0 0 0 0 0\n");
	CHECK(a67_metrics_step(&metrics, 20000));
	CHECK_NEAR(metrics.last.cpu_percent, 0, 0);
	fixture_write("/proc/stat", "cpu  2 0 0 9\n");
	CHECK(a67_metrics_step(&metrics, 30000));
	CHECK_NEAR(metrics.last.cpu_percent, 100, 1e-9);
	fixture_end();
}

static void
this_machine_has_numbers(void)
{
	A67Metrics metrics;

	a67_metrics_init(&metrics, "", "/", 1000);
	CHECK(metrics.last.memory_total_bytes > 0 && metrics.last.memory_free_bytes > 0);
	CHECK(metrics.last.memory_free_bytes <= metrics.last.memory_total_bytes);
	CHECK(metrics.last.disk_total_bytes > 0 && metrics.last.cores > 0);
	CHECK(metrics.last.uptime_s > 0 && metrics.last.load1 >= 0);
}

/* ---- applications ---- */

#define STAT(pid, name, user, pages)                                                       \
	pid " (" name ") S 1 1 1 0 -1 4194560 1 1 0 0 " user " 0 0 0 20 0 1 0 100 9999 " pages \
		" 1 1 1\n"

static void
a_family_is_added_up(void)
{
	A67Usage usage;
	long tick_us = 1000000 / sysconf(_SC_CLK_TCK);
	long page = sysconf(_SC_PAGESIZE);

	REQUIRE(fixture_begin());
	fixture_write("/proc/10/stat", STAT("10", "app) S 1 (x", "5", "100"));
	fixture_write("/proc/10/task/10/children", "11 12 99 ");
	fixture_write("/proc/11/stat", STAT("11", "child", "7", "10"));
	fixture_write("/proc/11/task/11/children", "13 ");
	fixture_write("/proc/12/stat", "garbage");
	fixture_write("/proc/13/stat", STAT("13", "grandchild", "1", "1"));
	CHECK(a67_usage_of_process(fixture_root, 10, &usage));
	CHECK_INT(usage.cpu_us, 13 * tick_us);
	CHECK_INT(usage.memory_bytes, 111 * page);
	CHECK(!a67_usage_of_process(fixture_root, 12, &usage));
	CHECK(!a67_usage_of_process(fixture_root, 99, &usage));
	/* A family that goes round in circles comes to an end. */
	fixture_write("/proc/13/task/13/children", "10 ");
	CHECK(a67_usage_of_process(fixture_root, 10, &usage));
	CHECK(a67_usage_of_process("", getpid(), &usage) && usage.memory_bytes > 0);
	fixture_end();
}

UNIT_MAIN("agent_metrics", UNIT(interfaces_are_added_up), UNIT(loopback_is_not_counted),
		  UNIT(nonsense_is_no_traffic), UNIT(whole_disks_are_added_up), UNIT(nonsense_is_no_disk),
		  UNIT(nothing_can_be_read), UNIT(garbage_is_nothing),
		  UNIT(load_memory_and_pressure_are_read), UNIT(looks_are_five_seconds_apart),
		  UNIT(this_machine_has_numbers), UNIT(a_family_is_added_up));

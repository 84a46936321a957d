/*
 * agent_allowance_test.c - control groups of all kinds of machines, and what they leave the agent.
 */
#include "allowance.h"

#include "metrics.h"
#include "metrics_fixture.h"
#include "unit.h"

#define V2_MOUNT "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
#define V1_MOUNT(name, controllers)                           \
	"33 25 0:29 / /sys/fs/cgroup/" name " rw,nosuid shared:1" \
	"1 - cgroup cgroup rw," controllers "\n"

static A67Allowance
limits_now(void)
{
	A67Allowance limits;

	a67_allowance_read(fixture_root, &limits);
	return limits;
}

static void
check_none(A67Allowance limits)
{
	CHECK_INT(limits.memory_bytes, A67_NO_LIMIT);
	CHECK_INT(limits.memory_free_bytes, A67_NO_LIMIT);
	CHECK_NEAR(limits.cores, 0, 0);
}

static void
no_groups_no_limits(void)
{
	REQUIRE(fixture_begin());
	check_none(limits_now());
	fixture_write("/proc/self/cgroup", "0::/\n");
	check_none(limits_now());
	fixture_write("/proc/self/mountinfo", V2_MOUNT);
	check_none(limits_now());
	fixture_write("/sys/fs/cgroup/memory.max", "max\n");
	fixture_write("/sys/fs/cgroup/cpu.max", "max 100000\n");
	check_none(limits_now());
	fixture_end();
}

static void
version_2_counts_the_tightest_on_the_way_up(void)
{
	A67Allowance limits;

	REQUIRE(fixture_begin());
	fixture_write("/proc/self/cgroup", "0::/a/b/c\n");
	fixture_write("/proc/self/mountinfo", "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n" V2_MOUNT);
	fixture_write("/sys/fs/cgroup/a/b/c/memory.max", "max\n");
	fixture_write("/sys/fs/cgroup/a/b/memory.max", "1000000\n");
	fixture_write("/sys/fs/cgroup/a/b/memory.current", "700000\n");
	fixture_write("/sys/fs/cgroup/a/b/memory.stat",
				  "anon 1\ninactive_file 100000\nactive_file 5\n");
	fixture_write("/sys/fs/cgroup/a/memory.max", "2000000\n");
	fixture_write("/sys/fs/cgroup/a/memory.current", "1900000\n");
	fixture_write("/sys/fs/cgroup/a/b/c/cpu.max", "200000 100000\n");
	fixture_write("/sys/fs/cgroup/a/b/cpu.max", "50000 100000\n");
	fixture_write("/sys/fs/cgroup/a/b/cpu.stat", "usage_usec 123456\nuser_usec 1\n");
	fixture_write("/sys/fs/cgroup/a/cpu.max", "max 100000\n");
	limits = limits_now();
	CHECK_INT(limits.memory_bytes, 1000000);
	/* The wider group is nearer to its end. */
	CHECK_INT(limits.memory_free_bytes, 100000);
	CHECK_NEAR(limits.cores, 0.5, 1e-9);
	CHECK_INT(limits.cpu_us, 123456);
	fixture_end();
}

static void
version_1_has_a_hierarchy_for_each(void)
{
	A67Allowance limits;

	REQUIRE(fixture_begin());
	fixture_write("/proc/self/cgroup",
				  "4:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n1:name=systemd:/\n");
	fixture_write("/proc/self/mountinfo",
				  V1_MOUNT("systemd", "xattr,name=systemd") V1_MOUNT("memory", "memory")
					  V1_MOUNT("cpu,cpuacct", "cpu,cpuacct"));
	fixture_write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
	fixture_write("/sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "268435456\n");
	fixture_write("/sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes", "200000000\n");
	fixture_write("/sys/fs/cgroup/memory/docker/x/memory.stat",
				  "inactive_file 7\ntotal_inactive_file 50000000\n");
	fixture_write("/sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us", "150000\n");
	fixture_write("/sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us", "100000\n");
	fixture_write("/sys/fs/cgroup/cpu,cpuacct/docker/x/cpuacct.usage", "5000000000\n");
	fixture_write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
	limits = limits_now();
	CHECK_INT(limits.memory_bytes, 268435456);
	CHECK_INT(limits.memory_free_bytes, 268435456 - 150000000);
	CHECK_NEAR(limits.cores, 1.5, 1e-9);
	CHECK_INT(limits.cpu_us, 5000000);
	fixture_end();
}

/* Memory by version 1, the rest by version 2; processor accounts in a hierarchy of their own. */
static void
both_versions_at_once(void)
{
	A67Allowance limits;

	REQUIRE(fixture_begin());
	fixture_write("/proc/self/cgroup", "4:memory:/m\n2:cpuacct:/c\n1:cpu:/c\n0::/u\n");
	fixture_write("/proc/self/mountinfo",
				  "30 29 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n" V1_MOUNT("memory",
																						   "memory")
					  V1_MOUNT("cpu", "cpu") V1_MOUNT("cpuacct", "cpuacct"));
	fixture_write("/sys/fs/cgroup/memory/m/memory.limit_in_bytes", "1000\n");
	fixture_write("/sys/fs/cgroup/unified/u/memory.max", "5\n");
	fixture_write("/sys/fs/cgroup/cpu/c/cpu.cfs_quota_us", "10000\n");
	fixture_write("/sys/fs/cgroup/cpu/c/cpu.cfs_period_us", "100000\n");
	fixture_write("/sys/fs/cgroup/cpuacct/c/cpuacct.usage", "77000\n");
	limits = limits_now();
	CHECK_INT(limits.memory_bytes, 1000);
	/* Nobody says how much is used. */
	CHECK_INT(limits.memory_free_bytes, A67_NO_LIMIT);
	CHECK_NEAR(limits.cores, 0.1, 1e-9);
	CHECK_INT(limits.cpu_us, 77);
	/* A hierarchy that is named but not mounted. */
	fixture_write("/proc/self/mountinfo", "");
	check_none(limits_now());
	fixture_end();
}

static void
a_container_sees_its_own_part(void)
{
	REQUIRE(fixture_begin());
	/* Without a cgroup namespace the path is the host's; the mount shows only its end. */
	fixture_write("/proc/self/cgroup", "4:memory:/docker/abc/inner\n0::/docker/abc\n");
	fixture_write("/proc/self/mountinfo",
				  "33 25 0:29 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
	fixture_write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "4096\n");
	fixture_write("/sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "2048\n");
	CHECK_INT(limits_now().memory_bytes, 2048);
	/* A path that is not below what is shown: the mount point is all there is. */
	fixture_write("/proc/self/cgroup", "4:memory:/elsewhere\n");
	CHECK_INT(limits_now().memory_bytes, 4096);
	fixture_write("/proc/self/cgroup", "4:memory:/docker/abcdef\n");
	CHECK_INT(limits_now().memory_bytes, 4096);
	/* Moved out of its own namespace. */
	fixture_write("/proc/self/cgroup", "4:memory:/../other\n");
	CHECK_INT(limits_now().memory_bytes, 4096);
	fixture_end();
}

static void
strange_values_are_no_limits(void)
{
	static const char *const texts[] = {"",
										"\n",
										"-1\n",
										"x\n",
										"99999999999999999999999999\n",
										"\xff",
										"max",
										"1152921504606846976\n"};

	REQUIRE(fixture_begin());
	fixture_write("/proc/self/cgroup", "0::/\n");
	fixture_write("/proc/self/mountinfo", V2_MOUNT);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
	{
		fixture_write("/sys/fs/cgroup/memory.max", texts[i]);
		fixture_write("/sys/fs/cgroup/cpu.max", i < 4 ? texts[i] : "100000 0\n");
		check_none(limits_now());
	}
	fixture_write("/sys/fs/cgroup/memory.max", "100\n");
	fixture_write("/sys/fs/cgroup/memory.current", "500\n");
	fixture_write("/sys/fs/cgroup/memory.stat", "inactive_file 99999999999999999999\n");
	CHECK_INT(limits_now().memory_free_bytes, 100);
	fixture_write("/sys/fs/cgroup/memory.stat", "inactive_file\n");
	CHECK_INT(limits_now().memory_free_bytes, 0);
	fixture_write("/proc/self/cgroup", "0::\n");
	check_none(limits_now());
	fixture_write("/proc/self/cgroup", "::\n:\n\n4:memory\n");
	check_none(limits_now());
	fixture_end();
}

/* What the node says of itself is what its group leaves it. */
static void
the_machine_is_as_large_as_its_group(void)
{
	A67Metrics metrics;

	REQUIRE(fixture_begin());
	fixture_write("/proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable: 6000000 kB\n");
	fixture_write("/proc/self/cgroup", "0::/\n");
	fixture_write("/proc/self/mountinfo", V2_MOUNT);
	fixture_write("/sys/fs/cgroup/memory.max", "268435456\n");
	fixture_write("/sys/fs/cgroup/memory.current", "67108864\n");
	fixture_write("/sys/fs/cgroup/cpu.max", "25000 100000\n");
	fixture_write("/sys/fs/cgroup/cpu.stat", "usage_usec 1000000\n");
	a67_metrics_init(&metrics, fixture_root, "/", 10000);
	CHECK_INT(metrics.last.memory_total_bytes, 268435456);
	CHECK_INT(metrics.last.memory_free_bytes, 268435456 - 67108864);
	CHECK_NEAR(metrics.last.memory_percent, 25, 1e-9);
	CHECK_NEAR(metrics.last.cores, 0.25, 1e-9);
	/* 0.5 s of processor in 5 s, of a quarter of a core. */
	fixture_write("/sys/fs/cgroup/cpu.stat", "usage_usec 1500000\n");
	CHECK(a67_metrics_step(&metrics, 15000));
	CHECK_NEAR(metrics.last.cpu_percent, 40, 1e-9);
	/* The machine may be nearer to its end than the group. */
	fixture_write("/proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable: 1000 kB\n");
	CHECK(a67_metrics_step(&metrics, 20000));
	CHECK_INT(metrics.last.memory_free_bytes, 1024000);
	CHECK_NEAR(metrics.last.cpu_percent, 0, 0);
	fixture_end();
}

UNIT_MAIN("agent_allowance", UNIT(no_groups_no_limits),
		  UNIT(version_2_counts_the_tightest_on_the_way_up),
		  UNIT(version_1_has_a_hierarchy_for_each), UNIT(both_versions_at_once),
		  UNIT(a_container_sees_its_own_part), UNIT(strange_values_are_no_limits),
		  UNIT(the_machine_is_as_large_as_its_group));

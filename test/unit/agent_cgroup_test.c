/*
 * agent_cgroup_test.c - control groups of both versions: what is found, written and refused.
 *
 * Against directories that play the kernel, which is as far as files go: they do not end processes and
 * do not vanish.  The last case is the real thing, where this machine and this user have it.
 */
#include "cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "statedir.h"
#include "unit.h"

#define NODE	"11111111-1111-1111-1111-111111111111"
#define REPLICA "22222222-2222-2222-2222-222222222222"

static char root[] = "/tmp/a67-cgroup-XXXXXX";
static A67Cgroups cgroups;
static A67Why why;

/* A path below the played mount; good until the fourth call after this one. */
static const char *
below(const char *path)
{
	static char kept[4][600];
	static int at;

	at = (at + 1) % 4;
	(void) snprintf(kept[at], sizeof(kept[at]), "%s/%s", root, path);
	return kept[at];
}

static void
put(const char *path, const char *text)
{
	FILE *file = fopen(below(path), "w");

	CHECK(file != NULL && fputs(text, file) >= 0);
	if (file != NULL)
		(void) fclose(file);
}

static const char *
text_of(const char *path)
{
	static char text[4096];
	FILE *file = fopen(below(path), "r");
	size_t n = file != NULL ? fread(text, 1, sizeof(text) - 1, file) : 0;

	text[n] = '\0';
	if (file != NULL)
		(void) fclose(file);
	return file != NULL ? text : "(no file)";
}

static void
directory(const char *path)
{
	CHECK(mkdir(below(path), 0755) == 0);
}

/* A fresh mount, of version 2 or 1. */
static void
play(int version, const char *self)
{
	a67_directory_remove(root);
	CHECK(mkdir(root, 0755) == 0);
	if (version == 2)
		put("cgroup.controllers", "cpu memory pids\n");
	if (version == 1)
	{
		directory("cpu,cpuacct");
		directory("memory");
		directory("pids");
		CHECK(symlink("cpu,cpuacct", below("cpu")) == 0);
	}
	put("self", self);
}

static void
v2_limits_are_written(void)
{
	A67CgroupLimits limits = {64 << 20, 0.25, 20};
	char path[A67_CGROUP_PATH_SIZE];
	char group[A67_CGROUP_PATH_SIZE * 2];

	play(2, "0::/\n");
	a67_cgroups_open(&cgroups, root, NODE);
	REQUIRE(cgroups.version == 2);
	CHECK_UINT(cgroups.limits, A67_CGROUP_MEMORY | A67_CGROUP_CPU | A67_CGROUP_PIDS);
	CHECK_STR(cgroups.parent, "/a67-" NODE);
	CHECK_STR(text_of("cgroup.subtree_control"), "+memory +cpu +pids");
	CHECK_STR(text_of("a67-" NODE "/cgroup.subtree_control"), "+memory +cpu +pids");
	a67_cgroup_name(&cgroups, REPLICA, path);
	CHECK_STR(path, "/a67-" NODE "/" REPLICA);
	REQUIRE(a67_cgroup_make(&cgroups, path, &limits, &why) == 0);
	(void) snprintf(group, sizeof(group), "a67-%s/%s/memory.max", NODE, REPLICA);
	CHECK_STR(text_of(group), "67108864");
	(void) snprintf(group, sizeof(group), "a67-%s/%s/memory.oom.group", NODE, REPLICA);
	CHECK_STR(text_of(group), "1");
	(void) snprintf(group, sizeof(group), "a67-%s/%s/cpu.max", NODE, REPLICA);
	CHECK_STR(text_of(group), "25000 100000");
	(void) snprintf(group, sizeof(group), "a67-%s/%s/pids.max", NODE, REPLICA);
	CHECK_STR(text_of(group), "20");
}

static void
v2_no_limit_takes_one_away(void)
{
	A67CgroupLimits none = {0, 0, 0};
	char path[A67_CGROUP_PATH_SIZE];

	play(2, "0::/\n");
	a67_cgroups_open(&cgroups, root, NODE);
	a67_cgroup_name(&cgroups, REPLICA, path);
	REQUIRE(a67_cgroup_make(&cgroups, path, &none, &why) == 0);
	CHECK_STR(text_of("a67-" NODE "/" REPLICA "/memory.max"), "max");
	CHECK_STR(text_of("a67-" NODE "/" REPLICA "/cpu.max"), "max");
	CHECK_STR(text_of("a67-" NODE "/" REPLICA "/pids.max"), "max");
}

static void
a_tiny_share_of_a_core_is_one_the_kernel_takes(void)
{
	A67CgroupLimits limits = {0, 0.001, 0};
	char path[A67_CGROUP_PATH_SIZE];

	play(2, "0::/\n");
	a67_cgroups_open(&cgroups, root, NODE);
	a67_cgroup_name(&cgroups, REPLICA, path);
	REQUIRE(a67_cgroup_make(&cgroups, path, &limits, &why) == 0);
	CHECK_STR(text_of("a67-" NODE "/" REPLICA "/cpu.max"), "1000 100000");
}

static void
v1_limits_are_written_in_each_hierarchy(void)
{
	A67CgroupLimits limits = {64 << 20, 1.5, 20};
	char path[A67_CGROUP_PATH_SIZE];

	play(1, "4:memory:/\n2:cpu,cpuacct:/\n3:pids:/\n1:name=systemd:/x\n0::/\n");
	a67_cgroups_open(&cgroups, root, NODE);
	REQUIRE(cgroups.version == 1);
	CHECK_UINT(cgroups.limits, A67_CGROUP_MEMORY | A67_CGROUP_CPU | A67_CGROUP_PIDS);
	CHECK_UINT(cgroups.count, 3);
	a67_cgroup_name(&cgroups, REPLICA, path);
	REQUIRE(a67_cgroup_make(&cgroups, path, &limits, &why) == 0);
	CHECK_STR(text_of("memory/a67-" NODE "/" REPLICA "/memory.limit_in_bytes"), "67108864");
	CHECK_STR(text_of("cpu,cpuacct/a67-" NODE "/" REPLICA "/cpu.cfs_quota_us"), "150000");
	CHECK_STR(text_of("cpu,cpuacct/a67-" NODE "/" REPLICA "/cpu.cfs_period_us"), "100000");
	CHECK_STR(text_of("pids/a67-" NODE "/" REPLICA "/pids.max"), "20");
	CHECK_STR(text_of("memory/a67-" NODE "/" REPLICA "/memory.max"), "(no file)");
}

static void
v1_without_a_hierarchy_limits_the_rest(void)
{
	A67CgroupLimits limits = {64 << 20, 1.5, 20};
	char path[A67_CGROUP_PATH_SIZE];

	play(1, "3:pids:/\n");
	CHECK(rmdir(below("memory")) == 0);
	a67_cgroups_open(&cgroups, root, NODE);
	REQUIRE(cgroups.version == 1);
	CHECK_UINT(cgroups.limits, A67_CGROUP_CPU | A67_CGROUP_PIDS);
	a67_cgroup_name(&cgroups, REPLICA, path);
	CHECK(a67_cgroup_make(&cgroups, path, &limits, &why) == 0);
}

static void
nothing_mounted_is_an_answer(void)
{
	A67CgroupLimits limits = {1 << 20, 1, 1};
	char path[A67_CGROUP_PATH_SIZE] = "x";
	pid_t pids[4];

	play(0, "");
	a67_cgroups_open(&cgroups, root, NODE);
	CHECK_INT(cgroups.version, 0);
	CHECK(strstr(cgroups.why.text, "none are mounted") != NULL);
	a67_cgroup_name(&cgroups, REPLICA, path);
	CHECK_STR(path, "");
	CHECK_INT(a67_cgroup_make(&cgroups, path, &limits, &why), 0);
	CHECK_INT(a67_cgroup_enter(&cgroups, path), 0);
	CHECK_UINT(a67_cgroup_pids(&cgroups, path, pids, 4), 0);
	CHECK(!a67_cgroup_kill(&cgroups, path));
	CHECK(a67_cgroup_remove(&cgroups, path));
	a67_cgroups_open(&cgroups, "/nonexistent/a67", NODE);
	CHECK_INT(cgroups.version, 0);
}

static void
no_permission_is_said(void)
{
	play(2, "0::/\n");
	CHECK(chmod(root, 0555) == 0);
	a67_cgroups_open(&cgroups, root, NODE);
	if (geteuid() == 0)
		printf("# root may write everywhere: not tested\n");
	else
	{
		CHECK_INT(cgroups.version, 0);
		CHECK(strstr(cgroups.why.text, "not ours to write to") != NULL);
	}
	CHECK(chmod(root, 0755) == 0);
}

static void
a_delegated_group_is_used(void)
{
	if (geteuid() == 0)
	{
		printf("# root makes its groups at the top: not tested\n");
		return;
	}
	play(2, "0::/user.slice/a67.service\n");
	directory("user.slice");
	directory("user.slice/a67.service");
	CHECK(chmod(root, 0555) == 0);
	a67_cgroups_open(&cgroups, root, NODE);
	CHECK_INT(cgroups.version, 2);
	CHECK_STR(cgroups.parent, "/user.slice/a67.service/a67-" NODE);
	CHECK(chmod(root, 0755) == 0);
	/* A second start finds itself where the first one has moved itself. */
	put("self", "0::/user.slice/a67.service/a67-agent\n");
	a67_cgroups_open(&cgroups, root, NODE);
	CHECK_STR(cgroups.parent, "/user.slice/a67.service/a67-" NODE);
}

static void
members_are_entered_listed_and_killed(void)
{
	A67CgroupLimits limits = {0, 0, 0};
	char path[A67_CGROUP_PATH_SIZE];
	pid_t pids[4];

	play(2, "0::/\n");
	a67_cgroups_open(&cgroups, root, NODE);
	a67_cgroup_name(&cgroups, REPLICA, path);
	REQUIRE(a67_cgroup_make(&cgroups, path, &limits, &why) == 0);
	CHECK_INT(a67_cgroup_enter(&cgroups, path), 0);
	REQUIRE(a67_cgroup_pids(&cgroups, path, pids, 4) == 1);
	CHECK_INT(pids[0], getpid());
	put("a67-" NODE "/" REPLICA "/cgroup.procs", "100\n200\n0\n1\n300\n400\n500\n600\n");
	CHECK_UINT(a67_cgroup_pids(&cgroups, path, pids, 4), 4);
	CHECK_INT(pids[3], 400);
	CHECK(a67_cgroup_kill(&cgroups, path));
	CHECK_STR(text_of("a67-" NODE "/" REPLICA "/cgroup.kill"), "1");
	CHECK(!a67_cgroup_remove(&cgroups, path));
}

static void
usage_is_read(void)
{
	A67CgroupLimits limits = {0, 0, 0};
	A67CgroupUsage usage;
	char path[A67_CGROUP_PATH_SIZE];

	play(2, "0::/\n");
	a67_cgroups_open(&cgroups, root, NODE);
	a67_cgroup_name(&cgroups, REPLICA, path);
	REQUIRE(a67_cgroup_make(&cgroups, path, &limits, &why) == 0);
	a67_cgroup_usage(&cgroups, path, &usage);
	CHECK_INT(usage.memory_bytes, -1);
	CHECK_INT(usage.cpu_us, -1);
	put("a67-" NODE "/" REPLICA "/memory.current", "12345\n");
	put("a67-" NODE "/" REPLICA "/cpu.stat", "usage_usec 777\nuser_usec 700\n");
	a67_cgroup_usage(&cgroups, path, &usage);
	CHECK_INT(usage.memory_bytes, 12345);
	CHECK_INT(usage.cpu_us, 777);
	put("a67-" NODE "/" REPLICA "/cpu.stat", "rubbish\n");
	a67_cgroup_usage(&cgroups, path, &usage);
	CHECK_INT(usage.cpu_us, -1);
}

static bool
keep_one(void *arg, const char *replica)
{
	return strcmp(replica, arg) == 0;
}

static void
empty_groups_are_swept(void)
{
	static char kept[] = "kept";

	play(2, "0::/\n");
	a67_cgroups_open(&cgroups, root, NODE);
	directory("a67-" NODE "/kept");
	directory("a67-" NODE "/left");
	directory("a67-" NODE "/busy");
	put("a67-" NODE "/busy/cgroup.procs", "7\n");
	a67_cgroup_sweep(&cgroups, keep_one, kept);
	CHECK(access(below("a67-" NODE "/kept"), F_OK) == 0);
	CHECK(access(below("a67-" NODE "/left"), F_OK) != 0);
	CHECK(access(below("a67-" NODE "/busy"), F_OK) == 0);
}

/* A child in a real group is listed, cannot have too many children, and is ended by its group. */
static void
the_real_thing(void)
{
	A67CgroupLimits limits = {32 << 20, 0.5, 3};
	char path[A67_CGROUP_PATH_SIZE];
	char node[64];
	pid_t pids[16];
	pid_t child;
	int status = 0;

	/* A name of its own: other tests of this machine may be at it, too. */
	(void) snprintf(node, sizeof(node), "test-%d", (int) getpid());
	a67_cgroups_open(&cgroups, "/sys/fs/cgroup", node);
	if (cgroups.version == 0 || (cgroups.limits & A67_CGROUP_PIDS) == 0)
	{
		printf("# SKIP no control groups here: %s\n", cgroups.why.text);
		return;
	}
	a67_cgroup_name(&cgroups, REPLICA, path);
	REQUIRE(a67_cgroup_make(&cgroups, path, &limits, &why) == 0);
	child = fork();
	if (child == 0)
	{
		int made = 0;

		if (a67_cgroup_enter(&cgroups, path) != 0)
			_exit(99);
		for (int i = 0; i < 6; i++)
		{
			pid_t pid = fork();

			if (pid == 0)
				(void) pause();
			made += pid > 0;
		}
		if (made != 2)
			_exit(made);
		(void) kill(getpid(), SIGSTOP);
		(void) pause();
	}
	REQUIRE(waitpid(child, &status, WUNTRACED) == child);
	CHECK(WIFSTOPPED(status));
	CHECK_UINT(a67_cgroup_pids(&cgroups, path, pids, 16), 3);
	CHECK(!a67_cgroup_remove(&cgroups, path));
	CHECK(a67_cgroup_kill(&cgroups, path));
	CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
	for (int i = 0; i < 200 && !a67_cgroup_remove(&cgroups, path); i++)
	{
		(void) a67_cgroup_kill(&cgroups, path);
		(void) poll(NULL, 0, 10);
	}
	CHECK(a67_cgroup_remove(&cgroups, path));
	CHECK(a67_cgroup_remove(&cgroups, cgroups.parent));
}

static void
prepare_folder(void)
{
	CHECK(mkdtemp(root) != NULL);
}

static void
remove_folder(void)
{
	a67_directory_remove(root);
}

UNIT_MAIN("agent_cgroup", UNIT(prepare_folder), UNIT(v2_limits_are_written),
		  UNIT(v2_no_limit_takes_one_away), UNIT(a_tiny_share_of_a_core_is_one_the_kernel_takes),
		  UNIT(v1_limits_are_written_in_each_hierarchy),
		  UNIT(v1_without_a_hierarchy_limits_the_rest), UNIT(nothing_mounted_is_an_answer),
		  UNIT(no_permission_is_said), UNIT(a_delegated_group_is_used),
		  UNIT(members_are_entered_listed_and_killed), UNIT(usage_is_read),
		  UNIT(empty_groups_are_swept), UNIT(the_real_thing), UNIT(remove_folder));

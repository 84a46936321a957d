/*
 * tree.c - membership, signals and end of a replica's processes.  See tree.h.
 *
 * One look at /proc per question: a list of all processes, judged one by one, then children of members
 * until nothing changes.  Never a signal to a number alone, but for the group of a process that is not
 * reaped yet and for kill(-1) as a user who has nothing else.
 */
#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define STATUS_SIZE 8192
#define KILL_PASSES 10
#define ALL_MAX		32768

typedef struct Member
{
	pid_t pid;
	pid_t ppid;
	pid_t pgrp;
	uint64_t start_ticks;
	bool member;
	bool foreign; /* has the marks of another replica or node */
	bool check;	  /* belongs to a health check */
} Member;

typedef struct Look
{
	Member *all;
	size_t count;
	size_t members;
	char *block;
	pid_t *grouped; /* pids of the control group, sorted */
	size_t grouped_count;
} Look;

static int
by_pid(const void *a, const void *b)
{
	pid_t x = *(const pid_t *) a;
	pid_t y = *(const pid_t *) b;

	return (x > y) - (x < y);
}

/* The real user, of whom /proc/<pid> itself does not tell when a process is not dumpable. */
static bool
runs_as(pid_t pid, uid_t uid, char *text)
{
	size_t len;
	const char *at;

	if (a67_proc_read(pid, "status", text, STATUS_SIZE, &len) != 0)
		return false;
	at = strstr(text, "\nUid:");
	return at != NULL && strtoul(at + 5, NULL, 10) == (unsigned long) uid;
}

static void
judge(const A67Tree *tree, Look *look, Member *one)
{
	const char *node;
	const char *replica;
	size_t len = 0;

	if (look->grouped_count > 0 &&
		bsearch(&one->pid, look->grouped, look->grouped_count, sizeof(pid_t), by_pid) != NULL)
		one->member = true;
	if (a67_proc_read(one->pid, "environ", look->block, A67_ENVIRON_BYTES, &len) != 0)
		len = 0;
	node = a67_proc_variable(look->block, len, "A67_NODE_ID");
	replica = a67_proc_variable(look->block, len, "A67_REPLICA");
	if (node != NULL && replica != NULL)
	{
		one->foreign = strcmp(node, tree->node) != 0 || strcmp(replica, tree->replica) != 0;
		one->member = one->member || !one->foreign;
		one->check = a67_proc_variable(look->block, len, "A67_CHECK") != NULL;
	}
	/* A second agent of this machine may have been given the same numbers. */
	if (!one->member && tree->uid != 0 && !one->foreign)
		one->member = runs_as(one->pid, tree->uid, look->block);
}

static int
by_member(const void *key, const void *item)
{
	return by_pid(key, &((const Member *) item)->pid);
}

/* Children of members, and theirs.  /proc lists by number, so the list is sorted. */
static void
add_children(Look *look)
{
	bool again = true;

	while (again)
	{
		again = false;
		for (size_t i = 0; i < look->count; i++)
		{
			Member *one = &look->all[i];
			const Member *parent;

			if (one->member || one->foreign)
				continue;
			parent = bsearch(&one->ppid, look->all, look->count, sizeof(*one), by_member);
			one->member = parent != NULL && parent->member;
			again = again || one->member;
		}
	}
}

static void
drop(Look *look)
{
	free(look->all);
	free(look->block);
	free(look->grouped);
	memset(look, 0, sizeof(*look));
}

static void
list_group(const A67Tree *tree, Look *look)
{
	if (tree->cgroup[0] == '\0')
		return;
	look->grouped = calloc(A67_CGROUP_PIDS_MAX, sizeof(*look->grouped));
	if (look->grouped == NULL)
		return;
	look->grouped_count =
		a67_cgroup_pids(tree->cgroups, tree->cgroup, look->grouped, A67_CGROUP_PIDS_MAX);
	qsort(look->grouped, look->grouped_count, sizeof(*look->grouped), by_pid);
}

/* Fills in what /proc says; false for those that cannot be members. */
static bool
take(const A67Tree *tree, Look *look, pid_t pid, Member *one)
{
	A67ProcStat st;

	memset(one, 0, sizeof(*one));
	if (pid == getpid() || a67_proc_stat(pid, &st) != 0 || st.state == 'Z' || st.state == 'X' ||
		st.kernel)
		return false;
	one->pid = pid;
	one->ppid = st.ppid;
	one->pgrp = st.pgrp;
	one->start_ticks = st.start_ticks;
	if (pid == tree->main ||
		(tree->group > 1 && st.pgrp == tree->group && st.start_ticks <= tree->ended_ticks))
		one->member = true;
	else
		judge(tree, look, one);
	return true;
}

/* All processes, members marked.  To be dropped in any case. */
static void
look_around(const A67Tree *tree, Look *look)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	size_t room = 0;

	memset(look, 0, sizeof(*look));
	look->block = malloc(A67_ENVIRON_BYTES);
	list_group(tree, look);
	while (look->block != NULL && proc != NULL && look->count < ALL_MAX &&
		   (entry = readdir(proc)) != NULL)
	{
		char *end;
		long pid = strtol(entry->d_name, &end, 10);

		if (*end != '\0' || pid <= 1)
			continue;
		if (look->count == room)
		{
			Member *more = realloc(look->all, (room + 256) * sizeof(*more));

			if (more == NULL)
				break;
			look->all = more;
			room += 256;
		}
		if (take(tree, look, (pid_t) pid, &look->all[look->count]))
			look->count++;
	}
	if (proc != NULL)
		(void) closedir(proc);
	add_children(look);
	for (size_t i = 0; i < look->count; i++)
		look->members += look->all[i].member;
}

size_t
a67_tree_count(const A67Tree *tree)
{
	Look look;
	size_t count;

	look_around(tree, &look);
	count = look.members;
	drop(&look);
	return count;
}

/* ---- asking ---- */

/* Whether this is the first process of a namespace below ours, and if so, whether it heeds SIGTERM. */
static bool
is_init(pid_t pid, char *text, bool *heeds)
{
	size_t len;
	const char *at;
	char *end;
	unsigned long long caught;

	if (a67_proc_read(pid, "status", text, STATUS_SIZE, &len) != 0)
		return false;
	at = strstr(text, "\nNSpid:");
	if (at == NULL || strtol(at + 7, &end, 10) <= 1 || *end != '\t' || strtol(end, &end, 10) != 1 ||
		*end != '\n')
		return false;
	at = strstr(text, "\nSigCgt:");
	caught = at != NULL ? strtoull(at + 8, NULL, 16) : 0;
	*heeds = (caught >> (SIGTERM - 1) & 1) != 0;
	return true;
}

/* False: there is no init yet, or no more. */
static bool
terminate_init(const Look *look)
{
	bool found = false;

	for (size_t i = 0; i < look->count; i++)
	{
		const Member *one = &look->all[i];
		bool heeds = false;

		if (!one->member || !is_init(one->pid, look->block, &heeds))
			continue;
		a67_process_kill(one->pid, one->start_ticks, heeds ? SIGTERM : SIGKILL);
		found = true;
	}
	return found;
}

void
a67_tree_terminate(const A67Tree *tree)
{
	Look look;

	look_around(tree, &look);
	if (!tree->container || !terminate_init(&look))
	{
		if (tree->main > 1 && kill(-tree->main, SIGTERM) != 0 && errno != ESRCH)
			a67_log(A67_LOG_WARNING, "could not signal process group %d: %s", (int) tree->main,
					strerror(errno));
		for (size_t i = 0; i < look.count; i++)
		{
			const Member *one = &look.all[i];

			if (one->member && (tree->main <= 1 || one->pgrp != tree->main))
				a67_process_kill(one->pid, one->start_ticks, SIGTERM);
		}
	}
	drop(&look);
}

/* ---- ending ---- */

/*
 * kill(-1) as the user of the replica: the kernel goes through all of them at once, and none can make
 * another meanwhile.  Not when somebody else's processes have the same user.
 */
static void
kill_user(const A67Tree *tree, const Look *look)
{
	pid_t pid;

	if (tree->uid == 0)
		return;
	for (size_t i = 0; i < look->count; i++)
	{
		if (look->all[i].foreign && runs_as(look->all[i].pid, tree->uid, look->block))
		{
			a67_log(A67_LOG_ERROR, "user %u of replica %s is that of process %d, too",
					(unsigned int) tree->uid, tree->replica, (int) look->all[i].pid);
			return;
		}
	}
	pid = fork();
	if (pid == 0)
	{
		if (setresgid(tree->uid, tree->uid, tree->uid) == 0 &&
			setresuid(tree->uid, tree->uid, tree->uid) == 0)
			(void) kill(-1, SIGKILL);
		_exit(0);
	}
	if (pid > 0)
		(void) waitpid(pid, NULL, 0);
}

void
a67_tree_kill(const A67Tree *tree)
{
	Look look;
	size_t left = 1;

	/* Again while some are found: a process may fork between the look and the kill. */
	for (int pass = 0; pass < KILL_PASSES && left > 0; pass++)
	{
		(void) a67_cgroup_kill(tree->cgroups, tree->cgroup);
		look_around(tree, &look);
		if (pass == 0)
			kill_user(tree, &look);
		left = look.members;
		for (size_t i = 0; i < look.count; i++)
		{
			const Member *one = &look.all[i];

			if (one->member)
				a67_process_kill(one->pid, one->start_ticks, SIGKILL);
		}
		drop(&look);
	}
}

void
a67_tree_kill_checks(const A67Tree *tree)
{
	Look look;

	look_around(tree, &look);
	for (size_t i = 0; i < look.count; i++)
	{
		const Member *one = &look.all[i];

		if (one->member && one->check)
			a67_process_kill(one->pid, one->start_ticks, SIGKILL);
	}
	drop(&look);
}

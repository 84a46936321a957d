/*
 * agent_state_test.c - the agent's files: lock, durable replacement, quarantine, trash, and the state
 * file of a replica, whole, cut and changed.
 */
#include "replica.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

#include "control.h"
#include "unit.h"

#define ID	   "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
#define DIGEST "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static char folder[64];

/* A fresh, open state directory; the log is kept quiet. */
static A67StateDir
open_dir(void)
{
	A67StateDir dir;
	A67Why why = {""};

	a67_log_set_level(A67_LOG_ERROR);
	(void) snprintf(folder, sizeof(folder), "/tmp/a67-state-XXXXXX");
	if (sodium_init() < 0 || mkdtemp(folder) == NULL ||
		a67_statedir_open(&dir, folder, 0, &why) != 0)
	{
		printf("# %s\n", why.text);
		abort();
	}
	return dir;
}

static void
close_dir(A67StateDir *dir)
{
	static const char *const names[] = {"lock", "node.json", "node.key", "node.json.corrupt",
										"node.key.corrupt"};
	static const char *const parts[] = {"replicas", "apps", "cache", "logs"};
	char path[128];

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		CHECK_INT(a67_trash_put(dir, parts[i]), 0);
	while (a67_trash_step(dir, 1000))
		continue;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		(void) unlinkat(dir->fd, names[i], 0);
	a67_statedir_close(dir);
	(void) snprintf(path, sizeof(path), "%s/trash", folder);
	CHECK_INT(rmdir(path), 0);
	CHECK_INT(rmdir(folder), 0);
}

static bool
exists(const A67StateDir *dir, const char *name)
{
	return faccessat(dir->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void
one_agent_a_directory(void)
{
	A67StateDir dir = open_dir();
	A67StateDir second;
	A67Why why;

	CHECK_INT(a67_statedir_open(&second, folder, 0, &why), -EAGAIN);
	CHECK(strncmp(why.text, "another agent uses", 18) == 0);
	a67_statedir_close(&second);
	close_dir(&dir);
}

static void
directory_of_others_is_refused(void)
{
	A67StateDir dir = open_dir();
	A67StateDir again;
	A67Why why;

	close_dir(&dir);
	CHECK_INT(mkdir(folder, 0700), 0);
	CHECK_INT(chmod(folder, 0770), 0);
	CHECK_INT(a67_statedir_open(&again, folder, 0, &why), -EPERM);
	a67_statedir_close(&again);
	CHECK_INT(rmdir(folder), 0);
	CHECK_INT(a67_statedir_open(&again, "/proc/nowhere/state", 0, &why), -ENOENT);
	CHECK_INT(a67_statedir_open(&again, "", 0, &why), -ENAMETOOLONG);
}

static void
files_are_replaced_whole(void)
{
	A67StateDir dir = open_dir();
	struct stat st;
	A67Buf text;
	A67Why why;

	CHECK_INT(a67_statedir_write(&dir, "replicas/x.json", "one", 3, &why), 0);
	CHECK_INT(a67_statedir_write(&dir, "replicas/x.json", "three", 5, &why), 0);
	CHECK(!exists(&dir, "replicas/x.json.tmp"));
	CHECK_INT(fstatat(dir.fd, "replicas/x.json", &st, 0), 0);
	CHECK_INT(st.st_mode & 07777, 0600);
	a67_buf_init(&text, 64);
	CHECK_INT(a67_statedir_read(&dir, "replicas/x.json", &text, &why), 0);
	CHECK_STR(a67_buf_text(&text), "three");
	a67_buf_free(&text);
	a67_buf_init(&text, 4);
	CHECK_INT(a67_statedir_read(&dir, "replicas/x.json", &text, &why), -EFBIG);
	a67_buf_free(&text);
	a67_buf_init(&text, 4);
	CHECK_INT(a67_statedir_read(&dir, "replicas/y.json", &text, &why), -ENOENT);
	CHECK_INT(a67_statedir_write(&dir, "nowhere/x.json", "one", 3, &why), -ENOENT);
	a67_buf_free(&text);
	close_dir(&dir);
}

static void
trash_takes_trees_in_steps(void)
{
	A67StateDir dir = open_dir();
	char name[64];
	int steps = 0;

	CHECK_INT(mkdirat(dir.fd, "apps/tree", 0700), 0);
	for (int i = 0; i < 50; i++)
	{
		(void) snprintf(name, sizeof(name), "apps/tree/%d", i);
		CHECK_INT(mkdirat(dir.fd, name, 0000), 0);
	}
	CHECK_INT(symlinkat("/etc", dir.fd, "apps/tree/link"), 0);
	CHECK_INT(a67_trash_put(&dir, "apps/tree"), 0);
	CHECK_INT(a67_trash_put(&dir, "apps/tree"), 0);
	CHECK(!exists(&dir, "apps/tree"));
	while (a67_trash_step(&dir, 20) && steps < 100)
		steps++;
	CHECK(steps > 1 && steps < 100);
	CHECK_INT(access("/etc", F_OK), 0);
	close_dir(&dir);
}

static A67Desired *
some_desired(void)
{
	static const char text[] =
		"{\"generation\":7,\"deployment\":\"d\",\"release\":1,"
		"\"app_type\":\"worker\",\"package\":{\"digest\":\"" DIGEST
		"\",\"path\":\"/p\"},\"entrypoint\":[\"a\"],\"sealed_env\":\"AAAA\",\"env_version\":\"v1\"}";
	A67Why why;

	return a67_desired_parse(text, strlen(text), &why);
}

/* A saved replica with everything set. */
static void
save_one(const A67StateDir *dir)
{
	A67Replica *replica = a67_replica_new(ID, 1);

	REQUIRE(replica != NULL);
	replica->desired = some_desired();
	REQUIRE(replica->desired != NULL);
	replica->state = A67_REPLICA_RUNNING;
	replica->generation = 7;
	replica->content = 5;
	replica->process.pid = 4242;
	replica->process.start_ticks = 99;
	replica->port = 4711;
	replica->renewal = true;
	(void) snprintf(replica->secrets_dir, sizeof(replica->secrets_dir), "/dev/shm/x");
	replica->restarts = 3;
	replica->since_ms = 1234567890123;
	(void) snprintf(replica->error, sizeof(replica->error), "it \"hurt\"\n");
	(void) snprintf(replica->log_tail, sizeof(replica->log_tail), "no utf-8: \xff\xfe");
	CHECK_INT(a67_replica_save(dir, replica), 0);
	a67_replica_free(replica);
}

static void
replica_survives_its_file(void)
{
	A67StateDir dir = open_dir();
	A67Replica *replica;
	A67Desired *desired = some_desired();

	save_one(&dir);
	replica = a67_replica_load(&dir, ID, 1);
	REQUIRE(replica != NULL && replica->desired != NULL && desired != NULL);
	CHECK_INT(replica->state, A67_REPLICA_RUNNING);
	CHECK_INT(replica->generation, 7);
	CHECK_INT(replica->content, 5);
	CHECK_INT(replica->process.pid, 4242);
	CHECK_UINT(replica->process.start_ticks, 99);
	CHECK(replica->started && !replica->intent && !replica->rebooted);
	CHECK_INT(replica->port, 4711);
	CHECK(replica->renewal);
	CHECK_STR(replica->secrets_dir, "/dev/shm/x");
	CHECK_STR(json_string_value(replica->desired->sealed_env), "AAAA");
	CHECK_INT(replica->restarts, 3);
	CHECK_INT(replica->since_ms, 1234567890123);
	CHECK_STR(replica->error, "it \"hurt\"\n");
	CHECK_STR(replica->log_tail, "no utf-8: \xef\xbf\xbd\xef\xbf\xbd");
	CHECK(a67_desired_same(replica->desired, desired));
	a67_desired_free(desired);
	a67_replica_free(replica);
	close_dir(&dir);
}

static A67Desired *
some_run(void)
{
	static const char text[] = "{\"generation\":7,\"deployment\":\"d\",\"release\":1,"
							   "\"app_type\":\"cron\",\"package\":{\"digest\":\"" DIGEST
							   "\",\"path\":\"/p\"},\"entrypoint\":[\"a\"]}";
	A67Why why;

	return a67_desired_parse(text, strlen(text), &why);
}

static json_int_t
reported(const A67Replica *replica, const char *name)
{
	json_t *doc = a67_replica_report(replica);
	json_t *value = json_object_get(doc, name);
	json_int_t number = json_is_integer(value) ? json_integer_value(value) : -2;

	json_decref(doc);
	return number;
}

static void
result_of_a_run_survives_its_file(void)
{
	A67StateDir dir = open_dir();
	A67Replica *replica = a67_replica_new(ID, 1);

	REQUIRE(replica != NULL);
	replica->desired = some_run();
	REQUIRE(replica->desired != NULL && a67_replica_is_run(replica));
	replica->state = A67_REPLICA_RUNNING;
	replica->generation = replica->content = 7;
	replica->begun = true;
	replica->started_ms = 1234567890123;
	replica->exit_code = 0;
	replica->duration_ms = 42;
	/* While it runs there is no result. */
	CHECK_INT(reported(replica, "exit_code"), -2);
	replica->state = A67_REPLICA_FINISHED;
	CHECK_INT(a67_replica_save(&dir, replica), 0);
	a67_replica_free(replica);
	replica = a67_replica_load(&dir, ID, 1);
	REQUIRE(replica != NULL);
	CHECK_INT(replica->state, A67_REPLICA_FINISHED);
	CHECK(replica->begun);
	CHECK_INT(replica->started_ms, 1234567890123);
	CHECK_INT(reported(replica, "exit_code"), 0);
	CHECK_INT(reported(replica, "duration_ms"), 42);
	/* Over itself, and shorter. */
	replica->state = A67_REPLICA_STOPPING;
	replica->error[0] = '\0';
	CHECK_INT(a67_replica_save_in_place(&dir, replica), 0);
	a67_replica_free(replica);
	replica = a67_replica_load(&dir, ID, 1);
	REQUIRE(replica != NULL);
	CHECK_INT(replica->state, A67_REPLICA_STOPPING);
	a67_replica_free(replica);
	close_dir(&dir);
}

static void
files_are_written_over_only_when_they_are_there(void)
{
	A67StateDir dir = open_dir();
	A67Buf text;
	A67Why why;

	CHECK_INT(a67_statedir_overwrite(&dir, "replicas/x.json", "one", 3, &why), -ENOENT);
	CHECK_INT(a67_statedir_write(&dir, "replicas/x.json", "three", 5, &why), 0);
	CHECK_INT(a67_statedir_overwrite(&dir, "replicas/x.json", "one", 3, &why), 0);
	a67_buf_init(&text, 64);
	CHECK_INT(a67_statedir_read(&dir, "replicas/x.json", &text, &why), 0);
	CHECK_STR(a67_buf_text(&text), "one");
	a67_buf_free(&text);
	CHECK(a67_statedir_has_room(&dir, 1));
	CHECK(!a67_statedir_has_room(&dir, INT64_MAX));
	close_dir(&dir);
}

/* Loads the given bytes as the state file; whatever is not understood must be put aside. */
static void
load_bytes(const A67StateDir *dir, const char *bytes, size_t len)
{
	A67Replica *replica;
	A67Why why;

	CHECK_INT(a67_statedir_write(dir, "replicas/" ID ".json", bytes, len, &why), 0);
	replica = a67_replica_load(dir, ID, 1);
	CHECK((replica == NULL) == exists(dir, "replicas/" ID ".json.corrupt"));
	a67_replica_free(replica);
	(void) unlinkat(dir->fd, "replicas/" ID ".json.corrupt", 0);
}

static void
cut_and_changed_state_files_do_no_harm(void)
{
	A67StateDir dir = open_dir();
	A67Buf text;
	A67Why why;
	int quiet = dup(STDERR_FILENO);
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	/* Each of the thousand quarantines is a line of the log. */
	(void) dup2(null, STDERR_FILENO);
	save_one(&dir);
	a67_buf_init(&text, A67_REPLICA_MAX_BYTES);
	CHECK_INT(a67_statedir_read(&dir, "replicas/" ID ".json", &text, &why), 0);
	for (size_t i = 0; i < text.len; i++)
	{
		char kept = text.data[i];

		load_bytes(&dir, text.data, i);
		text.data[i] = (char) (kept ^ 0x15);
		load_bytes(&dir, text.data, text.len);
		text.data[i] = kept;
	}
	a67_buf_free(&text);
	(void) dup2(quiet, STDERR_FILENO);
	(void) close(quiet);
	(void) close(null);
	close_dir(&dir);
}

static void
identity_survives_and_damage_unregisters(void)
{
	A67StateDir dir = open_dir();
	A67Identity one;
	A67Identity two;
	A67Why why;

	CHECK_INT(a67_identity_load(&dir, &one, &why), 0);
	CHECK(!one.registered);
	(void) snprintf(one.node_id, sizeof(one.node_id), "%s", ID);
	(void) snprintf(one.name, sizeof(one.name), "n");
	(void) snprintf(one.node_token, sizeof(one.node_token), "a.b.c");
	(void) snprintf(one.controller_url, sizeof(one.controller_url), "http://127.0.0.1:1");
	one.heartbeat_ms = 1500;
	one.port = 81;
	one.plain = true;
	CHECK_INT(a67_identity_save(&dir, &one, &why), 0);
	CHECK_INT(a67_identity_load(&dir, &two, &why), 0);
	CHECK(two.registered);
	CHECK_MEM(two.public_key, one.public_key, sizeof(one.public_key));
	CHECK_STR(two.node_token, "a.b.c");
	CHECK_INT(two.heartbeat_ms, 1500);
	CHECK_INT(two.port, 81);
	CHECK(two.plain);
	a67_log_set_level((A67LogLevel) -1);
	/* The registration of a key that is gone is worth nothing. */
	a67_statedir_remove(&dir, "node.key");
	CHECK_INT(a67_identity_load(&dir, &two, &why), 0);
	CHECK(!two.registered && exists(&dir, "node.json.corrupt"));
	CHECK_INT(a67_statedir_write(&dir, "node.json", "{\"node_id\":1}", 13, &why), 0);
	CHECK_INT(a67_statedir_write(&dir, "node.key", "short\n", 6, &why), 0);
	CHECK_INT(a67_identity_load(&dir, &two, &why), 0);
	CHECK(!two.registered);
	CHECK(memcmp(two.public_key, one.public_key, sizeof(one.public_key)) != 0);
	CHECK(exists(&dir, "node.json.corrupt") && exists(&dir, "node.key.corrupt"));
	close_dir(&dir);
}

static void
patience_follows_the_interval(void)
{
	CHECK_INT(a67_control_patience_ms(100), 1000);
	CHECK_INT(a67_control_patience_ms(2000), 20000);
	CHECK_INT(a67_control_patience_ms(10000), 30000);
	CHECK_INT(a67_control_patience_ms(29999), 30000);
	CHECK_INT(a67_control_patience_ms(30000), 300000);
	CHECK_INT(a67_control_patience_ms(3600000), 300000);
}

UNIT_MAIN("agent_state", UNIT(one_agent_a_directory), UNIT(directory_of_others_is_refused),
		  UNIT(files_are_replaced_whole), UNIT(trash_takes_trees_in_steps),
		  UNIT(replica_survives_its_file), UNIT(result_of_a_run_survives_its_file),
		  UNIT(files_are_written_over_only_when_they_are_there),
		  UNIT(cut_and_changed_state_files_do_no_harm),
		  UNIT(identity_survives_and_damage_unregisters), UNIT(patience_follows_the_interval));

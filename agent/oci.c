/*
 * oci.c - root, mounts, process, namespaces, limits and filter of a container.  See oci.h.
 */
#include "oci.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOFILE_LIMIT 65536

/* What of the host an application without a root file system of its own sees, where it is there. */
static const char *const host_parts[] = {"/usr",	"/bin", "/sbin", "/lib", "/lib32", "/lib64",
										 "/libx32", "/etc", "/opt",	 "/nix", NULL};

/* Of the host in every container: names resolve as they do outside. */
static const char *const name_files[] = {"/etc/resolv.conf", "/etc/hosts", NULL};

static const char *const masked[] = {"/proc/acpi",
									 "/proc/asound",
									 "/proc/kcore",
									 "/proc/keys",
									 "/proc/latency_stats",
									 "/proc/timer_list",
									 "/proc/timer_stats",
									 "/proc/sched_debug",
									 "/proc/scsi",
									 "/proc/interrupts",
									 NULL};

static const char *const readonly[] = {"/proc/bus",			  "/proc/fs", "/proc/irq", "/proc/sys",
									   "/proc/sysrq-trigger", NULL};

/*
 * System calls that change the machine, load code into the kernel, make namespaces or read what is not
 * the application's.  Most need capabilities that it has not; the filter holds where the kernel errs.
 */
static const char *const forbidden[] = {"acct",
										"add_key",
										"adjtimex",
										"bpf",
										"clock_adjtime",
										"clock_adjtime64",
										"clock_settime",
										"clock_settime64",
										"create_module",
										"delete_module",
										"finit_module",
										"fsconfig",
										"fsmount",
										"fsopen",
										"fspick",
										"get_kernel_syms",
										"init_module",
										"io_uring_enter",
										"io_uring_register",
										"io_uring_setup",
										"ioperm",
										"iopl",
										"kcmp",
										"kexec_file_load",
										"kexec_load",
										"keyctl",
										"lookup_dcookie",
										"mount",
										"mount_setattr",
										"move_mount",
										"move_pages",
										"nfsservctl",
										"open_by_handle_at",
										"open_tree",
										"perf_event_open",
										"pivot_root",
										"process_vm_readv",
										"process_vm_writev",
										"query_module",
										"quotactl",
										"quotactl_fd",
										"reboot",
										"request_key",
										"setns",
										"settimeofday",
										"stime",
										"swapoff",
										"swapon",
										"sysfs",
										"syslog",
										"umount",
										"umount2",
										"unshare",
										"uselib",
										"userfaultfd",
										"ustat",
										"vm86",
										"vm86old",
										NULL};

static json_t *
strings(const char *const *list)
{
	json_t *array = json_array();

	for (; *list != NULL; list++)
		(void) json_array_append_new(array, json_string(*list));
	return array;
}

/* ---- mounts ---- */

static void
mount_kernel(json_t *mounts, const char *to, const char *type, const char *const *options)
{
	(void) json_array_append_new(mounts,
								 json_pack("{s:s,s:s,s:s,s:o}", "destination", to, "type", type,
										   "source", type, "options", strings(options)));
}

/* A directory or file of the host; what is not there is left out. */
static void
mount_host(json_t *mounts, const char *from, const char *to, bool writable)
{
	const char *const options[] = {"rbind", writable ? "rw" : "ro", "nosuid", "nodev", NULL};
	struct stat st;

	if (from == NULL || stat(from, &st) != 0)
		return;
	(void) json_array_append_new(mounts,
								 json_pack("{s:s,s:s,s:s,s:o}", "destination", to, "type", "bind",
										   "source", from, "options", strings(options)));
}

static json_t *
mounts_of(const A67Container *container, bool rootfs)
{
	static const char *const proc[] = {"nosuid", "noexec", "nodev", NULL};
	static const char *const dev[] = {"nosuid", "strictatime", "mode=755", "size=64k", NULL};
	static const char *const shm[] = {"nosuid", "noexec", "nodev", "mode=1777", "size=64m", NULL};
	static const char *const run[] = {"nosuid", "nodev", "mode=755", "size=64k", NULL};
	json_t *mounts = json_array();

	for (size_t i = 0; !rootfs && host_parts[i] != NULL; i++)
		mount_host(mounts, host_parts[i], host_parts[i], false);
	mount_kernel(mounts, "/proc", "proc", proc);
	mount_kernel(mounts, "/dev", "tmpfs", dev);
	mount_kernel(mounts, "/dev/shm", "tmpfs", shm);
	mount_kernel(mounts, "/run", "tmpfs", run);
	for (size_t i = 0; rootfs && name_files[i] != NULL; i++)
		mount_host(mounts, name_files[i], name_files[i], false);
	if (!rootfs)
		mount_host(mounts, container->package, A67_CONTAINER_APP, true);
	mount_host(mounts, container->home, A67_CONTAINER_HOME, true);
	mount_host(mounts, container->tmp, A67_CONTAINER_TMP, true);
	mount_host(mounts, container->secrets, A67_CONTAINER_SECRETS, false);
	mount_host(mounts, container->tool, A67_CONTAINER_TOOL, false);
	return mounts;
}

/* ---- process ---- */

static void
add_limit(json_t *limits, const char *type, int64_t value)
{
	(void) json_array_append_new(limits, json_pack("{s:s,s:I,s:I}", "type", type, "hard",
												   (json_int_t) value, "soft", (json_int_t) value));
}

static json_t *
limits_of(const A67Container *container)
{
	json_t *limits = json_array();
	struct rlimit files;
	int64_t nofile = NOFILE_LIMIT;

	/* Nobody may raise a limit that the agent has. */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_max < (rlim_t) nofile)
		nofile = (int64_t) files.rlim_max;
	add_limit(limits, "RLIMIT_CORE", 0);
	add_limit(limits, "RLIMIT_NOFILE", nofile);
	if (container->limits.data_bytes > 0)
		add_limit(limits, "RLIMIT_DATA", container->limits.data_bytes);
	if (container->limits.processes > 0)
		add_limit(limits, "RLIMIT_NPROC", container->limits.processes);
	return limits;
}

json_t *
a67_oci_process(const A67Container *container)
{
	json_int_t uid = (json_int_t) (container->uid != 0 ? container->uid : geteuid());
	json_int_t gid = (json_int_t) (container->uid != 0 ? container->uid : getegid());
	const char *cwd = container->own_root || container->package == NULL ? "/" : A67_CONTAINER_APP;

	return json_pack("{s:b,s:{s:I,s:I},s:o,s:o,s:s,s:{s:[],s:[],s:[],s:[],s:[]},s:o,s:b}",
					 "terminal", 0, "user", "uid", uid, "gid", gid, "args",
					 strings((const char *const *) container->argv), "env",
					 strings((const char *const *) container->envp), "cwd", cwd, "capabilities",
					 "bounding", "effective", "inheritable", "permitted", "ambient", "rlimits",
					 limits_of(container), "noNewPrivileges", 1);
}

/* ---- linux ---- */

static void
add_namespace(json_t *namespaces, const char *type)
{
	(void) json_array_append_new(namespaces, json_pack("{s:s}", "type", type));
}

static json_t *
id_map(json_int_t id)
{
	return json_pack("[{s:I,s:I,s:i}]", "containerID", id, "hostID", id, "size", 1);
}

static json_t *
seccomp(void)
{
	json_t *filter =
		json_pack("{s:s,s:[{s:o,s:s,s:i},{s:[s],s:s,s:i},{s:[s],s:s,s:i,s:[{s:i,s:I,s:I,s:s}]}]}",
				  "defaultAction", "SCMP_ACT_ALLOW", "syscalls", "names", strings(forbidden),
				  "action", "SCMP_ACT_ERRNO", "errnoRet", 1, "names", "clone3", "action",
				  /* Its flags are out of reach of a filter; ENOSYS makes libraries use clone. */
				  "SCMP_ACT_ERRNO", "errnoRet", 38, "names", "clone", "action", "SCMP_ACT_ERRNO",
				  "errnoRet", 1, "args", "index", 0, "value", (json_int_t) CLONE_NEWUSER,
				  "valueTwo", (json_int_t) CLONE_NEWUSER, "op", "SCMP_CMP_MASKED_EQ");

#if defined(__x86_64__)
	(void) json_object_set_new(filter, "architectures",
							   json_pack("[s,s,s]", "SCMP_ARCH_X86_64", "SCMP_ARCH_X86",
										 "SCMP_ARCH_X32"));
#elif defined(__aarch64__)
	(void) json_object_set_new(filter, "architectures",
							   json_pack("[s,s]", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"));
#endif
	return filter;
}

static json_t *
linux_of(const A67Container *container)
{
	json_t *namespaces = json_array();
	json_t *doc = json_pack("{s:o,s:o,s:o}", "namespaces", namespaces, "maskedPaths",
							strings(masked), "readonlyPaths", strings(readonly));

	add_namespace(namespaces, "pid");
	add_namespace(namespaces, "mount");
	add_namespace(namespaces, "ipc");
	add_namespace(namespaces, "uts");
	if (access("/proc/self/ns/cgroup", F_OK) == 0)
		add_namespace(namespaces, "cgroup");
	if (geteuid() != 0)
	{
		add_namespace(namespaces, "user");
		(void) json_object_set_new(doc, "uidMappings", id_map((json_int_t) geteuid()));
		(void) json_object_set_new(doc, "gidMappings", id_map((json_int_t) getegid()));
	}
	if (container->crun->seccomp)
		(void) json_object_set_new(doc, "seccomp", seccomp());
	return doc;
}

json_t *
a67_oci_config(const A67Container *container)
{
	bool rootfs = container->own_root;
	char root[A67_CONTAINER_PATH_SIZE];

	(void) snprintf(root, sizeof(root), "%s/%s", rootfs ? container->package : container->bundle,
					rootfs ? "rootfs" : "root");
	/* No host name: a service manager may forbid the call, and nobody needs another one. */
	return json_pack("{s:s,s:o,s:{s:s,s:b},s:o,s:o}", "ociVersion", "1.0.0", "process",
					 a67_oci_process(container), "root", "path", root, "readonly", (int) !rootfs,
					 "mounts", mounts_of(container, rootfs), "linux", linux_of(container));
}

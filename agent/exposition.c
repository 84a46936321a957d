/*
 * exposition.c - GET /metrics: the node and its replicas in Prometheus' text format.
 *
 * Names begin with a67_; labels name the replica and its deployment.  Called by serve.c.
 */
#include "serve.h"

#include <string.h>
#include <unistd.h>

#include "core/encode.h"

static void
family(A67Buf *out, const char *name, const char *type, const char *help)
{
	(void) a67_buf_append_fmt(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void
gauge(A67Buf *out, const char *name, const char *help, double value)
{
	family(out, name, "gauge", help);
	(void) a67_buf_append_fmt(out, "%s %.15g\n", name, value);
}

static void
counter(A67Buf *out, const char *name, const char *help, uint64_t value)
{
	family(out, name, "counter", help);
	(void) a67_buf_append_fmt(out, "%s %llu\n", name, (unsigned long long) value);
}

static void
node_part(const A67Serve *serve, int64_t now_ms, A67Buf *out)
{
	A67Sample sample;
	A67HttpStats stats;

	a67_metrics_sample(serve->metrics, serve->dir->path, now_ms, &sample);
	a67_http_server_stats(serve->server, &stats);
	family(out, "a67_agent_info", "gauge", "Version of the agent.");
	(void) a67_buf_append_fmt(out, "a67_agent_info{node_id=\"%s\",version=\"%s\"} 1\n",
							  serve->identity->node_id, A67_VERSION);
	gauge(out, "a67_node_cpu_percent", "Busy share of all cores.", sample.cpu_percent);
	gauge(out, "a67_node_memory_total_bytes", "Memory of the node.",
		  (double) sample.memory_total_bytes);
	gauge(out, "a67_node_memory_free_bytes", "Memory that applications could still take.",
		  (double) sample.memory_free_bytes);
	gauge(out, "a67_node_disk_total_bytes", "Size of the disk of the state directory.",
		  (double) sample.disk_total_bytes);
	gauge(out, "a67_node_disk_free_bytes", "Free space on it.", (double) sample.disk_free_bytes);
	gauge(out, "a67_node_load1", "Load average of one minute.", sample.load1);
	gauge(out, "a67_node_uptime_seconds", "Time since the machine started.",
		  (double) sample.uptime_s);
	if (sample.network_bytes >= 0)
		counter(out, "a67_node_network_bytes_total",
				"Bytes sent and received since then, loopback apart.",
				(uint64_t) sample.network_bytes);
	counter(out, "a67_agent_heartbeats_total", "Heartbeats that the controller took.",
			serve->control->beats_ok);
	counter(out, "a67_agent_heartbeats_failed_total", "Heartbeats that it did not.",
			serve->control->beats_failed);
	counter(out, "a67_agent_commands_total", "Commands obeyed or answered.", serve->commands_ok);
	counter(out, "a67_agent_commands_refused_total", "Commands without a good token.",
			serve->commands_refused);
	counter(out, "a67_agent_http_requests_total", "Requests of any kind.", stats.requests);
}

/* Label values hold anything a deployment may be called: quotes and backslashes are escaped. */
static void
labels(A67Buf *out, const char *name, const A67Replica *replica)
{
	const char *deployment = replica->desired != NULL ? replica->desired->deployment : "";

	(void) a67_buf_append_fmt(out, "%s{replica=\"%s\",deployment=", name, replica->id);
	(void) a67_buf_append_json_string(out, deployment, strlen(deployment));
}

typedef double (*Value)(const A67Replica *replica, const A67ProcStat *stat);

static double
value_up(const A67Replica *replica, const A67ProcStat *stat)
{
	return replica->state == A67_REPLICA_RUNNING ? 1 : 0;
}

static double
value_restarts(const A67Replica *replica, const A67ProcStat *stat)
{
	return (double) replica->restarts;
}

static double
value_cpu(const A67Replica *replica, const A67ProcStat *stat)
{
	return (double) stat->cpu_ticks / (double) sysconf(_SC_CLK_TCK);
}

static double
value_rss(const A67Replica *replica, const A67ProcStat *stat)
{
	return (double) stat->rss_bytes;
}

typedef struct Series
{
	const char *name;
	const char *type;
	const char *help;
	Value value;
	bool process; /* only while there is one */
} Series;

static const Series series[] = {
	{"a67_replica_up", "gauge", "Whether the replica is running and healthy.", value_up, false},
	{"a67_replica_restarts_total", "counter", "Restarts of this content.", value_restarts, false},
	{"a67_replica_cpu_seconds_total", "counter", "Processor time of its main process.", value_cpu,
	 true},
	{"a67_replica_memory_bytes", "gauge", "Resident memory of its main process.", value_rss, true},
};

static void
replica_part(const A67Serve *serve, const Series *one, A67Buf *out)
{
	family(out, one->name, one->type, one->help);
	for (size_t i = 0; i < serve->supervisor->count; i++)
	{
		const A67Replica *replica = serve->supervisor->replicas[i];
		A67ProcStat stat = {0};

		if (replica->desired == NULL ||
			(one->process &&
			 (replica->process.pid == 0 || a67_proc_stat(replica->process.pid, &stat) != 0)))
			continue;
		labels(out, one->name, replica);
		(void) a67_buf_append_fmt(out, "} %.15g\n", one->value(replica, &stat));
	}
}

bool
a67_exposition(const A67Serve *serve, int64_t now_ms, A67Buf *out)
{
	node_part(serve, now_ms, out);
	for (size_t i = 0; i < sizeof(series) / sizeof(series[0]); i++)
		replica_part(serve, &series[i], out);
	return !out->failed;
}

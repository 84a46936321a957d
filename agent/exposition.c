/*
 * exposition.c - GET /metrics: the node, its chunks and its replicas in Prometheus' text format.
 *
 * Names begin with a67_; labels name the replica and its deployment.  A figure that this machine does not
 * have is left out.  Called by serve.c.
 */
#include "serve.h"

#include <string.h>

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

/* A counter of the kernel; below 0 it has none. */
static void
counter_if(A67Buf *out, const char *name, const char *help, int64_t value)
{
	if (value >= 0)
		counter(out, name, help, (uint64_t) value);
}

static void
machine_part(const A67Sample *sample, A67Buf *out)
{
	gauge(out, "a67_node_cpu_cores", "Processor cores that may be used.", sample->cores);
	gauge(out, "a67_node_cpu_percent", "Busy share of these cores.", sample->cpu_percent);
	gauge(out, "a67_node_memory_total_bytes", "Memory of the node.",
		  (double) sample->memory_total_bytes);
	gauge(out, "a67_node_memory_free_bytes", "Memory that applications could still take.",
		  (double) sample->memory_free_bytes);
	gauge(out, "a67_node_disk_total_bytes", "Size of the disk of the state directory.",
		  (double) sample->disk_total_bytes);
	gauge(out, "a67_node_disk_free_bytes", "Free space on it.", (double) sample->disk_free_bytes);
	counter_if(out, "a67_node_disk_read_bytes_total", "Bytes read from all disks.",
			   sample->disk_read_bytes);
	counter_if(out, "a67_node_disk_written_bytes_total", "Bytes written to all disks.",
			   sample->disk_written_bytes);
	if (sample->disk_busy_ms >= 0)
	{
		family(out, "a67_node_disk_busy_seconds_total", "counter",
			   "Time in which disks had something to do.");
		(void) a67_buf_append_fmt(out, "a67_node_disk_busy_seconds_total %.15g\n",
								  (double) sample->disk_busy_ms / 1000);
	}
	counter_if(out, "a67_node_network_received_bytes_total",
			   "Bytes received by all interfaces but loopback.", sample->received_bytes);
	counter_if(out, "a67_node_network_transmitted_bytes_total",
			   "Bytes sent by all interfaces but loopback.", sample->transmitted_bytes);
	gauge(out, "a67_node_load1", "Load average of one minute.", sample->load1);
	gauge(out, "a67_node_load5", "Load average of five minutes.", sample->load5);
	gauge(out, "a67_node_load15", "Load average of fifteen minutes.", sample->load15);
	gauge(out, "a67_node_uptime_seconds", "Time since the machine started.",
		  (double) sample->uptime_s);
}

static void
pressure_part(const A67Sample *sample, A67Buf *out)
{
	static const char name[] = "a67_node_pressure_seconds_total";
	static const char *const resources[A67_PRESSURE_COUNT] = {"cpu", "memory", "io"};
	bool headed = false;

	for (size_t i = 0; i < A67_PRESSURE_COUNT; i++)
	{
		const A67Pressure *pressure = &sample->pressure[i];

		if (pressure->some_us < 0)
			continue;
		if (!headed)
			family(out, name, "counter",
				   "Time in which some, or all, tasks waited for a resource (PSI).");
		headed = true;
		(void) a67_buf_append_fmt(out, "%s{resource=\"%s\",tasks=\"some\"} %.15g\n", name,
								  resources[i], (double) pressure->some_us / 1e6);
		if (pressure->full_us >= 0)
			(void) a67_buf_append_fmt(out, "%s{resource=\"%s\",tasks=\"all\"} %.15g\n", name,
									  resources[i], (double) pressure->full_us / 1e6);
	}
}

static void
agent_part(const A67Serve *serve, A67Buf *out)
{
	A67HttpStats stats;

	a67_http_server_stats(serve->server, &stats);
	family(out, "a67_agent_info", "gauge", "Version of the agent.");
	(void) a67_buf_append_fmt(out, "a67_agent_info{node_id=\"%s\",version=\"%s\"} 1\n",
							  serve->identity->node_id, A67_VERSION);
	counter(out, "a67_agent_heartbeats_total", "Heartbeats that the controller took.",
			serve->control->beats_ok);
	counter(out, "a67_agent_heartbeats_failed_total", "Heartbeats that it did not.",
			serve->control->beats_failed);
	counter(out, "a67_agent_commands_total", "Commands obeyed or answered.", serve->commands_ok);
	counter(out, "a67_agent_commands_refused_total", "Commands without a good token.",
			serve->commands_refused);
	counter(out, "a67_agent_http_requests_total", "Requests of any kind.", stats.requests);
}

static void
chunk_part(const A67Chunks *chunks, A67Buf *out)
{
	const A67ChunkStore *store = &chunks->store;

	gauge(out, "a67_chunk_stored", "Chunks stored.", (double) store->count);
	gauge(out, "a67_chunk_bytes", "Bytes of chunks stored or put aside.", (double) store->bytes);
	gauge(out, "a67_chunk_quota_bytes", "What they may be at most.", (double) store->quota_bytes);
	gauge(out, "a67_chunk_rotten", "Chunks put aside because their bytes have changed.",
		  (double) store->rotten);
	counter(out, "a67_chunk_received_total", "Chunks stored since the agent started.",
			chunks->received);
	counter(out, "a67_chunk_received_bytes_total", "Bytes of these.", chunks->received_bytes);
	counter(out, "a67_chunk_sent_total", "Answers with a chunk or a part of one.", chunks->sent);
	counter(out, "a67_chunk_sent_bytes_total", "Bytes in these.", chunks->sent_bytes);
	counter(out, "a67_chunk_scrubbed_total", "Chunks verified in the background.",
			chunks->scrub.checked);
	counter(out, "a67_chunk_scrubbed_bytes_total", "Bytes of these.", chunks->scrub.checked_bytes);
}

/* Label values hold anything a deployment may be called: quotes and backslashes are escaped. */
static void
labels(A67Buf *out, const char *name, const A67Replica *replica)
{
	const char *deployment = replica->desired != NULL ? replica->desired->deployment : "";

	(void) a67_buf_append_fmt(out, "%s{replica=\"%s\",deployment=", name, replica->id);
	(void) a67_buf_append_json_string(out, deployment, strlen(deployment));
}

typedef double (*Value)(const A67Replica *replica, const A67Usage *usage);

static double
value_up(const A67Replica *replica, const A67Usage *usage)
{
	return replica->state == A67_REPLICA_RUNNING ? 1 : 0;
}

static double
value_restarts(const A67Replica *replica, const A67Usage *usage)
{
	return (double) replica->restarts;
}

static double
value_cpu(const A67Replica *replica, const A67Usage *usage)
{
	return (double) usage->cpu_us / 1e6;
}

static double
value_cpu_percent(const A67Replica *replica, const A67Usage *usage)
{
	return usage->cpu_percent;
}

static double
value_memory(const A67Replica *replica, const A67Usage *usage)
{
	return (double) usage->memory_bytes;
}

typedef struct Series
{
	const char *name;
	const char *type;
	const char *help;
	Value value;
	bool usage; /* only while it has a process */
} Series;

static const Series series[] = {
	{"a67_replica_up", "gauge", "Whether the replica is running and healthy.", value_up, false},
	{"a67_replica_restarts_total", "counter", "Restarts of this content.", value_restarts, false},
	{"a67_replica_cpu_seconds_total", "counter", "Processor time of its processes.", value_cpu,
	 true},
	{"a67_replica_cpu_percent", "gauge", "The same in the last seconds, of one core.",
	 value_cpu_percent, true},
	{"a67_replica_memory_bytes", "gauge", "Memory of its processes.", value_memory, true},
};

static void
replica_part(const A67Serve *serve, const Series *one, A67Buf *out)
{
	bool headed = false;

	for (size_t i = 0; i < serve->supervisor->count; i++)
	{
		const A67Replica *replica = serve->supervisor->replicas[i];
		const A67Usage *usage = a67_usage_find(serve->usage, replica->id);

		if (replica->desired == NULL || (one->usage && usage == NULL))
			continue;
		if (!headed)
			family(out, one->name, one->type, one->help);
		headed = true;
		labels(out, one->name, replica);
		(void) a67_buf_append_fmt(out, "} %.15g\n", one->value(replica, usage));
	}
}

bool
a67_exposition(const A67Serve *serve, A67Buf *out)
{
	machine_part(&serve->metrics->last, out);
	pressure_part(&serve->metrics->last, out);
	agent_part(serve, out);
	chunk_part(serve->chunks, out);
	for (size_t i = 0; i < sizeof(series) / sizeof(series[0]); i++)
		replica_part(serve, &series[i], out);
	a67_logs_exposition(serve->logs, out);
	return !out->failed;
}

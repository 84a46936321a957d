/*
 * select.c - runs a selection and says what was short; see select.h.
 *
 * The lock of a shared view is held from its opening to its closing; all memory that is needed in between is
 * taken before. Metrics count for 30 s or two heartbeat intervals, whichever is longer, and a status without
 * a sign of life for a minute or two intervals.
 */
#include "postgres.h"

#include "registry/select.h"

#include "lib/stringinfo.h"

#include "core/nodefsm.h"
#include "platform/settings.h"
#include "registry/live_view.h"

#define METRICS_LIFE_MS 30000
#define HEALTH_LIFE_MS	60000

/* Where round robin goes on when nobody keeps the turn of the owner. */
static uint32 own_turn;

static void
look_from_now(A67Selection *selection, TimestampTz base)
{
	A67ScoreView *view = &selection->request.view;
	int two_beats = 2 * a67_heartbeat_interval;

	view->weights = *a67_weights;
	view->now = a67_live_tenths(base, selection->now);
	view->metrics_life = (uint32) (Max(METRICS_LIFE_MS, two_beats) / A67_TENTH_MS);
	view->health_life = (uint32) (Max(HEALTH_LIFE_MS, two_beats) / A67_TENTH_MS);
}

/* Marks the nodes that the request names, where the view has them. */
static void
find_named(A67Selection *selection, const A67LiveView *view, A67PlaceMark *marks)
{
	uint32 count = 0;

	for (uint32 i = 0; i < selection->named_count; i++)
	{
		const A67NamedNode *named = &selection->named[i];
		uint32 index = a67_live_view_find(view, named->node_id);

		if (index == A67_NO_PLACE)
			continue;
		marks[count++] = (A67PlaceMark){.index = index,
										.replicas = named->replicas,
										.avoided = named->avoided,
										.excluded = named->excluded,
										.barred = named->barred};
	}
	selection->request.marks = marks;
	selection->request.mark_count = count;
}

/* Copies what is known of a chosen node. */
static void
copy_chosen(const A67Selection *selection, const A67LiveView *view, A67ChosenNode *chosen)
{
	const A67PlaceRequest *request = &selection->request;
	uint32 index = chosen->choice.index;
	const A67LiveSlot *slot = a67_live_view_slot(view, index);

	(void) a67_score(&view->candidates.nodes[index], &request->view, &chosen->parts);
	memcpy(chosen->node_id, slot->traits.id, 16);
	memcpy(chosen->name, slot->name, sizeof(chosen->name));
	memcpy(chosen->region, slot->region, sizeof(chosen->region));
	memcpy(chosen->provider, slot->provider, sizeof(chosen->provider));
	chosen->km = -1;
	for (uint32 i = 0; i < request->distance_count; i++)
	{
		if (request->distances[i].region == slot->traits.region)
			chosen->km = request->distances[i].km;
	}
}

static void
place(A67Selection *selection, const A67LiveView *view, A67PlaceChoice *choices)
{
	A67PlaceRequest *request = &selection->request;

	request->owner = view->owner;
	if (selection->seeded)
		request->turn = (uint32) request->seed;
	else
		request->turn = view->turn != NULL ? pg_atomic_read_u32(view->turn) : own_turn;
	selection->placed = a67_place(&view->candidates, request, choices);
	for (int i = 0; i < selection->placed; i++)
	{
		selection->chosen[i].choice = choices[i];
		copy_chosen(selection, view, &selection->chosen[i]);
	}
	if (selection->placed < (int) request->count)
		a67_place_explain(&view->candidates, request, choices, selection->placed,
						  &selection->report);
	if (request->strategy == A67_STRATEGY_ROUND_ROBIN && selection->placed > 0 &&
		!selection->seeded)
	{
		uint32 next = choices[selection->placed - 1].index + 1;

		if (view->turn != NULL)
			pg_atomic_write_u32(view->turn, next);
		else
			own_turn = next;
	}
}

void
a67_select(A67Selection *selection)
{
	uint32 count = selection->request.count;
	A67PlaceMark *marks = palloc(sizeof(A67PlaceMark) * (selection->named_count + 1));
	A67PlaceChoice *choices = palloc(sizeof(A67PlaceChoice) * (count + 1));
	A67LiveView view;

	selection->chosen = palloc(sizeof(A67ChosenNode) * (count + 1));
	a67_live_view_open(&view, selection->owner_id);
	look_from_now(selection, view.base);
	find_named(selection, &view, marks);
	place(selection, &view, choices);
	a67_live_view_close(&view);
	pfree(choices);
	if (selection->placed < 0)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
}

void
a67_select_scores(A67Selection *selection, double *scores)
{
	A67ScoreParts parts;
	A67LiveView view;

	a67_live_view_open(&view, selection->owner_id);
	look_from_now(selection, view.base);
	for (uint32 i = 0; i < selection->named_count; i++)
	{
		uint32 index = a67_live_view_find(&view, selection->named[i].node_id);

		scores[i] = -1;
		if (index != A67_NO_PLACE)
			scores[i] = a67_score(&view.candidates.nodes[index], &selection->request.view, &parts);
	}
	a67_live_view_close(&view);
}

/* ---- what was short ---------------------------------------------------------------------------- */

/* "3 are failed", "1 is offline": one reason more in the sentence. */
static void
add_reason(StringInfo text, uint32 count, const char *one, const char *many)
{
	if (count == 0)
		return;
	appendStringInfo(text, "%s %u %s",
					 text->data[text->len - 1] == ',' || text->len == 0 ? "" : ",", count,
					 count == 1 ? one : many);
}

static void
add_statuses(StringInfo text, const A67PlaceReport *report)
{
	for (int status = 0; status < A67_NODE_STATUS_COUNT; status++)
	{
		const char *name = a67_node_status_name((A67NodeStatus) status);

		add_reason(text, report->by_status[status], psprintf("is %s", name),
				   psprintf("are %s", name));
	}
}

static void
add_resources(StringInfo text, const A67Selection *selection)
{
	const A67PlaceRequest *request = &selection->request;
	const A67PlaceReport *report = &selection->report;
	int placed = selection->placed;

	if (report->left == 0)
		return;
	appendStringInfo(text, "%s%u could be used%s:", text->len > 0 ? " " : "", report->left,
					 placed > 0 ? psprintf(" and took %d", placed) : "");
	if (report->memory > 0)
		appendStringInfo(text,
						 " %u short of " INT64_FORMAT
						 " bytes of memory to promise (most free: " INT64_FORMAT ")",
						 report->memory, request->memory_bytes, report->most_free_memory_bytes);
	if (report->cpu > 0)
		appendStringInfo(text, "%s %u short of %.3f cores to promise (most free: %.3f)",
						 report->memory > 0 ? "," : "", report->cpu, request->cpu_milli / 1000.0,
						 report->most_free_cpu_milli / 1000.0);
	if (report->disk > 0)
		appendStringInfo(text,
						 "%s %u short of " INT64_FORMAT
						 " bytes of disk to promise (most free: " INT64_FORMAT ")",
						 report->memory + report->cpu > 0 ? "," : "", report->disk,
						 request->disk_bytes, report->most_free_disk_bytes);
	appendStringInfoChar(text, '.');
}

char *
a67_select_shortage(const A67Selection *selection)
{
	const A67PlaceReport *report = &selection->report;
	StringInfoData text;

	initStringInfo(&text);
	if (report->nodes == 0)
	{
		appendStringInfoString(&text, "There is no node.");
		return text.data;
	}
	if (report->left < report->nodes)
	{
		appendStringInfo(&text, "Of %u node%s,", report->nodes, report->nodes == 1 ? "" : "s");
		add_statuses(&text, report);
		add_reason(&text, report->inactive, "is taken out by its owner",
				   "are taken out by their owner");
		add_reason(&text, report->service, "lacks the service", "lack the service");
		add_reason(&text, report->labels, "lacks the labels", "lack the labels");
		add_reason(&text, report->barred, "is ruled out by the manifest",
				   "are ruled out by the manifest");
		add_reason(&text, report->excluded, "is being filled by others",
				   "are being filled by others");
		appendStringInfoChar(&text, '.');
	}
	else
		appendStringInfo(&text, "Of %u node%s", report->nodes, report->nodes == 1 ? "" : "s");
	add_resources(&text, selection);
	return text.data;
}

/* Nothing but failure keeps every node out. */
static bool
all_failed(const A67PlaceReport *report)
{
	uint32 failed = report->by_status[A67_NODE_FAILED] + report->by_status[A67_NODE_SUSPECT] +
					report->by_status[A67_NODE_OFFLINE];

	return failed > 0 && failed + report->inactive == report->nodes;
}

void
a67_select_raise(const A67Selection *selection, int replicas, const char *note)
{
	const char *shortage = a67_select_shortage(selection);
	const char *detail = note[0] == '\0' ? shortage : psprintf("%s %s", shortage, note);

	if (all_failed(&selection->report))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES), errmsg("all nodes failed"),
				 errdetail("%s", detail),
				 errhint("Look at a67.node and a67.alert; bring nodes back, or join others.")));
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
			 errmsg("insufficient capacity for %d replicas", replicas), errdetail("%s", detail),
			 errhint("Join another node, activate one that was taken out, or ask for less.")));
	pg_unreachable();
}

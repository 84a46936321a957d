/*
 * live_traffic.c - what the ingress has counted, on its way into the live node table and from there to rows.
 *
 * Decides whose figures count: those of the ingress, while it is on and looks at the node, else those of the
 * node's beats. The history gets them at once; rows get them with the next beat, through the telemetry
 * worker, so that no figure has two writers. Called by SQL (_live_observe) and by live.c for every beat.
 */
#include "postgres.h"

#include <math.h>

#include "storage/spin.h"

#include "registry/live.h"

#include "platform/settings.h"
#include "registry/live_table.h"

/* Counts of one look; absurd ones count for nothing. */
static int64
whole(double count)
{
	return count >= 0 && count < 1e15 ? (int64) count : 0;
}

bool
a67_live_observe(const uint8 node_id[16], const A67LiveTraffic *traffic, TimestampTz now)
{
	A67History seen = {traffic->requests, traffic->failures, traffic->latency_ms, 0, 0};
	uint32 place;

	if (a67_live_header == NULL)
		return false;
	LWLockAcquire(a67_lock(A67_LOCK_LIVE), LW_SHARED);
	place = a67_live_place(node_id);
	if (place != A67_NO_PLACE)
	{
		A67LiveSlot *slot = &a67_live_slots[place];

		SpinLockAcquire(&slot->lock);
		if (!(traffic->requests == 0 && isnan(traffic->latency_ms)))
			a67_live_add_history(place, now, &seen);
		slot->routed = traffic->active >= 0;
		if (slot->routed)
		{
			slot->routed_requests += whole(traffic->requests);
			slot->routed_failures += whole(traffic->failures);
			slot->routed_active = traffic->active;
			a67_live_nodes[place].active_connections = (uint32) traffic->active;
		}
		SpinLockRelease(&slot->lock);
	}
	LWLockRelease(a67_lock(A67_LOCK_LIVE));
	return place != A67_NO_PLACE;
}

bool
a67_live_take_traffic(A67LiveSlot *slot, A67NodeMetrics *metrics)
{
	if (!slot->routed || !a67_ingress)
		return false;
	metrics->requests = slot->routed_requests;
	metrics->failures = slot->routed_failures;
	metrics->active_requests = slot->routed_active;
	slot->routed_requests = slot->routed_failures = 0;
	return true;
}

/*
 * alloc_test.c - memory runs out at every single allocation of the modules that allocate.
 *
 * The modules are compiled into this program with allocators that fail on demand; the archive's
 * copies of them are then not linked. The sanitizer finds what a failing path leaks or frees
 * twice.
 */
#include <stdlib.h>

static void *scarce_malloc(size_t size);
static void *scarce_calloc(size_t count, size_t size);
static void *scarce_realloc(void *block, size_t size);

#define malloc(size)		 scarce_malloc(size)
#define calloc(count, size)	 scarce_calloc(count, size)
#define realloc(block, size) scarce_realloc(block, size)
#include "core/buf.c"
#include "core/placement.c"
#include "core/spread.c"
#include "core/ring.c"
#include "core/ring_diff.c"
#undef malloc
#undef calloc
#undef realloc

#include "unit.h"

#define PLENTY 1000

static int allocations_left = PLENTY;

static bool
allowed(void)
{
	return allocations_left-- > 0;
}

static void *
scarce_malloc(size_t size)
{
	return allowed() ? malloc(size) : NULL;
}

static void *
scarce_calloc(size_t count, size_t size)
{
	return allowed() ? calloc(count, size) : NULL;
}

static void *
scarce_realloc(void *block, size_t size)
{
	return allowed() ? realloc(block, size) : NULL;
}

/* 2000 bytes take six allocations, of 64 to 2048 bytes. */
static void
buffers_run_out(void)
{
	int left;

	for (left = 0; left < 6; left++)
	{
		A67Buf buf;
		size_t length = 0;
		int i;

		allocations_left = left;
		a67_buf_init(&buf, 100000);
		for (i = 0; i < 400; i++)
			length += a67_buf_append_str(&buf, "12345") ? 5 : 0;
		CHECK(buf.failed);
		CHECK_UINT(buf.len, length);
		CHECK_UINT(strlen(a67_buf_text(&buf)), length);
		CHECK(!a67_buf_append_json_string(&buf, "x", 1));
		allocations_left = PLENTY;
		CHECK(!a67_buf_append_str(&buf, "still failed"));
		a67_buf_reset(&buf);
		CHECK(a67_buf_append_json_string(&buf, "fine again", 10));
		CHECK_STR(a67_buf_text(&buf), "\"fine again\"");
		a67_buf_free(&buf);
	}
}

static void
rings_run_out(void)
{
	static const A67RingMember members[] = {{1, 1, "a"}, {2, 1, "b"}};
	A67Ring ring;
	int left;

	for (left = 0; left < 3; left++)
	{
		allocations_left = left;
		CHECK_INT(a67_ring_build(&ring, members, 2, NULL), A67_RING_OUT_OF_MEMORY);
		CHECK(ring.members == NULL && ring.points == NULL);
		a67_ring_free(&ring);
	}
	allocations_left = 3;
	CHECK_INT(a67_ring_build(&ring, members, 2, NULL), A67_RING_OK);
	a67_ring_free(&ring);
	allocations_left = PLENTY;
}

static void
ring_diffs_run_out(void)
{
	static const A67RingMember members[] = {{1, 1, "a"}, {2, 1, "b"}};
	A67Ring from;
	A67Ring to;
	A67RingDiff diff;

	REQUIRE(a67_ring_build(&from, members, 1, NULL) == A67_RING_OK);
	REQUIRE(a67_ring_build(&to, members, 2, NULL) == A67_RING_OK);
	allocations_left = 0;
	CHECK_INT(a67_ring_diff(&from, &to, &diff), A67_RING_OUT_OF_MEMORY);
	CHECK(diff.moves == NULL && diff.count == 0);
	allocations_left = PLENTY;
	a67_ring_diff_free(&diff);
	a67_ring_free(&from);
	a67_ring_free(&to);
}

static void
placements_run_out(void)
{
	A67Candidate nodes[2];
	A67Traits traits[2];
	A67Candidates candidates = {
		.nodes = nodes, .traits = traits, .stride = sizeof(traits[0]), .n = 2};
	A67PlaceMark held = {.index = 1, .replicas = 1};
	A67PlaceRequest wanted = {.count = 2, .memory_bytes = 1, .marks = &held, .mark_count = 1};
	A67PlaceChoice chosen[2];
	int left;
	int placed = -1;

	memset(nodes, 0, sizeof(nodes));
	memset(traits, 0, sizeof(traits));
	nodes[0].flags = nodes[1].flags = A67_NODE_USED | A67_NODE_PLACEABLE;
	nodes[0].free_memory_bytes = nodes[1].free_memory_bytes = 100;
	for (left = 0; placed < 0 && left < 50; left++)
	{
		allocations_left = left;
		placed = a67_place(&candidates, &wanted, chosen);
		CHECK(placed == -1 || placed == 2);
	}
	/* Marks, three numberings of two parts each, the items and what they are sorted into, three counts. */
	CHECK_INT(left - 1, 12);
	allocations_left = PLENTY;
}

UNIT_MAIN("alloc", UNIT(buffers_run_out), UNIT(rings_run_out), UNIT(ring_diffs_run_out),
		  UNIT(placements_run_out));

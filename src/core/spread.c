/*
 * spread.c - placement of several replicas, or beside some that are there: spread over nodes, then
 * regions, then providers.
 *
 * Nodes that qualify are gathered in one pass and divided into cells, one for each pair of region and
 * provider. A cell is a heap of its nodes by tier, replicas on the node, then rank. So the next
 * replica goes to one of the tops: those of the cells that are the least crowded. Up to seven nodes
 * are taken out, one is drawn, and all go back, the one drawn with a replica more, unless it is full.
 * Cost: one pass, then cells + 7 * log(nodes) a replica. Memory: 36 bytes a node that qualifies, from
 * malloc, freed before it returns.
 */
#include "place_rank.h"

#include <stdlib.h>
#include <string.h>

#include "pace.h"

/* Numbers from 0 for values, by open addressing. */
typedef struct Numbers
{
	uint64_t *values; /* as numbered */
	uint32_t *places; /* number + 1; 0 free */
	uint32_t mask;
	uint32_t count;
} Numbers;

typedef struct Item
{
	uint32_t index;
	uint32_t on_node; /* replicas of the deployment */
	uint32_t taken;	  /* of these, by this call */
	uint32_t cell;
	A67Rank rank;
} Item;

/* Nodes of one region and provider: items [start, start + count), as a heap. */
typedef struct Cell
{
	uint32_t region;
	uint32_t provider;
	uint32_t start;
	uint32_t count;
} Cell;

typedef struct Spread
{
	const A67Candidates *candidates;
	const A67PlaceRequest *request;
	const A67PlaceMarks *marks;
	Item *items;
	uint32_t item_count;
	uint32_t item_room;
	Numbers regions;
	Numbers providers;
	Numbers pairs;
	uint64_t *in_region; /* replicas, by number */
	uint64_t *at_provider;
	Cell *cells;
} Spread;

/* The least crowded nodes, taken out of their cells. */
typedef struct Tops
{
	Item items[A67_CLASS_SEEN];
	uint32_t count;
} Tops;

/* ---- numbering --------------------------------------------------------------------------------- */

static bool
numbers_grow(Numbers *numbers)
{
	uint32_t capacity = numbers->places == NULL ? 64 : (numbers->mask + 1) * 2;
	uint32_t *places = calloc(capacity, sizeof(*places));
	uint64_t *values = realloc(numbers->values, capacity / 2 * sizeof(*values));
	uint32_t i;

	if (values != NULL)
		numbers->values = values;
	if (places == NULL || values == NULL)
	{
		free(places);
		return false;
	}
	free(numbers->places);
	numbers->places = places;
	numbers->mask = capacity - 1;
	for (i = 0; i < numbers->count; i++)
	{
		uint32_t at = (uint32_t) a67_place_mix(values[i]) & numbers->mask;

		while (places[at] != 0)
			at = (at + 1) & numbers->mask;
		places[at] = i + 1;
	}
	return true;
}

/* The number of the value, given now if it is new; UINT32_MAX when there is no memory. */
static uint32_t
number_of(Numbers *numbers, uint64_t value)
{
	uint32_t at;

	if ((numbers->places == NULL || numbers->count * 2 >= numbers->mask) && !numbers_grow(numbers))
		return UINT32_MAX;
	for (at = (uint32_t) a67_place_mix(value) & numbers->mask; numbers->places[at] != 0;
		 at = (at + 1) & numbers->mask)
	{
		if (numbers->values[numbers->places[at] - 1] == value)
			return numbers->places[at] - 1;
	}
	numbers->values[numbers->count] = value;
	numbers->places[at] = ++numbers->count;
	return numbers->count - 1;
}

static void
numbers_free(Numbers *numbers)
{
	free(numbers->values);
	free(numbers->places);
}

/* ---- order ------------------------------------------------------------------------------------- */

/* Negative when a is to be taken before b, cells apart. */
static int
compare_items(const Spread *spread, const Item *a, const Item *b)
{
	if (a->rank.tier != b->rank.tier)
		return a->rank.tier < b->rank.tier ? -1 : 1;
	if (a->on_node != b->on_node)
		return a->on_node < b->on_node ? -1 : 1;
	if (spread->request->strategy == A67_STRATEGY_ROUND_ROBIN)
		return a67_place_wait(spread->request, a->index) < a67_place_wait(spread->request, b->index)
				   ? -1
				   : 1;
	return a67_rank_compare(&a->rank, &b->rank);
}

/* How crowded it is where the items are: negative when a's place is the less crowded, 0 when equal. */
static int
compare_crowding(const Spread *spread, const Item *a, const Item *b)
{
	const Cell *x = &spread->cells[a->cell];
	const Cell *y = &spread->cells[b->cell];

	if (a->rank.tier != b->rank.tier)
		return a->rank.tier < b->rank.tier ? -1 : 1;
	if (a->on_node != b->on_node)
		return a->on_node < b->on_node ? -1 : 1;
	if (spread->in_region[x->region] != spread->in_region[y->region])
		return spread->in_region[x->region] < spread->in_region[y->region] ? -1 : 1;
	if (spread->at_provider[x->provider] != spread->at_provider[y->provider])
		return spread->at_provider[x->provider] < spread->at_provider[y->provider] ? -1 : 1;
	return 0;
}

static void
sift_down(const Spread *spread, Item *heap, uint32_t count, uint32_t at)
{
	Item moving = heap[at];

	for (;;)
	{
		uint32_t child = 2 * at + 1;

		if (child >= count)
			break;
		if (child + 1 < count && compare_items(spread, &heap[child + 1], &heap[child]) < 0)
			child++;
		if (compare_items(spread, &heap[child], &moving) >= 0)
			break;
		heap[at] = heap[child];
		at = child;
	}
	heap[at] = moving;
}

static void
push(const Spread *spread, Cell *cell, const Item *item)
{
	Item *heap = &spread->items[cell->start];
	uint32_t at = cell->count++;

	while (at > 0 && compare_items(spread, item, &heap[(at - 1) / 2]) < 0)
	{
		heap[at] = heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	heap[at] = *item;
}

static Item
pop(const Spread *spread, Cell *cell)
{
	Item *heap = &spread->items[cell->start];
	Item top = heap[0];

	heap[0] = heap[--cell->count];
	if (cell->count > 1)
		sift_down(spread, heap, cell->count, 0);
	return top;
}

/* ---- gathering --------------------------------------------------------------------------------- */

/* The cell of a node; UINT32_MAX when there is no memory. */
static uint32_t
cell_of(Spread *spread, const A67Traits *traits)
{
	uint32_t region = number_of(&spread->regions, traits->region);
	uint32_t provider = number_of(&spread->providers, traits->provider);

	if (region == UINT32_MAX || provider == UINT32_MAX)
		return UINT32_MAX;
	return number_of(&spread->pairs, (uint64_t) region << 32 | provider);
}

static bool
add_item(Spread *spread, uint32_t index, const A67PlaceMark *mark)
{
	const A67Traits *traits = a67_traits(spread->candidates, index);
	Item *item;

	if (spread->item_count == spread->item_room)
	{
		uint32_t room = spread->item_room == 0 ? 256 : spread->item_room * 2;
		Item *items = realloc(spread->items, room * sizeof(*items));

		if (items == NULL)
			return false;
		spread->items = items;
		spread->item_room = room;
	}
	item = &spread->items[spread->item_count++];
	item->index = index;
	item->on_node = mark != NULL ? mark->replicas : 0;
	item->taken = 0;
	item->cell = cell_of(spread, traits);
	item->rank.penalties = a67_place_penalties(&spread->candidates->nodes[index], spread->request,
											   mark != NULL && mark->avoided);
	item->rank.tier = a67_place_tier(item->rank.penalties);
	item->rank.chance = a67_place_chance(traits, spread->request->seed);
	item->rank.score = a67_place_score(spread->candidates, spread->request, index);
	item->rank.second = a67_place_second(spread->candidates, spread->request, index);
	return item->cell != UINT32_MAX;
}

static bool
gather(Spread *spread)
{
	A67PlaceGate gate = a67_place_gate(spread->request);
	uint32_t i;

	for (i = 0; i < spread->candidates->n; i++)
	{
		const A67PlaceMark *mark;

		if (!a67_place_qualifies(spread->candidates, spread->request, gate, i))
			continue;
		mark = a67_place_mark(spread->marks, i);
		if (mark != NULL && (mark->excluded || mark->barred))
			continue;
		if (!add_item(spread, i, mark))
			return false;
	}
	/* Replicas on nodes that take no more crowd their regions all the same. */
	for (i = 0; i < spread->request->mark_count; i++)
	{
		const A67PlaceMark *mark = &spread->request->marks[i];

		if (mark->replicas > 0 && mark->index < spread->candidates->n &&
			cell_of(spread, a67_traits(spread->candidates, mark->index)) == UINT32_MAX)
			return false;
	}
	return true;
}

/* Counts what is there already. */
static void
count_replicas(Spread *spread)
{
	uint32_t i;

	for (i = 0; i < spread->request->mark_count; i++)
	{
		const A67PlaceMark *mark = &spread->request->marks[i];
		const A67Traits *traits;

		if (mark->replicas == 0 || mark->index >= spread->candidates->n)
			continue;
		traits = a67_traits(spread->candidates, mark->index);
		spread->in_region[number_of(&spread->regions, traits->region)] += mark->replicas;
		spread->at_provider[number_of(&spread->providers, traits->provider)] += mark->replicas;
	}
}

/* Sorts the items by cell and makes a heap of each cell. */
static bool
make_cells(Spread *spread)
{
	Item *sorted = malloc((spread->item_count + 1) * sizeof(*sorted));
	uint32_t start = 0;
	uint32_t i;

	if (sorted == NULL)
		return false;
	for (i = 0; i < spread->item_count; i++)
		spread->cells[spread->items[i].cell].count++;
	for (i = 0; i < spread->pairs.count; i++)
	{
		Cell *cell = &spread->cells[i];

		cell->region = (uint32_t) (spread->pairs.values[i] >> 32);
		cell->provider = (uint32_t) spread->pairs.values[i];
		cell->start = start;
		start += cell->count;
		cell->count = 0;
	}
	for (i = 0; i < spread->item_count; i++)
	{
		Cell *cell = &spread->cells[spread->items[i].cell];

		sorted[cell->start + cell->count++] = spread->items[i];
	}
	free(spread->items);
	spread->items = sorted;
	for (i = 0; i < spread->pairs.count; i++)
	{
		Cell *cell = &spread->cells[i];
		uint32_t at;

		for (at = cell->count / 2; at-- > 0;)
			sift_down(spread, &sorted[cell->start], cell->count, at);
	}
	return true;
}

static bool
prepare(Spread *spread)
{
	if (!gather(spread))
		return false;
	spread->in_region = calloc(spread->regions.count + 1, sizeof(*spread->in_region));
	spread->at_provider = calloc(spread->providers.count + 1, sizeof(*spread->at_provider));
	spread->cells = calloc(spread->pairs.count + 1, sizeof(*spread->cells));
	if (spread->in_region == NULL || spread->at_provider == NULL || spread->cells == NULL)
		return false;
	count_replicas(spread);
	return make_cells(spread);
}

static void
release(Spread *spread)
{
	free(spread->items);
	free(spread->cells);
	free(spread->in_region);
	free(spread->at_provider);
	numbers_free(&spread->regions);
	numbers_free(&spread->providers);
	numbers_free(&spread->pairs);
}

/* ---- placing ----------------------------------------------------------------------------------- */

/* The cell with the best top among those as crowded as `like` (NULL: among the least crowded). */
static Cell *
best_cell(const Spread *spread, const Item *like)
{
	Cell *best = NULL;
	uint32_t i;

	for (i = 0; i < spread->pairs.count; i++)
	{
		Cell *cell = &spread->cells[i];
		const Item *top = &spread->items[cell->start];
		int order;

		if (cell->count == 0 || (like != NULL && compare_crowding(spread, top, like) != 0))
			continue;
		if (best == NULL)
		{
			best = cell;
			continue;
		}
		order = compare_crowding(spread, top, &spread->items[best->start]);
		if (order == 0)
			order = compare_items(spread, top, &spread->items[best->start]);
		if (order < 0)
			best = cell;
	}
	return best;
}

/* Takes the best of the least crowded out of their cells, in order. */
static void
take_tops(const Spread *spread, Tops *tops)
{
	Cell *cell = best_cell(spread, NULL);

	tops->count = 0;
	while (cell != NULL && tops->count < A67_CLASS_SEEN)
	{
		tops->items[tops->count++] = pop(spread, cell);
		cell = best_cell(spread, &tops->items[0]);
	}
}

/* Whether the node has room for one replica more than it was given. */
static bool
takes_another(const Spread *spread, const Item *item)
{
	const A67Candidate *node = &spread->candidates->nodes[item->index];
	const A67PlaceRequest *request = spread->request;
	int64_t wanted = (int64_t) item->taken + 1;

	/* Divided, not multiplied: sizes may be as large as they like. */
	return (request->memory_bytes == 0 ||
			node->free_memory_bytes / request->memory_bytes >= wanted) &&
		   (request->disk_bytes == 0 || node->free_disk_bytes / request->disk_bytes >= wanted) &&
		   (request->cpu_milli == 0 || node->free_cpu_milli / request->cpu_milli >= wanted);
}

/* Gives the item a replica. */
static void
promise(Spread *spread, Item *item, A67PlaceChoice *choice)
{
	const Cell *cell = &spread->cells[item->cell];

	choice->index = item->index;
	choice->penalties = item->rank.penalties;
	choice->score = item->rank.score;
	item->on_node++;
	item->taken++;
	spread->in_region[cell->region]++;
	spread->at_provider[cell->provider]++;
}

static bool
place_next(Spread *spread, A67PlaceChoice *choice, uint64_t *seed)
{
	Tops tops;
	uint32_t drawn;
	uint32_t i;

	take_tops(spread, &tops);
	if (tops.count == 0)
		return false;
	drawn = a67_place_draw(spread->request, tops.count, seed);
	promise(spread, &tops.items[drawn], choice);
	for (i = 0; i < tops.count; i++)
	{
		if (i != drawn || takes_another(spread, &tops.items[i]))
			push(spread, &spread->cells[tops.items[i].cell], &tops.items[i]);
	}
	return true;
}

int
a67_place_spread(const A67Candidates *candidates, const A67PlaceRequest *request,
				 const A67PlaceMarks *marks, A67PlaceChoice *chosen)
{
	Spread spread = {.candidates = candidates, .request = request, .marks = marks};
	uint64_t seed = request->seed;
	int placed = -1;

	if (prepare(&spread))
	{
		for (placed = 0; placed < (int) request->count; placed++)
		{
			if (!place_next(&spread, &chosen[placed], &seed))
				break;
		}
	}
	release(&spread);
	return placed;
}

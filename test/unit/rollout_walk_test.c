/*
 * rollout_walk_test.c - random walks through rollouts: a little world of replicas that start, fail,
 * vanish and return, driven by a67_rollout_step and by owners, and what must hold in every round.
 */
#include "unit.h"

#include "core/pace.h"
#include "core/rollout.h"

#define WALKS		2000
#define ROUNDS		600
#define REPLICA_MAX 64
#define DEADLINE_MS 20000

typedef enum Life
{
	LIFE_NONE,
	LIFE_STARTING,
	LIFE_READY,
	LIFE_STOPPING
} Life;

/* The replicas of one release. */
typedef struct Side
{
	Life lives[REPLICA_MAX];
} Side;

typedef struct World
{
	A67RolloutView view;
	Side old_side;
	Side new_side;
	uint64_t random;
	int32_t best; /* progress of this phase */
	int32_t good; /* of 100 new replicas, as many become ready */
	bool calm;	  /* nothing is lost or ordered any more */
	int rounds;
} World;

static int32_t
count(const Side *side, Life life)
{
	int32_t found = 0;
	int i;

	for (i = 0; i < REPLICA_MAX; i++)
		found += side->lives[i] == life;
	return found;
}

static bool
chance(World *world, uint32_t percent)
{
	return a67_random_below(&world->random, 100) < percent;
}

static void
look(const Side *side, A67RolloutSide *seen)
{
	seen->wanted = count(side, LIFE_STARTING) + count(side, LIFE_READY);
	seen->ready = count(side, LIFE_READY);
	seen->total = seen->wanted + count(side, LIFE_STOPPING);
}

/* What the reconciler does: adds what is missing, takes away what is too much, not ready ones first. */
static void
balance(Side *side, int32_t target)
{
	static const Life order[] = {LIFE_STARTING, LIFE_READY};
	int32_t wanted = count(side, LIFE_STARTING) + count(side, LIFE_READY);
	int i;
	int k;

	for (i = 0; i < REPLICA_MAX && wanted < target; i++)
	{
		if (side->lives[i] != LIFE_NONE)
			continue;
		side->lives[i] = LIFE_STARTING;
		wanted++;
	}
	for (k = 0; k < 2; k++)
	{
		for (i = 0; i < REPLICA_MAX && wanted > target; i++)
		{
			if (side->lives[i] != order[k])
				continue;
			side->lives[i] = LIFE_STOPPING;
			wanted--;
		}
	}
}

/* Time passes on the nodes. */
static void
live(World *world, Side *side, bool new_one)
{
	int i;

	for (i = 0; i < REPLICA_MAX; i++)
	{
		Life *life = &side->lives[i];

		if (*life == LIFE_STOPPING && chance(world, 50))
			*life = LIFE_NONE;
		else if (*life == LIFE_STARTING && chance(world, 40))
		{
			if (!new_one || chance(world, (uint32_t) world->good))
				*life = LIFE_READY;
			else
			{
				*life = LIFE_STOPPING;
				world->view.failures++;
				world->view.sick++;
			}
		}
		else if (*life == LIFE_READY && !world->calm && chance(world, 1))
			*life = chance(world, 50) ? LIFE_NONE : LIFE_STARTING;
	}
}

/* Owners pause, resume, abort, promote and scale now and then. */
static void
command(World *world)
{
	A67RolloutView *view = &world->view;
	A67RolloutOrder order = (A67RolloutOrder) a67_random_below(&world->random, A67_ROLLOUT_ORDERS);
	A67RolloutState next;

	if (world->calm)
		order = A67_ORDER_RESUME;
	if (chance(world, 10) && !world->calm)
		view->new_side.replicas = view->old_side.replicas =
			(int32_t) a67_random_below(&world->random, 8);
	if (!a67_rollout_order((A67RolloutState) view->state, order, &next) ||
		(int32_t) next == view->state)
		return;
	view->promoted |= order == A67_ORDER_PROMOTE;
	if (order == A67_ORDER_ABORT)
	{
		view->aborted = true;
		view->phase = A67_PHASE_RESTORE;
	}
	if (order != A67_ORDER_PAUSE)
		view->failures = view->sick = 0;
	view->state = (int32_t) next;
	view->phase_ms = view->idle_ms = 0;
	world->best = 0;
}

static bool
permitted_weight(const World *world, int32_t weight)
{
	const A67RolloutView *view = &world->view;
	int32_t i;

	if (view->kind < A67_ROLLOUT_BLUE_GREEN)
		return weight >= 0 && weight <= 100;
	if (weight == 0 || weight == 100)
		return true;
	for (i = 0; i < view->step_count; i++)
	{
		if (view->kind == A67_ROLLOUT_CANARY && view->steps[i] == weight)
			return true;
	}
	return false;
}

/* What no step may ask for, given what is there. */
static void
check_step(World *world, const A67RolloutStep *step, const A67RolloutView *seen)
{
	int32_t least = seen->old_side.replicas < seen->new_side.replicas ? seen->old_side.replicas
																	  : seen->new_side.replicas;
	int32_t most = seen->old_side.replicas + seen->new_side.replicas - least;
	int32_t spare = seen->surge == 0 && seen->unavailable == 0 ? 1 : seen->surge;
	int32_t serve_old =
		seen->old_side.ready < step->old_target ? seen->old_side.ready : step->old_target;
	int32_t serve_new =
		seen->new_side.ready < step->new_target ? seen->new_side.ready : step->new_target;
	int32_t serve = seen->old_side.ready + seen->new_side.ready;
	bool rolling = seen->kind == A67_ROLLOUT_ROLLING && !a67_rollout_final(step->state);
	bool adds =
		step->old_target > seen->old_side.wanted || step->new_target > seen->new_side.wanted;

	CHECK(step->old_target >= 0 && step->old_target <= REPLICA_MAX);
	CHECK(step->new_target >= 0 && step->new_target <= REPLICA_MAX);
	CHECK(permitted_weight(world, step->weight));
	/* What serves never falls below the lower bound by what a step takes away. */
	if (rolling && serve_old + serve_new < serve)
		CHECK(serve_old + serve_new >= least - seen->unavailable);
	/* Nothing is added beyond the upper one, counting what still stops. */
	if (rolling && adds && step->phase == A67_PHASE_REPLACE && step->state == A67_ROLLOUT_RUNNING)
		CHECK(step->new_target + seen->old_side.total + seen->new_side.total -
				  seen->new_side.wanted <=
			  most + spare);
	/* Never both releases of a recreated app. */
	if (seen->kind == A67_ROLLOUT_RECREATE && !a67_rollout_final(step->state))
		CHECK((step->new_target == 0 || seen->old_side.total == 0 || seen->new_side.wanted > 0) &&
			  (step->old_target == 0 || seen->new_side.total == 0 || seen->old_side.wanted > 0));
	/* Beside the new ones blue and the stable release stay whole. */
	if (seen->kind >= A67_ROLLOUT_BLUE_GREEN && step->state != A67_ROLLOUT_SUCCEEDED)
		CHECK_INT(step->old_target, seen->old_side.replicas);
	/* A weight is given to what is there. */
	if (seen->kind >= A67_ROLLOUT_BLUE_GREEN && step->weight > seen->weight)
		CHECK(seen->new_side.ready > 0 || seen->new_side.replicas == 0);
}

/* One round of the reconciler; whether the rollout goes on. */
static bool
round_of(World *world)
{
	A67RolloutView *view = &world->view;
	A67RolloutStep step;
	int32_t phase;
	int32_t number;

	look(&world->old_side, &view->old_side);
	look(&world->new_side, &view->new_side);
	view->restarts = 0;
	do
	{
		phase = view->phase;
		number = view->step;
		step = a67_rollout_step(view);
		check_step(world, &step, view);
		if ((int32_t) step.phase != phase || step.step != number ||
			(int32_t) step.state != view->state)
		{
			view->phase_ms = view->idle_ms = 0;
			view->sick = 0;
			world->best = 0;
		}
		view->state = (int32_t) step.state;
		view->phase = (int32_t) step.phase;
		view->step = step.step;
		view->weight = step.weight;
	} while (!a67_rollout_final(step.state) &&
			 ((int32_t) step.phase != phase || step.step != number));
	if (step.progress > world->best)
	{
		world->best = step.progress;
		view->idle_ms = 0;
	}
	balance(&world->old_side, step.old_target);
	balance(&world->new_side, step.new_target);
	return !a67_rollout_final(step.state);
}

static void
begin(World *world, uint64_t seed)
{
	A67RolloutView *view = &world->view;
	int32_t replicas;

	memset(world, 0, sizeof(*world));
	world->random = seed;
	replicas = (int32_t) a67_random_below(&world->random, 8);
	view->kind = (int32_t) a67_random_below(&world->random, A67_ROLLOUT_KINDS);
	view->surge = (int32_t) a67_random_below(&world->random, 3);
	view->unavailable = (int32_t) a67_random_below(&world->random, 3);
	view->steps[0] = 10;
	view->steps[1] = 40;
	view->steps[2] = 100;
	view->step_count = 3;
	view->observe_ms = 1000;
	view->deadline_ms = DEADLINE_MS;
	view->auto_rollback = chance(world, 80);
	view->max_error_rate = 5;
	view->max_latency_ratio = 2;
	view->old_side.replicas = replicas;
	view->new_side.replicas =
		chance(world, 80) ? replicas : (int32_t) a67_random_below(&world->random, 8);
	world->good = chance(world, 60) ? 100 : (int32_t) a67_random_below(&world->random, 100);
	balance(&world->old_side, replicas);
	live(world, &world->old_side, false);
}

static void
walk(uint64_t seed, int *ends)
{
	World world;
	bool on = true;

	begin(&world, seed);
	for (; on && world.rounds < ROUNDS; world.rounds++)
	{
		on = round_of(&world);
		if (!on)
			break;
		world.calm = world.rounds > 100;
		live(&world, &world.old_side, false);
		live(&world, &world.new_side, true);
		world.view.phase_ms += 500;
		world.view.idle_ms += 500;
		if (chance(&world, 5))
			command(&world);
	}
	if (on)
		printf("# seed %" PRIu64 ": %s, %s, phase %s\n", seed,
			   a67_rollout_kind_name((A67RolloutKind) world.view.kind),
			   a67_rollout_state_name((A67RolloutState) world.view.state),
			   a67_rollout_phase_name((A67RolloutPhase) world.view.phase));
	CHECK(!on);
	ends[world.view.state]++;
	/* However it went back: nothing of the new release is wanted, all of the old one is. */
	if (!on && world.view.state != A67_ROLLOUT_SUCCEEDED)
	{
		look(&world.old_side, &world.view.old_side);
		look(&world.new_side, &world.view.new_side);
		CHECK_INT(world.view.new_side.wanted, 0);
		CHECK_INT(world.view.old_side.wanted, world.view.old_side.replicas);
	}
}

static void
every_walk_ends_as_it_should(void)
{
	int ends[A67_ROLLOUT_STATES] = {0};
	uint64_t seed;

	for (seed = 1; seed <= WALKS; seed++)
		walk(seed, ends);
	/* The walks are worth something only when they see everything. */
	CHECK(ends[A67_ROLLOUT_SUCCEEDED] > WALKS / 10);
	CHECK(ends[A67_ROLLOUT_ROLLED_BACK] > WALKS / 50);
	CHECK(ends[A67_ROLLOUT_ABORTED] > WALKS / 50);
	printf("# succeeded %d, rolled back %d, aborted %d, failed %d\n", ends[A67_ROLLOUT_SUCCEEDED],
		   ends[A67_ROLLOUT_ROLLED_BACK], ends[A67_ROLLOUT_ABORTED], ends[A67_ROLLOUT_FAILED]);
}

UNIT_MAIN("rollout_walk", UNIT(every_walk_ends_as_it_should));

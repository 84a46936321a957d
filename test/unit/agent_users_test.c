/*
 * agent_users_test.c - ranges of user numbers: their text, the maps of user namespaces, the draw.
 */
#include "users.h"

#include <errno.h>
#include <unistd.h>

#include "unit.h"

static void
ranges_are_parsed(void)
{
	A67Users users;

	REQUIRE(a67_users_parse("1000-1000", &users));
	CHECK_INT(users.first, 1000);
	CHECK_INT(users.count, 1);
	REQUIRE(a67_users_parse("1879048192-1879113727", &users));
	CHECK_INT(users.count, 65536);
}

static void
what_is_no_range_is_refused(void)
{
	static const char *const wrong[] = {"",
										"1000",
										"1000-",
										"-2000",
										"2000-1999",
										"999-2000",
										" 1000-2000",
										"1000-2000 ",
										"1000 - 2000",
										"0-65535",
										"1000-4294967294",
										"1000-99999999999999999999",
										"a-b",
										"+1000-2000",
										"1000--2000",
										"1000-+2000"};
	A67Users users;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		CHECK(!a67_users_parse(wrong[i], &users));
}

static void
maps(void)
{
	A67Users high = {1879048192U, 65536, NULL};
	A67Users low = {60578U, 606, NULL};
	static const char whole[] = "         0          0 4294967295\n";
	static const char docker[] = "0 100000 65536\n";
	static const char two[] = "0 1000 1\n1 100000 65536\n";

	CHECK(a67_users_mapped(whole, &high));
	CHECK(a67_users_mapped(whole, &low));
	CHECK(!a67_users_mapped(docker, &high));
	CHECK(a67_users_mapped(docker, &low));
	CHECK(a67_users_mapped(two, &low));
	CHECK(!a67_users_mapped("0 1000 1\n", &low));
	CHECK(!a67_users_mapped("", &low));
	CHECK(!a67_users_mapped("rubbish", &low));
	/* The last one of the range counts, too. */
	CHECK(a67_users_mapped("60000 0 1184\n", &low));
	CHECK(!a67_users_mapped("60000 0 1183\n", &low));
}

static bool
taken(void *arg, uid_t uid)
{
	return ((const bool *) arg)[uid - 5000];
}

static void
a_draw_finds_every_free_one_and_no_other(void)
{
	A67Users users = {5000, 40, NULL};
	bool used[40] = {false};
	int starts[40] = {0};

	for (int i = 0; i < 40; i++)
	{
		uid_t uid = a67_users_pick(&users, (uint64_t) i, taken, used);

		REQUIRE(uid >= 5000 && uid < 5040);
		CHECK(!used[uid - 5000]);
		used[uid - 5000] = true;
	}
	CHECK_INT(a67_users_pick(&users, 1, taken, used), 0);
	used[17] = false;
	CHECK_INT(a67_users_pick(&users, 1, taken, used), 5017);
	/* Not always the same one first. */
	memset(used, 0, sizeof(used));
	for (uint64_t seed = 0; seed < 200; seed++)
		starts[a67_users_pick(&users, seed, taken, used) - 5000]++;
	CHECK(starts[0] < 50);
}

static void
an_empty_range_has_nobody(void)
{
	A67Users users = {0, 0, "nobody"};

	CHECK_INT(a67_users_pick(&users, 3, taken, NULL), 0);
}

static void
open(void)
{
	A67Users users;
	A67Why why;

	CHECK_INT(a67_users_open("rubbish", &users, &why), -EINVAL);
	CHECK(strstr(why.text, "rubbish") != NULL);
	REQUIRE(a67_users_open("", &users, &why) == 0);
	if (geteuid() == 0)
		CHECK(users.count > 0 || users.why != NULL);
	else
		CHECK(users.count == 0 && users.why != NULL);
	REQUIRE(geteuid() == 0 || a67_users_open("5000-6000", &users, &why) == 0);
	if (geteuid() != 0)
		CHECK_INT(users.count, 0);
}

UNIT_MAIN("agent_users", UNIT(ranges_are_parsed), UNIT(what_is_no_range_is_refused), UNIT(maps),
		  UNIT(a_draw_finds_every_free_one_and_no_other), UNIT(an_empty_range_has_nobody),
		  UNIT(open));

/*
 * agent_chunk_scrub_test.c - the chunk store: what is found rotten, by whom and when.
 */
#include "chunk_fixture.c"

static void
a_change_takes_the_mark_away(void)
{
	uint8_t digest[A67_CHUNK_DIGEST_BYTES];
	A67ChunkFile file;
	char path[256];

	REQUIRE(begin());
	CHECK_INT(put(7, SIZE, digest), 0);
	rot(digest, 5, false);
	CHECK_INT(look(digest, &file), 0);
	CHECK_INT(file.verified_s, 0);
	rot(digest, 5, false);
	CHECK_INT(look(digest, &file), 0);
	CHECK_INT(file.verified_s, 0);
	/* It is what it was: verified, it is marked again. */
	CHECK_INT(verify(digest, NOW_S + 5), A67_CHUNK_GOOD);
	CHECK_INT(look(digest, &file), 0);
	CHECK_INT(file.verified_s, NOW_S + 5);
	path_of(digest, path);
	CHECK_INT(truncate(path, SIZE - 1), 0);
	CHECK_INT(look(digest, &file), 0);
	CHECK_INT(file.verified_s, 0);
	CHECK_INT(verify(digest, NOW_S), A67_CHUNK_BAD);
	end();
}

static void
what_is_rotten_is_put_aside(void)
{
	uint8_t digest[A67_CHUNK_DIGEST_BYTES];
	A67ChunkItem item;
	A67ChunkFile file;

	REQUIRE(begin());
	CHECK_INT(put(7, SIZE, digest), 0);
	rot(digest, SIZE - 1, true);
	CHECK_INT(look(digest, &file), 0);
	CHECK_INT(file.verified_s, NOW_S);
	CHECK_INT(verify(digest, NOW_S), A67_CHUNK_BAD);
	CHECK_INT(look(digest, &file), -EBADMSG);
	CHECK_UINT(store.count, 0);
	CHECK_UINT(store.rotten, 1);
	CHECK_UINT(store.bytes, SIZE);
	CHECK_INT(a67_chunk_list(&store, A67_CHUNK_ROTTEN, NULL, &item, 1), 1);
	CHECK_MEM(item.digest, digest, sizeof(digest));
	/* It is remembered, and a good copy takes its place. */
	a67_chunk_close(&store);
	store_open(-50);
	CHECK_INT(look(digest, &file), -EBADMSG);
	CHECK_UINT(store.rotten, 1);
	CHECK_INT(put(7, SIZE, digest), 0);
	CHECK_INT(look(digest, &file), 0);
	CHECK_UINT(store.rotten, 0);
	CHECK_UINT(store.bytes, SIZE);
	CHECK_UINT(files_in("rotten"), 0);
	/* Rotten again, and twice so; then nobody wants it any more. */
	rot(digest, 0, true);
	CHECK_INT(verify(digest, NOW_S), A67_CHUNK_BAD);
	CHECK_INT(removal(digest), 0);
	CHECK_INT(look(digest, &file), -ENOENT);
	CHECK_UINT(store.rotten + store.bytes + store.count, 0);
	CHECK_INT(removal(digest), -ENOENT);
	end();
}

/* Replaced while it was being hashed: the new one stays. */
static void
a_good_copy_is_not_put_aside_for_a_rotten_one(void)
{
	uint8_t digest[A67_CHUNK_DIGEST_BYTES];
	A67ChunkCheck check;
	A67ChunkFile file;
	A67ChunkVerdict verdict;

	REQUIRE(begin());
	CHECK_INT(put(7, SIZE, digest), 0);
	rot(digest, SIZE - 1, false);
	REQUIRE(a67_chunk_read(&store, digest, &file) == 0);
	REQUIRE(a67_chunk_check_begin(&check, digest, file.fd) == 0);
	CHECK_INT(put(7, SIZE, digest), 0);
	do
		verdict = a67_chunk_check_step(&store, &check, NOW_S);
	while (verdict == A67_CHUNK_MORE || verdict == A67_CHUNK_WAIT);
	a67_chunk_check_end(&check);
	CHECK_INT(verdict, A67_CHUNK_GONE);
	CHECK_INT(look(digest, &file), 0);
	CHECK_UINT(store.rotten, 0);
	CHECK_INT(verify(digest, NOW_S), A67_CHUNK_GOOD);
	end();
}

/* Time passes as fast as the scrub asks for. */
static int64_t
scrub_until(A67ChunkScrub *scrub, int64_t now_ms, uint64_t checked)
{
	for (int i = 0; i < 100000 && scrub->checked < checked; i++)
	{
		if (scrub->due_ms > now_ms)
			now_ms = scrub->due_ms;
		a67_chunk_scrub_step(scrub, &store, now_ms, NOW_S + now_ms / 1000);
	}
	return now_ms;
}

static void
the_scrub_comes_to_every_chunk(void)
{
	uint8_t digests[30][A67_CHUNK_DIGEST_BYTES];
	A67ChunkScrub scrub;
	A67ChunkFile file;
	int64_t now_ms;

	REQUIRE(begin());
	for (unsigned int i = 0; i < 30; i++)
		CHECK_INT(put(i, 1000, digests[i]), 0);
	rot(digests[11], 10, true);
	rot(digests[12], 10, false);
	a67_chunk_scrub_init(&scrub, INTERVAL, 100);
	/* The one whose change shows comes first, in the first round; the others when it is time. */
	now_ms = scrub_until(&scrub, 0, 1);
	CHECK_INT(look(digests[12], &file), -EBADMSG);
	CHECK(now_ms <= INTERVAL / 4);
	CHECK_UINT(store.rotten, 1);
	now_ms = scrub_until(&scrub, now_ms, 30);
	CHECK(now_ms > INTERVAL / 2 && now_ms <= INTERVAL);
	CHECK_UINT(store.rotten, 2);
	CHECK_INT(look(digests[11], &file), -EBADMSG);
	CHECK_INT(look(digests[13], &file), 0);
	CHECK(file.verified_s > NOW_S);
	CHECK(a67_chunk_is_fresh(&scrub, file.verified_s, NOW_S + now_ms / 1000));
	CHECK_UINT(scrub.checked_bytes, 30000);
	a67_chunk_scrub_end(&scrub);
	end();
}

static void
the_scrub_has_a_pace(void)
{
	uint8_t digest[A67_CHUNK_DIGEST_BYTES];
	A67ChunkScrub scrub;
	int64_t began;

	REQUIRE(begin());
	a67_chunk_scrub_init(&scrub, INTERVAL, 0);
	/* Nothing to do, nothing to wait for. */
	a67_chunk_scrub_step(&scrub, &store, 5, NOW_S);
	CHECK_INT(scrub.due_ms, 0);
	for (unsigned int i = 0; i < 20; i++)
		CHECK_INT(put(i, SIZE, digest), 0);
	began = INTERVAL * 2;
	began = scrub_until(&scrub, began, 1);
	(void) scrub_until(&scrub, began, 20);
	CHECK(scrub.checked_bytes == 20 * SIZE);
	/* Directories take their time as well; bytes alone take this long. */
	CHECK(scrub.due_ms - began >= 19 * SIZE * INT64_C(1000) / A67_CHUNK_SCRUB_RATE);
	a67_chunk_scrub_end(&scrub);
	end();
}

static void
marks_of_a_wrong_clock_do_not_count(void)
{
	A67ChunkScrub scrub;
	struct stat st = {.st_mtim = {.tv_sec = 1000, .tv_nsec = 123456789}};

	a67_chunk_scrub_init(&scrub, INTERVAL, 0);
	CHECK(!a67_chunk_is_fresh(&scrub, 0, NOW_S));
	CHECK(!a67_chunk_is_fresh(&scrub, NOW_S + 3600, NOW_S));
	CHECK(a67_chunk_is_fresh(&scrub, NOW_S + 5, NOW_S));
	CHECK(a67_chunk_is_fresh(&scrub, NOW_S - INTERVAL / 1000, NOW_S));
	CHECK(!a67_chunk_is_fresh(&scrub, NOW_S - INTERVAL / 1000 - 1, NOW_S));
	CHECK_INT(a67_chunk_mark(&st), 0);
	a67_chunk_scrub_end(&scrub);
}

UNIT_MAIN("agent_chunk_scrub", UNIT(a_change_takes_the_mark_away),
		  UNIT(what_is_rotten_is_put_aside), UNIT(a_good_copy_is_not_put_aside_for_a_rotten_one),
		  UNIT(the_scrub_comes_to_every_chunk), UNIT(the_scrub_has_a_pace),
		  UNIT(marks_of_a_wrong_clock_do_not_count));

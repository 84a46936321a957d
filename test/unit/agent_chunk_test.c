/*
 * agent_chunk_test.c - the chunk store: what gets in, what survives, what is listed.
 */
#include "chunk_fixture.c"

static void
what_is_put_can_be_read(void)
{
	uint8_t digest[A67_CHUNK_DIGEST_BYTES];
	A67ChunkFile file;
	char byte;

	REQUIRE(begin());
	CHECK_INT(put(1, SIZE, digest), 0);
	REQUIRE(a67_chunk_read(&store, digest, &file) == 0);
	CHECK_UINT(file.size, SIZE);
	CHECK_INT(file.verified_s, NOW_S);
	CHECK(pread(file.fd, &byte, 1, SIZE - 1) == 1 && byte == 1);
	(void) close(file.fd);
	CHECK_UINT(store.count, 1);
	CHECK_UINT(store.bytes, SIZE);
	CHECK_UINT(store.promised_bytes, 0);
	CHECK_UINT(files_in("tmp"), 0);
	/* Of nothing, too. */
	CHECK_INT(put(0, 0, digest), 0);
	CHECK_INT(look(digest, &file), 0);
	CHECK_UINT(file.size, 0);
	end();
}

static void
wrong_bytes_leave_nothing(void)
{
	uint8_t digest[A67_CHUNK_DIGEST_BYTES];
	const uint8_t *bytes;
	A67ChunkWriter *writer;
	A67ChunkFile file;

	REQUIRE(begin());
	bytes = content(1, 1000, digest);
	for (size_t len = 998; len <= 1000; len++)
	{
		REQUIRE(a67_chunk_begin(&store, digest, 1000, false, &writer) == 0);
		CHECK_UINT(store.promised_bytes, 1000);
		CHECK_INT(a67_chunk_write(writer, bytes, len - 1), 0);
		CHECK_INT(a67_chunk_write(writer, "?", 1), 0);
		CHECK_INT(a67_chunk_finish(writer, NOW_S), -EBADMSG);
		a67_chunk_drop(writer);
	}
	REQUIRE(a67_chunk_begin(&store, digest, 1000, false, &writer) == 0);
	CHECK_INT(a67_chunk_write(writer, bytes, 1000), 0);
	CHECK_INT(a67_chunk_write(writer, "?", 1), -EFBIG);
	a67_chunk_drop(writer);
	a67_chunk_drop(NULL);
	CHECK_INT(look(digest, &file), -ENOENT);
	CHECK_UINT(store.bytes + store.promised_bytes + store.count, 0);
	CHECK_UINT(files_in(""), 0);
	end();
}

static void
room_is_limited(void)
{
	uint8_t one[A67_CHUNK_DIGEST_BYTES];
	uint8_t other[A67_CHUNK_DIGEST_BYTES];
	A67ChunkWriter *writer;
	A67ChunkWriter *late = NULL;

	REQUIRE(begin());
	store.quota_bytes = 1000;
	(void) content(1, 600, one);
	CHECK_INT(a67_chunk_begin(&store, one, 1001, false, &late), -EDQUOT);
	REQUIRE(a67_chunk_begin(&store, one, 600, false, &writer) == 0);
	CHECK_INT(put(2, 401, other), -EDQUOT);
	CHECK_INT(put(2, 400, other), 0);
	a67_chunk_drop(writer);
	CHECK_INT(put(1, 600, one), 0);
	CHECK_INT(put(3, 1, other), -EDQUOT);
	CHECK_INT(put(3, 0, other), 0);
	CHECK_INT(removal(one), 0);
	CHECK_INT(put(3, 600, other), 0);
	/* What belongs to applications. */
	store.quota_bytes = UINT64_MAX / 2;
	store.reserve_bytes = UINT64_MAX / 2;
	CHECK_INT(put(4, 1, other), -ENOSPC);
	/* Bytes that are only compared need none. */
	CHECK_INT(a67_chunk_begin(&store, one, 600, true, &late), 0);
	CHECK_UINT(store.promised_bytes, 0);
	a67_chunk_drop(late);
	CHECK_INT(a67_chunk_begin(&store, one, A67_CHUNK_MAX_BYTES + 1, true, &late), -EFBIG);
	CHECK(late == NULL);
	end();
}

static void
one_flush_serves_many(void)
{
	enum
	{
		COUNT = 20
	};
	A67ChunkOp ops[COUNT + 1];
	uint8_t digests[COUNT][A67_CHUNK_DIGEST_BYTES];
	A67ChunkWriter *writer;
	A67ChunkFile file;

	REQUIRE(begin());
	done_count = 0;
	/* The same chunk twice among them, by two writers. */
	for (unsigned int i = 0; i <= COUNT; i++)
	{
		const uint8_t *bytes = content(i % COUNT, 50, digests[i % COUNT]);

		REQUIRE(a67_chunk_begin(&store, digests[i % COUNT], 50, false, &writer) == 0);
		CHECK_INT(a67_chunk_write(writer, bytes, 50), 0);
		CHECK_INT(a67_chunk_finish(writer, NOW_S), 0);
		ops[i] = (A67ChunkOp){.done = done};
		a67_chunk_commit(&store, &ops[i], writer);
	}
	CHECK_INT(look(digests[3], &file), -ENOENT);
	CHECK_INT(done_count, 0);
	a67_chunk_flush(&store);
	CHECK_INT(done_count, COUNT + 1);
	CHECK_INT(done_err, 0);
	CHECK_UINT(store.count, COUNT);
	CHECK_UINT(store.bytes, COUNT * 50);
	CHECK_UINT(store.promised_bytes, 0);
	CHECK_UINT(files_in("tmp"), 0);
	for (unsigned int i = 0; i < COUNT; i++)
		CHECK_INT(look(digests[i], &file), 0);
	a67_chunk_flush(&store);
	CHECK_INT(done_count, COUNT + 1);
	end();
}

static void
what_is_removed_is_gone(void)
{
	uint8_t digest[A67_CHUNK_DIGEST_BYTES];
	A67ChunkFile open_one;
	A67ChunkFile file;
	char byte;

	REQUIRE(begin());
	(void) content(9, 100, digest);
	CHECK_INT(removal(digest), -ENOENT);
	CHECK_INT(put(9, 100, digest), 0);
	REQUIRE(a67_chunk_read(&store, digest, &open_one) == 0);
	CHECK_INT(removal(digest), 0);
	CHECK_INT(removal(digest), -ENOENT);
	CHECK_INT(look(digest, &file), -ENOENT);
	/* Whoever reads it reads on. */
	CHECK(pread(open_one.fd, &byte, 1, 50) == 1 && byte == 9);
	(void) close(open_one.fd);
	CHECK_UINT(store.count + store.bytes, 0);
	end();
}

static void
a_start_finds_what_was_durable(void)
{
	uint8_t digests[3][A67_CHUNK_DIGEST_BYTES];
	A67ChunkWriter *writer;
	char path[256];

	REQUIRE(begin());
	for (unsigned int i = 0; i < 3; i++)
		CHECK_INT(put(i, 1000 + i, digests[i]), 0);
	/* Killed: one coming in, one whole but without its name. */
	REQUIRE(a67_chunk_begin(&store, digests[0], 1000, false, &writer) == 0);
	CHECK_INT(a67_chunk_write(writer, "x", 1), 0);
	CHECK_UINT(files_in("tmp"), 1);
	/* Files that are none of ours. */
	path_of(digests[0], path);
	memcpy(strrchr(path, '/') + 1, "README", sizeof("README"));
	(void) close(open(path, O_CREAT | O_WRONLY, 0600));
	a67_chunk_close(&store);
	store_open(-50);
	CHECK_UINT(files_in("tmp"), 0);
	CHECK_UINT(store.count, 3);
	CHECK_UINT(store.bytes, 3003);
	CHECK(store.quota_bytes > 0);
	a67_chunk_drop(writer);
	end();
}

static void
before_the_count_nothing_is_taken(void)
{
	uint8_t digests[2][A67_CHUNK_DIGEST_BYTES];
	A67Why why;

	REQUIRE(begin());
	CHECK_INT(put(1, 10, digests[0]), 0);
	CHECK_INT(put(2, 20, digests[1]), 0);
	a67_chunk_close(&store);
	CHECK_INT(a67_chunk_open(&store, &dir, 1 << 20, &why), 0);
	store.reserve_bytes = 0;
	CHECK_INT(put(3, 1, digests[0]), -EAGAIN);
	/* A removal that the count has not come to, and one behind it. */
	CHECK_INT(removal(digests[0]), -ENOENT);
	CHECK_INT(removal(digests[1]), 0);
	while (a67_chunk_count(&store))
		;
	CHECK_UINT(store.count, 1);
	CHECK_UINT(store.bytes, 10);
	CHECK_INT(put(3, 1, digests[0]), 0);
	end();
}

static void
a_listing_is_in_order(void)
{
	enum
	{
		COUNT = 400
	};
	A67ChunkItem items[8];
	uint8_t digest[A67_CHUNK_DIGEST_BYTES];
	uint8_t last[A67_CHUNK_DIGEST_BYTES] = {0};
	unsigned int seen = 0;

	REQUIRE(begin());
	for (unsigned int i = 0; i < COUNT; i++)
		CHECK_INT(put(i, 10 + i % 5, digest), 0);
	for (int d = 0; d < A67_CHUNK_FANOUT; d++)
	{
		int found;

		while ((found = a67_chunk_list(&store, d, last, items, 2)) > 0)
		{
			for (int i = 0; i < found; i++)
			{
				CHECK(memcmp(items[i].digest, last, sizeof(last)) > 0);
				CHECK(items[i].size >= 10 && items[i].size < 15);
				CHECK_INT(items[i].verified_s, NOW_S);
				memcpy(last, items[i].digest, sizeof(last));
				seen++;
			}
		}
		CHECK_INT(found, 0);
	}
	CHECK_UINT(seen, COUNT);
	CHECK_INT(a67_chunk_list(&store, A67_CHUNK_ROTTEN, NULL, items, 8), 0);
	end();
}

static void
digests_have_one_spelling(void)
{
	uint8_t digest[A67_CHUNK_DIGEST_BYTES];
	const char *good = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

	CHECK(a67_chunk_parse(good, 64, digest));
	CHECK_INT(digest[0], 0xe3);
	CHECK(!a67_chunk_parse(good, 63, digest));
	CHECK(!a67_chunk_parse("E3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", 64,
						   digest));
	CHECK(!a67_chunk_parse("../../../../../../../../../../../../../../../../../../etc/passwd.", 64,
						   digest));
	CHECK(!a67_chunk_parse("", 0, digest));
}

UNIT_MAIN("agent_chunk", UNIT(what_is_put_can_be_read), UNIT(wrong_bytes_leave_nothing),
		  UNIT(room_is_limited), UNIT(one_flush_serves_many), UNIT(what_is_removed_is_gone),
		  UNIT(a_start_finds_what_was_durable), UNIT(before_the_count_nothing_is_taken),
		  UNIT(a_listing_is_in_order), UNIT(digests_have_one_spelling));

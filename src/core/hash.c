/*
 * hash.c - MurmurHash3 x86_32, after Austin Appleby's public-domain reference.
 *
 * Blocks are assembled byte by byte in little-endian order, so that the result is the same on every
 * machine and input may lie at any address.  Frozen: a change here would move every row.
 */
#include "hash.h"

static uint32_t
rotate_left(uint32_t value, unsigned bits)
{
	return (value << bits) | (value >> (32 - bits));
}

static uint32_t
scramble(uint32_t block)
{
	return rotate_left(block * UINT32_C(0xCC9E2D51), 15) * UINT32_C(0x1B873593);
}

static uint32_t
little_endian(const uint8_t *bytes, size_t count)
{
	uint32_t value = 0;

	while (count-- > 0)
		value = (value << 8) | bytes[count];
	return value;
}

uint32_t
a67_murmur3(const void *bytes, size_t count, uint32_t seed)
{
	const uint8_t *in = bytes;
	size_t left;
	uint32_t hash = seed;

	for (left = count; left >= 4; left -= 4, in += 4)
		hash = rotate_left(hash ^ scramble(little_endian(in, 4)), 13) * 5 + UINT32_C(0xE6546B64);
	hash ^= scramble(little_endian(in, left));
	hash ^= (uint32_t) count;
	hash = (hash ^ (hash >> 16)) * UINT32_C(0x85EBCA6B);
	hash = (hash ^ (hash >> 13)) * UINT32_C(0xC2B2AE35);
	return hash ^ (hash >> 16);
}

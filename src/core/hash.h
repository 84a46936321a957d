/*
 * hash.h - MurmurHash3 x86_32, the fixed function that decides on which shard a row lives.
 *
 * It must give the same number on every platform, compiler and release for ever: rows are placed
 * by it. Its reference vectors are in test/unit/hash_test.c. Not for hash tables fed by
 * strangers and not for signatures: collisions are easy to make.
 * Called by the ring, the router and the SQL function murmur3.
 */
#ifndef A67_HASH_H
#define A67_HASH_H

#include <stddef.h>
#include <stdint.h>

/*
 * Hash of count bytes at any alignment; bytes may be NULL when count is 0. As in the reference,
 * only the low 32 bits of the length enter the result.
 */
uint32_t a67_murmur3(const void *bytes, size_t count, uint32_t seed);

#endif /* A67_HASH_H */

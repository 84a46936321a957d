/*
 * place.h - the cache of directory keys that a67_shard_of_key keeps beside a table. Called by catalog_load.c only.
 */
#ifndef A67_ROUTER_PLACE_H
#define A67_ROUTER_PLACE_H

typedef struct A67Directory A67Directory;

/* An empty cache in the current context, which goes with it. */
A67Directory *a67_directory_create(void);

#endif /* A67_ROUTER_PLACE_H */

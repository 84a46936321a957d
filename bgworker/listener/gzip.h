/*
 * gzip.h: compressing the body of an answer. Runs in the api worker, so that no listener waits for it.
 */
#ifndef A67_LISTENER_GZIP_H
#define A67_LISTENER_GZIP_H

#include "postgres.h"

/*
 * The data as one gzip member, allocated in the current context, with its length in *out_len. NULL when it
 * would not be smaller, or when there is no memory for it.
 */
extern char *a67_gzip(const char *data, Size len, Size *out_len);

#endif

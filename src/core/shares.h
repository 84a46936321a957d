/*
 * shares.h - whole numbers in proportion to given shares, as load balancers want them.
 *
 * Decides how shares are rounded; who gets which share is the caller's affair. Pure: no allocation.
 */
#ifndef A67_SHARES_H
#define A67_SHARES_H

#include <stddef.h>

#define A67_WEIGHT_MAX 256

/*
 * Weights 0 .. A67_WEIGHT_MAX in the proportions of the shares: of all scales the one at which each server's part
 * of the requests differs least from its share, and of several such the smallest numbers. A share of 0, or
 * one that is no number, gets 0; any other at least 1.
 */
void a67_shares_round(const double *shares, int *weights, size_t count);

#endif /* A67_SHARES_H */

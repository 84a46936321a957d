"""Random statements on the virtual database and on a plain one, compared: `make fuzz-router N=10000 SEED=abc`.

Prints each difference as it is found, then how many statements were compared, refused and different. What it found is repeated with
the same seed.
"""

import os
import sys

from differential.compare import Side, differences
from differential.generate import cases
from differential.world import World


def main():
    count = int(os.environ.get("N") or "2000")
    seed = os.environ.get("SEED") or os.urandom(4).hex()
    different = refused = 0
    with World() as world:
        sides = Side(world.ours), Side(world.plain)
        for case in cases(seed, count):
            lines, was_refused = differences(case, *sides)
            refused += was_refused
            different += bool(lines) and not was_refused
            for line in lines:
                print(line, flush=True)
    print(f"seed {seed}: {count} compared, {refused} refused, {different} different")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())

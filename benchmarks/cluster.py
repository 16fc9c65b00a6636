"""Many ranks: the figures of issue 4, a line of JSON each.

python -m benchmarks.cluster            # all parts
python -m benchmarks.cluster d          # some
"""

from __future__ import annotations

import argparse
from importlib import import_module

from benchmarks.measure import Neighbours, report

PARTS = {"c": "cluster_ranks", "d": "cluster_plan", "e": "cluster_measured", "g": "cluster_checkpoint"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="letters: " + ", ".join(f"{k} {v}" for k, v in PARTS.items()))
    options = parser.parse_args()
    unknown = sorted(set(options.parts) - set(PARTS))
    if unknown:
        parser.error(f"unknown part {unknown[0]!r}; known: {', '.join(PARTS)}")
    for letter in options.parts or PARTS:
        neighbours = Neighbours()
        import_module(f"benchmarks.{PARTS[letter]}").run()
        others = [neighbours.cores()]
        report(f"{letter}.disturbance", others, "cores used by others", against="one core", ratios=others, bar=0.1, n=0)


if __name__ == "__main__":
    main()

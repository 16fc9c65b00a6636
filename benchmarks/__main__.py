"""Run benchmarks and print a line of JSON for every figure.

python -m benchmarks              # all; about ten minutes
python -m benchmarks a b          # some
python -m benchmarks b --large    # with 100,000,000 neurons: 6 GB more, a few minutes more
python -m benchmarks g --clone    # a fresh clone and its `make run`, which installs
"""

from __future__ import annotations

import argparse
from importlib import import_module

from benchmarks.measure import Neighbours, report

SUBJECTS = {
    "a": "update",
    "b": "delivery",
    "c": "threads",
    "d": "large",
    "e": "voxel",
    "f": "startup",
    "g": "firstrun",
    "k": "checkpoint",
    "r": "recording",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subjects", nargs="*", help="letters: " + ", ".join(f"{k} {v}" for k, v in SUBJECTS.items()))
    parser.add_argument("--large", action="store_true", help="also deliver to 100,000,000 neurons")
    parser.add_argument("--clone", action="store_true", help="also clone, install and run")
    options = parser.parse_args()
    unknown = sorted(set(options.subjects) - set(SUBJECTS))
    if unknown:
        parser.error(f"unknown subject {unknown[0]!r}; known: {', '.join(SUBJECTS)}")
    for letter in options.subjects or SUBJECTS:
        if letter == "g" and not options.clone:
            continue
        subject, neighbours = import_module(f"benchmarks.{SUBJECTS[letter]}"), Neighbours()
        subject.run(**({"large": options.large} if letter == "b" else {}))
        others = [neighbours.cores()]
        report(f"{letter}.disturbance", others, "cores used by others", against="one core", ratios=others, bar=0.1, n=0)


if __name__ == "__main__":
    main()

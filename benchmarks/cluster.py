"""Many ranks: the figures of issue 4, a line of JSON each.

python -m benchmarks.cluster            # all parts
python -m benchmarks.cluster d          # some
"""

from __future__ import annotations

import argparse
from importlib import import_module

PARTS = {"d": "cluster_plan", "g": "cluster_checkpoint"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="letters: " + ", ".join(f"{k} {v}" for k, v in PARTS.items()))
    options = parser.parse_args()
    unknown = sorted(set(options.parts) - set(PARTS))
    if unknown:
        parser.error(f"unknown part {unknown[0]!r}; known: {', '.join(PARTS)}")
    for letter in options.parts or PARTS:
        import_module(f"benchmarks.{PARTS[letter]}").run()


if __name__ == "__main__":
    main()

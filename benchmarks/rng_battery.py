"""TestU01 on the random numbers of the hot loops: what docs/random-numbers.md reports.

    python benchmarks/rng_battery.py small a b c d e f           # 7 s a stream
    python benchmarks/rng_battery.py crush a c e                 # 26 minutes a stream
    python benchmarks/rng_battery.py crush a --seed 2 --tests 67 # a suspicious statistic, once more

Needs gcc and TestU01 (libraries and headers where gcc finds them; CPATH and LIBRARY_PATH name other places). Each
statistic goes to stderr as it is known; a line of JSON per stream and battery goes to stdout.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
LIBRARIES = (("testu01", "probdist", "mylib"), ("testu01", "testu01probdist", "testu01mylib"))  # upstream, Debian
STREAMS = "abcdef"
FAILED = 1e-10  # as L'Ecuyer & Simard (2007), ACM TOMS 33:22, who call it clear failure
SUSPICIOUS = 1e-3  # what TestU01 itself reports; 0.3 such values are expected among the 144 of a good Crush


def compile_battery(folder: Path) -> Path:
    """The compiled battery; RuntimeError with what is missing where it cannot be made."""
    if shutil.which("gcc") is None:
        raise RuntimeError("gcc is not on the PATH; it compiles benchmarks/rng_battery.c.")
    program = folder / "rng_battery"
    for names in LIBRARIES:
        command = ["gcc", "-O3", "-march=native", "-o", program, SOURCE, *(f"-l{name}" for name in names), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return program
    reason = next((line for line in done.stderr.splitlines() if "error" in line or "cannot find" in line), "")
    raise RuntimeError(f"TestU01 is not where gcc looks; install it or set CPATH and LIBRARY_PATH. {reason}")


def run_battery(program: Path, stream: str, battery: str, seed: int = 1, tests: tuple[int, ...] = ()) -> dict:
    """Names and p-values of one battery on one stream."""
    command = [str(program), stream, battery, str(seed), *map(str, tests)]
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("statistic\t"):
                print(stream, battery, seed, line, end="", file=sys.stderr, flush=True)
                lines.append(line)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode} after {len(lines)} statistics.")
    return {"stream": stream, "battery": battery, "seed": seed, **summary(lines)}


def summary(lines: list[str]) -> dict:
    """How many statistics, which failed, which p-values lie within 0.001 of 0 or 1, how long it took."""
    seconds, suspicious, failed = {}, {}, []
    for line in lines:
        _, test, p, duration, name = line.rstrip("\n").split("\t")
        seconds[test] = float(duration)
        tail = min(float(p), 1 - float(p))
        if tail < SUSPICIOUS:
            suspicious[f"{test} {name}"] = float(p)
        if tail < FAILED:
            failed.append(f"{test} {name}")
    total = round(sum(seconds.values()))
    return {"statistics": len(lines), "failed": failed, "suspicious": suspicious, "seconds": total}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("battery", choices=("small", "crush", "big"))
    parser.add_argument("streams", nargs="+", choices=STREAMS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tests", type=int, nargs="*", default=(), help="numbers within the battery; all if not given")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        program = compile_battery(Path(folder))
        for stream in options.streams:
            result = run_battery(program, stream, options.battery, options.seed, tuple(options.tests))
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()

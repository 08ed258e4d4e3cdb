"""``python -m safegen.bench [SUITE ...] [--quick] [--out FILE]``: measure, show, and keep as JSON."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

from safegen import console, runner
from safegen.bench import cost, suites, words
from safegen.errors import UsageError
from safegen.version import __version__

SUITES = ("judge", "model", "guard", "words", "text", "cost")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m safegen.bench", description=__doc__)
    parser.add_argument("suites", nargs="*", default=[], help=f"any of {', '.join(SUITES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="a tenth of the pictures, a minute or two")
    parser.add_argument("--data", type=Path, help="folder with the prompt sets of the text suite")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    return parser.parse_args()


def commit() -> str:
    """The checkout's commit, or nothing outside one."""
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S607
    return found.stdout.strip()


def measure(name: str, options: argparse.Namespace, generator: Any) -> list[suites.Row]:
    """Run one suite with a line of progress."""
    from safegen.builtin.judge import Judge

    quick = options.quick
    judge = Judge.load()
    with console.counting(name) as tick:
        if name == "judge":
            return suites.judge_suite(judge, 200 if quick else 2000, tick)
        if name == "model":
            return suites.model_suite(generator, judge, 20 if quick else 200, 0.1 if quick else 1.0, tick)
        if name == "guard":
            return suites.guard_suite(generator, judge, 32 if quick else 240, 50 if quick else 400, tick)
        if name == "words":
            return words.words_suite(generator, tick)
        if name == "text":
            if options.data is None or not (options.data / "coprov2_train_pairs.csv").is_file():
                raise UsageError("the text suite needs prompt sets", "Give their folder with --data.")
            return suites.text_suite(generator, options.data, 300 if quick else 4000, tick)
        return cost.cost_suite(generator, 3 if quick else 15, tick)


def main() -> None:
    from safegen.generator import Generator

    options = parse()
    unknown = [s for s in options.suites if s not in SUITES]
    if unknown:
        raise UsageError(f"unknown suite {unknown[0]!r}", f"Known: {', '.join(SUITES)}.")
    chosen = options.suites or [s for s in SUITES if s != "text" or options.data]
    generator = Generator.load(offline=True)
    results: dict[str, Any] = {}
    for name in chosen:
        start = time.perf_counter()
        rows = measure(name, options, generator)
        console.show_table(
            name,
            ("measure", "figure", "bar", ""),
            [(r.measure, r.figure, r.bar, ("met" if r.met else "MISSED") if r.bar else "") for r in rows],
        )
        results[name] = {
            "seconds": round(time.perf_counter() - start, 1),
            "rows": [{"measure": r.measure, "figure": r.figure, "bar": r.bar, "met": r.met, **r.raw} for r in rows],
        }
    report = {
        "schema": "safegen.bench/1",
        "safegen": __version__,
        "commit": commit(),
        "quick": options.quick,
        "python": platform.python_version(),
        "suites": results,
    }
    if options.out:
        from safegen.files import write_atomically

        write_atomically(options.out, (json.dumps(report, indent=1) + "\n").encode())


if __name__ == "__main__":
    runner.run(main)

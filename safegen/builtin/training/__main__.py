"""``python -m safegen.builtin.training STAGE --runs DIR --steps N [--minutes M]``."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from pathlib import Path

STAGES = (
    "repairs",
    "autoencoder",
    "graft",
    "denoiser",
    "polish",
    "judge",
    "assemble",
    "causal",
    "plain",
    "reader",
    "filling",
    "ranking",
    "examples",
    "sheet",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all checkpoints")
    parser.add_argument("--steps", type=int, default=1_000_000, help="length of the whole run")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop, resumably, after")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a run that is told to stop saves first
    stage = importlib.import_module(f"safegen.builtin.training.{options.stage}")
    stage.train(options.runs / options.stage, options.steps, options.minutes)


if __name__ == "__main__":
    main()

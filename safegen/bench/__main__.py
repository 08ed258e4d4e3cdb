"""``python -m safegen.bench``: the same as ``safegen bench``."""

from __future__ import annotations

import typer

from safegen import runner
from safegen.cli.bench import bench

if __name__ == "__main__":
    runner.run(lambda: typer.run(bench))

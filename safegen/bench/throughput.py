"""Throughput of batches, as ratios taken in turns in one run: against loops by hand, and on Ray."""

from __future__ import annotations

import importlib.util
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safegen.batch import run
from safegen.batch.interrupt import Watch
from safegen.batch.local import LocalEngine
from safegen.batch.plan import Batch
from safegen.batch.ray_engine import RayEngine
from safegen.batch.readers import Source
from safegen.batch.settings import BatchSettings
from safegen.batch.worker import Outcome, Worker
from safegen.bench.cost import in_turns, seconds
from safegen.bench.registry import Bench, suite
from safegen.bench.results import Result, Tick
from safegen.builtin import world
from safegen.builtin.world import with_article

if TYPE_CHECKING:
    from PIL import Image

    from safegen.generator import Generator

SIZES = (4, 8, 16, 32)
WORKERS, SLEEP = 32, 5.0  # workers of the simulated scale-out; their seconds a batch


def prompts(count: int) -> list[str]:
    """Make benign prompts, all different."""
    things = [with_article(t.names[0]) for t in world.things().values() if not t.category]
    every = [f"{thing} on a {ground} background" for ground in world.grounds() for thing in things]
    return every[:count]


class Clock(Watch):
    """A watch that notes when records land, so that the start does not count for the rate."""

    def __init__(self, tick: Tick) -> None:
        super().__init__(on_landed=tick)
        self.times: list[tuple[float, Any]] = []

    def landed(self, record: Mapping[str, Any]) -> None:
        super().landed(record)
        self.times.append((time.monotonic(), record.get("worker")))

    def rate(self) -> float:
        """Compute pictures per second from the end of the first batch on."""
        first, last = self.times[0][0], self.times[-1][0]
        late = [moment for moment, _ in self.times if moment > first + 0.5]
        return len(late) / (last - first)


def batch(engine: run.Engine, texts: Sequence[str], settings: BatchSettings, watch: Watch, out: Path) -> None:
    """Run one whole batch into a fresh folder."""
    source = Source("-", "txt", "\n".join(texts).encode())
    with run.prepare_run(source, settings, out) as ready:
        summary = ready.run(engine, watch)
    assert summary.left == 0


def by_hand(pipe: Any, texts: Sequence[str], size: int, steps: int) -> list[Image.Image]:
    """Draw as anybody would with diffusers: batches, no guard, no records, pictures kept in memory."""
    import torch  # not at the top: thirty-two simulated workers import this module

    images: list[Image.Image] = []
    for start in range(0, len(texts), size):
        part = list(texts[start : start + size])
        seeds = [torch.Generator().manual_seed(start + i) for i in range(len(part))]
        images += pipe(part, generator=seeds, num_inference_steps=steps, guidance_scale=3.0).images
    return images


def loops(generator: Generator, count: int, rounds: int, steps: int, tick: Tick) -> list[Result]:
    """Measure the local engine, guard and records on, against the best and the naive loop by hand."""
    texts, pipe = prompts(count), generator.pipe
    by_hand(pipe, texts[:1], 1, steps)
    times = {n: seconds(lambda n=n: by_hand(pipe, texts[:n], n, steps)) / n for n in SIZES if n <= count}  # type: ignore[misc]
    best = min(times, key=lambda n: times[n])
    settings = BatchSettings.of(steps=steps, batch_size=best)
    worker = Worker(generator, settings)
    with tempfile.TemporaryDirectory() as folder:
        runs = iter(range(1000))

        def ours() -> None:
            batch(LocalEngine(lambda: worker), texts, settings, Watch(), Path(folder) / str(next(runs)))

        fast = in_turns(ours, lambda: by_hand(pipe, texts, best, steps), rounds, tick).inverse
        naive = in_turns(ours, lambda: by_hand(pipe, texts, 1, steps), rounds, tick).inverse
    raw = {"best_batch": best, "prompts": count, "steps": steps}
    rows = [
        Result.ratio("batch over the best loop by hand, throughput", fast, least=0.95),
        Result.ratio("batch over a call per prompt, throughput", naive, least=1.5),
    ]
    return [replace(row, raw={**row.raw, **raw}) for row in rows]


class Sleeper:
    """A worker whose denoising is a fixed sleep: the rest of the time is the engine's own cost."""

    def facts(self, _asked: Sequence[object]) -> dict[str, Any]:
        return {"directions": {}, "additions": {}, "batch_size": 1, "heard": [], "notes": []}

    def draw(self, planned: Batch) -> list[Outcome]:
        time.sleep(SLEEP)
        return [
            Outcome({"id": s.id, "status": "ok", "file_name": s.file_name, "worker": os.getpid()}, None)
            for s in planned.shots
        ]


def on_ray(generator: Generator, count: int, steps: int, tick: Tick) -> list[Result]:
    """Measure two workers on one core each against the local engine on both cores; starts are left out."""
    texts, settings = prompts(count), BatchSettings.of(steps=steps, batch_size=8, offline=True)
    local, ray = Clock(tick), Clock(tick)
    worker = Worker(generator, settings)
    load = partial(Worker.load, settings)
    with tempfile.TemporaryDirectory() as folder:
        batch(LocalEngine(lambda: worker), texts, settings, local, Path(folder) / "local")
        batch(RayEngine(load, workers=2), texts, settings, ray, Path(folder) / "ray")
    share = ray.rate() / local.rate()
    raw = {"local": local.rate(), "ray": ray.rate()}
    return [Result("ray, two workers, over local, throughput", f"{share:.3f}", "at least 0.9", share >= 0.9, raw)]


def scale_out(count: int, tick: Tick) -> list[Result]:
    """Measure thirty-two workers that sleep; their starts are left out."""
    clock = Clock(tick)
    settings = BatchSettings.of(batch_size=1)
    with tempfile.TemporaryDirectory() as folder:
        engine = RayEngine(Sleeper, workers=WORKERS, cpus=0.01)
        batch(engine, [f"a cat {i}" for i in range(count)], settings, clock, Path(folder) / "out")
    landed: dict[Any, list[float]] = {}
    for moment, worker in clock.times:
        landed.setdefault(worker, []).append(moment)
    # A worker should never wait from its first result until nothing is left to hand out.
    last = clock.times[-1][0] - SLEEP
    spans = sum(max(times[-1], last) - times[0] for times in landed.values())
    efficiency = sum(len(times) - 1 for times in landed.values()) * SLEEP / spans
    met = efficiency >= 0.9 and len(landed) == WORKERS
    raw = {"workers": len(landed), "batches": count, "sleep": SLEEP, "efficiency": efficiency}
    return [Result(f"ray, {WORKERS} simulated workers, efficiency", f"{efficiency:.1%}", "at least 90%", met, raw)]


def throughput_suite(generator: Generator, count: int, rounds: int, tick: Tick) -> list[Result]:
    """Measure all of it; the rows on Ray only if Ray is installed."""
    rows = loops(generator, count, rounds, 20, tick)
    if importlib.util.find_spec("ray") is not None:
        rows += on_ray(generator, max(count, 64), 20, tick)
        rows += scale_out(WORKERS * 12, tick)
    return rows


@suite("throughput", 140)
def throughput_of(bench: Bench) -> list[Result]:
    """Batches against loops by hand, and on Ray."""
    return throughput_suite(bench.generator, bench.pick(32, 48), bench.pick(1, 3), bench.tick)

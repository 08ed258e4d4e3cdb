"""What the guard and the command cost, as ratios measured in one run, in turns."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from safegen.bench.pictures import mixed
from safegen.bench.rows import Row, Tick
from safegen.learning.corpus import benign_prompts

if TYPE_CHECKING:
    from safegen.generator import Generator

SCORED = 64  # prompts a batch, as `safegen score --file` has them
PROMPT = "a cat and a kitchen knife"
BARE = """
import sys, torch
from diffusers import DiffusionPipeline
pipe = DiffusionPipeline.from_pretrained(sys.argv[1], torch_dtype=torch.float32, use_safetensors=True)
pipe.set_progress_bar_config(disable=True)
seed = torch.Generator().manual_seed(7)
pipe(sys.argv[2], num_inference_steps=20, guidance_scale=float(sys.argv[3]), generator=seed).images[0].save(sys.argv[4])
"""


def seconds(call: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turns(first: Callable[[], Any], second: Callable[[], Any], rounds: int, tick: Tick) -> float:
    """The fastest of `first` over the fastest of `second`, in paired rounds after one warm-up each.

    What else a machine does can only add to a time, so the least of several is nearest to the cost itself;
    on a shared machine the median of paired ratios strays by several percent from run to run.
    """
    first(), second()
    times: tuple[list[float], list[float]] = [], []
    for turn in range(rounds):
        # Alternate who goes first, so that a drifting machine favours neither.
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            times[which].append(seconds((first, second)[which]))
        tick(1)
    return min(times[0]) / min(times[1])


def guard_cost(generator: Generator, prompt: str, rounds: int, tick: Tick) -> float:
    """Guarded generation over the pipeline's own call, one 20-step picture each."""
    import torch

    from safegen.generator import Settings

    _, guidance, _ = generator.resolve(Settings())

    def bare() -> None:
        generator.pipe(
            prompt, num_inference_steps=20, guidance_scale=guidance, generator=torch.Generator().manual_seed(7)
        )

    return in_turns(lambda: generator.generate(prompt, Settings(seed=7, steps=20)), bare, rounds, tick)


def command_cost(rounds: int, tick: Tick) -> float:
    """`safegen generate` over a bare script that loads the same model and calls it once."""
    from safegen.models import EMBEDDED_FOLDER

    with tempfile.TemporaryDirectory() as folder:
        bare = [sys.executable, "-c", BARE, str(EMBEDDED_FOLDER), PROMPT, "3.0", f"{folder}/bare.png"]
        entry = "from safegen.cli import main; main()"
        ours = [sys.executable, "-c", entry, "generate", PROMPT, "--seed", "7", "--out", folder]

        def run(command: list[str]) -> None:
            subprocess.run(command, check=True, capture_output=True)  # noqa: S603

        return in_turns(lambda: run(ours), lambda: run(bare), rounds, tick)


def scoring_rate(generator: Generator, count: int, tick: Tick) -> float:
    """Prompts scored in a second over prompts that the pipeline's encoder alone takes, in the same batches."""
    import torch

    prompts = benign_prompts()[: count // 2] + [case.prompt for case in mixed(count - count // 2)]
    batches = [prompts[i : i + SCORED] for i in range(0, len(prompts), SCORED)]

    def bare() -> None:
        with torch.no_grad():  # as in any generation
            for batch in batches:
                generator.pipe.encode_prompt(batch, generator.pipe.device, 1, False)

    def scored() -> None:
        for batch in batches:
            generator.score(batch)

    return 1 / in_turns(scored, bare, 3, tick)


def causes_cost(generator: Generator, tick: Tick) -> float:
    """Scoring harmful prompts with the cause of every word over scoring them without."""
    prompts = [case.prompt for case in mixed(32)]
    return in_turns(lambda: generator.score(prompts, "flagged"), lambda: generator.score(prompts), 3, tick)


def cost_suite(generator: Generator, rounds: int, tick: Tick) -> list[Row]:
    """Guard and command overheads."""
    flagged = guard_cost(generator, PROMPT, rounds, tick)
    benign = guard_cost(generator, "a cat and a dog", rounds, tick)
    command = command_cost(max(3, rounds // 3), tick)
    rate = scoring_rate(generator, 1000 if rounds > 5 else 100, tick)
    causes = causes_cost(generator, tick)
    return [
        Row(
            "guard on a flagged prompt, time ratio",
            f"{flagged:.3f}",
            "at most 1.03",
            flagged <= 1.03,
            {"ratio": flagged},
        ),
        Row("guard on a benign prompt, time ratio", f"{benign:.3f}", "at most 1.01", benign <= 1.01, {"ratio": benign}),
        Row(
            "`safegen generate` over a bare script", f"{command:.3f}", "at most 1.1", command <= 1.1, {"ratio": command}
        ),
        Row(
            "scoring a file, throughput over the bare encoder's",
            f"{rate:.3f}",
            "at least 0.8",
            rate >= 0.8,
            {"ratio": rate},
        ),
        Row("causes of flagged prompts, time ratio to scoring alone", f"{causes:.2f}", "", True, {"ratio": causes}),
    ]

"""The cost of the guard and of the command, as ratios of times taken in turns in one run."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from safegen.bench.cases import FLAGGED, Seed
from safegen.bench.pictures import mixed_cases
from safegen.bench.registry import Bench, suite
from safegen.bench.results import Result, Tick
from safegen.bench.statistics import Ratio
from safegen.errors import DirectionError, SafegenError
from safegen.learning.corpus import benign_prompts
from safegen.prompts.prompt import Prompt

if TYPE_CHECKING:
    from safegen.generator import Generator

SCORED = 64  # prompts a batch
BENIGN = "a cat and a dog"
# As a distilled model draws: the guard costs what it does, and the picture a tenth.
DISTILLED: Mapping[str, Any] = {"steps": 4, "guidance": 1.0}
BARE = """
import sys, torch
from diffusers import DiffusionPipeline
pipe = DiffusionPipeline.from_pretrained(sys.argv[1], torch_dtype=torch.float32, use_safetensors=True)
pipe.set_progress_bar_config(disable=True)
seed = torch.Generator().manual_seed(int(sys.argv[5]))
pipe(sys.argv[2], num_inference_steps=20, guidance_scale=float(sys.argv[3]), generator=seed).images[0].save(sys.argv[4])
"""


def seconds(call: Callable[[], Any]) -> float:
    """Measure the wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turns(first: Callable[[], Any], second: Callable[[], Any], rounds: int, tick: Tick) -> Ratio:
    """Measure the times of `first` over those of `second`, in paired rounds after one warm-up each.

    Other work on the machine can only add to a time. So the ratio of the shortest times is nearest to the real
    cost; on a shared machine the median of paired ratios strays by several percent from run to run.
    """
    first(), second()
    times: tuple[list[float], list[float]] = [], []
    for turn in range(rounds):
        # They alternate in going first, so that a machine whose speed drifts favours neither.
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            times[which].append(seconds((first, second)[which]))
        tick(1)
    return Ratio(tuple(times[0]), tuple(times[1]))


def guard_cost(
    generator: Generator, prompt: str, rounds: int, tick: Tick, steps: int = 20, guidance: float | None = None
) -> Ratio:
    """Measure guarded generation over the pipeline's own call, one picture each."""
    import torch

    from safegen.models.options import DrawOptions

    options = DrawOptions(seed=Seed.PICTURE, steps=steps, guidance=guidance)
    _, scale, _ = generator.resolve(options)

    def bare() -> None:
        seed = torch.Generator().manual_seed(Seed.PICTURE)
        generator.pipe(prompt, num_inference_steps=steps, guidance_scale=scale, generator=seed)

    return in_turns(lambda: generator.generate(prompt, options), bare, rounds, tick)


def command_cost(rounds: int, tick: Tick) -> Ratio:
    """Measure `safegen generate` over a bare script that loads the same model and calls it once."""
    from safegen.models.catalog import EMBEDDED_FOLDER

    with tempfile.TemporaryDirectory() as folder:
        seed = str(int(Seed.PICTURE))
        bare = [sys.executable, "-c", BARE, str(EMBEDDED_FOLDER), FLAGGED, "3.0", f"{folder}/bare.png", seed]
        entry = "from safegen.cli import main; main()"
        ours = [sys.executable, "-c", entry, "generate", FLAGGED, "--seed", seed, "--out", folder]

        def run(command: list[str]) -> None:
            subprocess.run(command, check=True, capture_output=True)  # noqa: S603

        return in_turns(lambda: run(ours), lambda: run(bare), rounds, tick)


def startup_cost(arguments: list[str], rounds: int, tick: Tick) -> Ratio:
    """Measure a command that needs no model over the bare import of what draws its tables."""
    bare = [sys.executable, "-c", "import typer, rich"]
    ours = [sys.executable, "-c", "from safegen.cli import main; main()", *arguments]

    def run(command: list[str]) -> None:
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603

    return in_turns(lambda: run(ours), lambda: run(bare), rounds, tick)


def show_cost(generator: Generator, rounds: int, tick: Tick) -> Ratio:
    """Measure `safegen show` of one picture as `startup_cost` does."""
    from safegen.models.options import DrawOptions

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/picture.png"
        generator.generate("a cat", DrawOptions(steps=1))[0][0].save(path)
        return startup_cost(["show", path], rounds, tick)


def scoring_rate(generator: Generator, count: int, tick: Tick) -> Ratio:
    """Measure prompts scored in a second over those that the bare encoder takes in a second.

    The encoder is the pipeline's, and the batches are the same.
    """
    import torch

    prompts = benign_prompts()[: count // 2] + [case.prompt for case in mixed_cases(count - count // 2)]
    batches = [prompts[i : i + SCORED] for i in range(0, len(prompts), SCORED)]

    def bare() -> None:
        with torch.no_grad():  # as in any generation
            for batch in batches:
                generator.pipe.encode_prompt(batch, generator.pipe.device, 1, False)

    def scored() -> None:
        for batch in batches:
            generator.score(batch)

    return in_turns(scored, bare, 3, tick).inverse


def causes_cost(generator: Generator, tick: Tick) -> Ratio:
    """Measure scoring harmful prompts with the cause of every word over scoring them without causes."""
    prompts = [case.prompt for case in mixed_cases(32)]
    return in_turns(lambda: generator.score(prompts, "flagged"), lambda: generator.score(prompts), 3, tick)


def steering_cost(generator: Generator, rounds: int, tick: Tick) -> Result:
    """Measure drawing with a latent direction over drawing without, one 20-step picture each."""
    from safegen.models.options import DrawOptions

    measure = "drawing with a latent direction, time ratio"
    (one,) = generator.prepare([Prompt("a doctor")])
    assert not isinstance(one, SafegenError)
    try:
        generator.steerer.check(("gender",), None)
    except DirectionError as error:
        return Result.missing(measure, error)

    def draw(fair: tuple[str, ...]) -> None:
        generator.draw([one], DrawOptions(steps=20, fair=fair), [Seed.PICTURE])

    return Result.ratio(measure, in_turns(lambda: draw(("gender",)), lambda: draw(()), rounds, tick), most=1.005)


def cost_suite(generator: Generator, rounds: int, tick: Tick) -> list[Result]:
    """Measure the overheads of guard and command."""
    flagged = guard_cost(generator, FLAGGED, rounds, tick)
    benign = guard_cost(generator, BENIGN, rounds, tick)
    few = [guard_cost(generator, prompt, 2 * rounds, tick, **DISTILLED) for prompt in (FLAGGED, BENIGN)]
    command = command_cost(max(3, rounds // 3), tick)
    rate = scoring_rate(generator, 1000 if rounds > 5 else 100, tick)
    causes = causes_cost(generator, tick)
    steered = steering_cost(generator, 2 * rounds, tick)
    help_, show = startup_cost(["--help"], rounds, tick), show_cost(generator, rounds, tick)
    return [
        Result.ratio("guard on a flagged prompt, time ratio", flagged, most=1.03),
        Result.ratio("guard on a benign prompt, time ratio", benign, most=1.01),
        Result.ratio("guard on a flagged prompt, drawn as by a distilled model, time ratio", few[0]),
        Result.ratio("guard on a benign prompt, drawn as by a distilled model, time ratio", few[1]),
        Result.ratio("`safegen generate` over a bare script", command, most=1.1),
        steered,
        Result.ratio("`safegen --help` over importing typer and rich", help_, most=1.6),
        Result.ratio("`safegen show` over importing typer and rich", show, most=1.6),
        Result.ratio("scoring a file, throughput over the bare encoder's", rate, least=0.8),
        Result.ratio("causes of flagged prompts, time ratio to scoring alone", causes),
    ]


@suite("cost", 130)
def cost_of(bench: Bench) -> list[Result]:
    """The cost of the guard and of the command, as ratios."""
    return cost_suite(bench.generator, bench.pick(3, 15), bench.tick)

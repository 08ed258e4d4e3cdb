"""The two text encoders that come with safegen, side by side: learning does not depend on one geometry.

The first encoder reads both ways and keeps the sentence in its words and its start. The second is causal, as
CLIP is, and keeps it in its end and its pads. Both get directions from the same recipes and pairs (the
second's are learned here), and both are measured on the same prompts. Nothing is drawn.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from safegen.bench import texts
from safegen.bench.provenance import PromptSet
from safegen.bench.registry import Bench, suite
from safegen.bench.results import Result, Tick
from safegen.directions import recipes
from safegen.directions.recipes import Concept
from safegen.families import family_of
from safegen.generator import Generator
from safegen.learning import contrastive, features
from safegen.learning.effort import THOROUGH
from safegen.models import catalog, loading

NEAR = 0.03


def encoders_suite(first: Generator, data: Sequence[PromptSet], quick: bool, tick: Tick) -> list[Result]:
    """Run the text and words suites on both encoders; each figure must be near the other."""
    with tempfile.TemporaryDirectory() as folder:
        learn(Path(folder), data[0], tick)
        second = Generator.load(catalog.EMBEDDED_CLIP, folder=Path(folder), offline=True)
    one, other = (figures(generator, data, quick, tick) for generator in (first, second))
    return [compare(measure, one[measure], other[measure]) for measure in one]


def learn(folder: Path, pairs: PromptSet, tick: Tick) -> None:
    """Learn directions of every standard concept for the second encoder, beside copies of their recipes."""
    family = family_of(loading.load(catalog.EMBEDDED_CLIP, offline=True))
    everyday, sources = features.background(family, THOROUGH), {"pairs": pairs.name}
    for name, shipped in recipes.known().items():
        (folder / name).mkdir()
        (folder / name / "concept.toml").write_bytes((shipped / "concept.toml").read_bytes())
        for direction in contrastive.learn(
            Concept.load(name), family, THOROUGH, everyday, pairs.entries, sources
        ).values():
            direction.save(folder / name / f"{direction.stem}.safetensors")
        tick(1)


def figures(generator: Generator, data: Sequence[PromptSet], quick: bool, tick: Tick) -> Mapping[str, Result]:
    """Give the rows of both suites by their measure; single categories are left out."""
    assert generator.guard is not None
    # The reader is the same for both, so only the encoders' own directions are compared.
    rows = texts.text_suite(generator, data, 300 if quick else 4000, tick, generator.guard.context.scorer)
    rows += texts.words_suite(generator, 10 if quick else 100, 40 if quick else 1000, tick)
    return {row.measure: row for row in rows if not row.measure.startswith(" ")}


def compare(measure: str, one: Result, other: Result) -> Result:
    """Compare one measure on both encoders."""
    rates = [row.raw["rate"] for row in (one, other)]
    near = abs(rates[0] - rates[1]) <= NEAR
    figure = f"{one.figure} | {other.figure}"
    return Result(measure, figure, f"within {NEAR:.0%} of each other", near, {"embedded": rates[0], "clip": rates[1]})


@suite("encoders", 100, needs="data", quick=True)
def encoders_of(bench: Bench) -> list[Result]:
    """The two embedded text encoders side by side."""
    return encoders_suite(bench.generator, bench.prompts.data, bench.quick, bench.tick)

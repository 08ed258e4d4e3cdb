"""``safegen directions learn --method rece``: weight edits of concepts, for the loaded denoiser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safegen.cli.directions_saving import save_useful
from safegen.directions import edits, kinds, recipes
from safegen.directions.edits import WeightEdit
from safegen.directions.recipes import Concept
from safegen.errors import UsageError
from safegen.models.options import LoadOptions

if TYPE_CHECKING:
    from safegen.learning.objective import Judge


def learn(method: str, names: Sequence[str], out: Path | None, folder: Path | None, load: LoadOptions) -> None:
    """Learn a weight edit for every named concept, and save those that are of use.

    Raises:
        UnknownConcept, UsageError: there is no such recipe, it cannot be used, the denoiser has nothing to edit, or
            nobody judges pictures for a method that learns from it.
        ModelError: there is no denoiser, or it is compiled or streamed.
        DirectionError: an edit is of no use; the others are saved.
    """
    from safegen import files
    from safegen.models import loading

    concepts = [Concept.load(name, folder) for name in names]
    kind = kinds.KINDS[edits.SCHEMA]
    targets = [kind.target(recipe, out, folder) for recipe in concepts]
    for target in targets:
        files.check_writable(target)
    learn_one = learner(method, loading.load(load), load.model, concepts)
    both = zip(concepts, targets, strict=True)
    save_useful(kind, ((f"{recipe.name}, {method}", learn_one(recipe), target) for recipe, target in both))


def learner(method: str, pipe: Any, model: str, concepts: Sequence[Concept]) -> Callable[[Concept], WeightEdit]:
    """Give what learns an edit of one of the concepts: in closed form, or by tuning, which goes on where it stopped.

    Raises:
        UsageError: nobody judges pictures for a method that learns from it.
    """
    from safegen.cli import console
    from safegen.families import family_of
    from safegen.learning import EDITS, TUNED, tuning
    from safegen.models import defaults
    from safegen.safeguards import import_object

    family, learning = family_of(pipe), import_object(EDITS[method])
    if method not in TUNED:
        return lambda recipe: learning(recipe, family, console)
    objective, guidance, print_ = learning(), defaults.of(family, model).guidance, family.bottleneck.fingerprint
    judges = {recipe.name: judge_of(recipe, pipe, model) for recipe in concepts if objective.judged}

    def tune(recipe: Concept) -> WeightEdit:
        partial = edits.cached_folder() / recipe.name / f".{method}-{print_[:8]}.partial"
        judge = judges.get(recipe.name)
        return tuning.learn(recipe, family, objective, guidance, judge=judge, partial=partial, progress=console)

    return tune


def judge_of(recipe: Concept, pipe: Any, model: str) -> Judge:
    """Give whoever sees a concept in a model's pictures.

    Raises:
        UsageError: nobody does.
    """
    from safegen import image_check
    from safegen.generator import Generator
    from safegen.learning.objective import Judge

    detector = image_check.find_detector(Generator(pipe, None, model))
    if recipe.name not in detector.concepts:
        raise UsageError(
            f"{detector.name} sees {', '.join(detector.concepts)} in pictures, and not {recipe.name}",
            "Take a method without a judge: --method duo.",
        )
    return Judge(detector.name, lambda pictures: [recipe.name in detector.look(one) for one in pictures])


def listed(folder: Path | None) -> list[tuple[str, str]]:
    """List the concepts that have weight edits, each with the names of its files."""
    found = []
    for name, where in recipes.known(folder).items():
        if stems := sorted({path.stem for path in edits.files(name, "*", where)}):
            found.append((name, ", ".join(stems)))
    return found

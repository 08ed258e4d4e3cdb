"""The direction as users of the library see it: with the method that learns it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safegen import safeguards
from safegen.directions import direction, store
from safegen.directions.recipes import Concept
from safegen.errors import UsageError
from safegen.families import family_of
from safegen.learning import METHODS
from safegen.learning.effort import EFFORTS
from safegen.learning.learner import Learner
from safegen.progress import SILENT, Progress


class Direction(direction.Direction):
    """One concept in the space of one encoder's output."""

    @staticmethod
    def learn(
        recipe: str | Path | Concept,
        pipe: Any,
        *,
        effort: str = "brief",
        method: str = "contrastive",
        folder: str | Path | None = None,
        progress: Progress = SILENT,
    ) -> Mapping[str, direction.Direction]:
        """Learn a concept for a pipeline's text encoders; give a `directions.Direction` for every channel.

        Args:
            recipe: a concept, its name, or the path of its recipe.
            pipe: a diffusers pipeline of a supported family.
            effort: `analytic`, `brief`, `transported` or `thorough`, see `safegen.learning.effort`.
            method: `contrastive`, or what one of the safeguards needs beside it: `es`, `region`, `half-spaces`.
            folder: the folder of your own concepts; their directions are kept beside the recipes, where a guard
                with this folder finds them. Without it nothing is kept.
            progress: told of what is done.

        Raises:
            UnknownConcept, UsageError: there is no such recipe, effort or method, or the recipe cannot be used.
            ModelError: the pipeline is of an unsupported class.
            DirectionError: what was learned is too poor to use.
        """
        if effort not in EFFORTS:
            raise UsageError(f"unknown effort {effort!r}", f"Known: {', '.join(EFFORTS)}.")
        if method not in METHODS:
            raise UsageError(f"unknown method {method!r}", f"Known: {', '.join(METHODS)}.")
        own = None if folder is None else Path(folder)
        concept = recipe if isinstance(recipe, Concept) else Concept.load(str(recipe), own)
        family = family_of(pipe)
        learned = Learner(family, EFFORTS[effort], own, progress=progress).learn(concept)
        learned = beside(method, concept, family, learned, progress)
        for found in learned.values():
            store.check_ready(found, concept.name)
            if own is not None:
                found.save(store.learned_folder(concept.name, own) / concept.name / f"{found.stem}.safetensors")
        return learned


def beside(
    method: str, concept: Concept, family: Any, learned: dict[str, direction.Direction], progress: Progress
) -> dict[str, direction.Direction]:
    """Add what a method learns to directions that the contrastive one has learned."""
    if method == "contrastive":
        return learned
    learn = safeguards.import_object(safeguards.REGISTRY[METHODS[method]].learn[method])
    with progress.counting(f"{concept.name}: steps") as tick:
        found: dict[str, direction.Direction] = learn(concept, family, learned, tick)
    return found

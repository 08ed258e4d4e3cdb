"""Every pipeline class of the installed diffusers: which family guards it, or why none does."""

from __future__ import annotations

from dataclasses import dataclass

from safegen.families import FAMILIES
from safegen.families.modular import FORMS, kind_of
from safegen.families.refused import REFUSED

BASES = ("DiffusionPipeline", "ModularPipeline")
# Diffusers' mappings, from the name of a model to the class that draws with it, by what the class begins with.
TASKS = {"text": "TEXT2IMAGE", "image": "IMAGE2IMAGE", "inpaint": "INPAINT", "video": "TEXT2VIDEO"}


@dataclass(frozen=True)
class PipelineClass:
    """A pipeline class.

    Attributes:
        name: its name.
        tasks: under which tasks diffusers lists it, of `TASKS`.
        family: the name of the family that guards it; empty if it is refused.
        reason: why it is refused; empty if it is guarded, or if nobody has looked at it.
    """

    name: str
    tasks: tuple[str, ...]
    family: str
    reason: str


def list_classes() -> list[PipelineClass]:
    """List the classes, those first that diffusers lists by their tasks."""
    import diffusers

    tasks = _tasks()
    names = {name for name in dir(diffusers) if name.endswith("Pipeline")} - set(BASES)
    families = {name: family.__name__ for family in FAMILIES for name in family.pipelines}
    families |= {name: families[kind_of(name)] for name in FORMS}
    found = [
        PipelineClass(name, tuple(tasks.get(name, ())), families.get(name, ""), REFUSED.get(name, "")) for name in names
    ]
    order = list(TASKS)
    return sorted(found, key=lambda one: (min((order.index(t) for t in one.tasks), default=len(order)), one.name))


def _tasks() -> dict[str, list[str]]:
    from diffusers.pipelines import auto_pipeline

    found: dict[str, list[str]] = {}
    for task, name in TASKS.items():
        for kind in dict.fromkeys(getattr(auto_pipeline, f"AUTO_{name}_PIPELINES_MAPPING").values()):
            found.setdefault(kind.__name__, []).append(task)
    return found

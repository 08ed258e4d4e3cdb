"""Steps and guidance that a model wants, whatever it is called: by what it is known as, else by what its files tell."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safegen.files import located
from safegen.models import catalog
from safegen.models.checkpoint import INDEX

if TYPE_CHECKING:
    from safegen.families import Family


@dataclass(frozen=True)
class Defaults:
    """The settings where the user gives none; `assumed` where nothing of the model said it."""

    steps: int
    guidance: float
    assumed: bool = False


# Models of the hub without a short name that want others than their family, or as much as it.
KNOWN: Mapping[str, tuple[int | None, float | None]] = {
    "stabilityai/sdxl-turbo": (4, 0.0),
    "stabilityai/sd-turbo": (4, 0.0),
    "stabilityai/stable-diffusion-2-1": (None, None),
    "stabilityai/stable-diffusion-2-1-base": (None, None),
    "runwayml/stable-diffusion-v1-5": (None, None),
    "CompVis/stable-diffusion-v1-4": (None, None),
    "stabilityai/stable-diffusion-3-medium-diffusers": (None, None),
    "stabilityai/stable-diffusion-3.5-large": (28, 3.5),
    "stabilityai/stable-diffusion-3.5-large-turbo": (4, 0.0),
    "playgroundai/playground-v2.5-1024px-aesthetic": (50, 3.0),
    "Qwen/Qwen-Image-2512": (None, None),
    "Tongyi-MAI/Z-Image": (50, 4.0),
    **{alias.repo: (alias.steps, alias.guidance) for alias in catalog.ALIASES.values()},
    catalog.EMBEDDED_ID: (catalog.EMBEDDED_STEPS, catalog.EMBEDDED_GUIDANCE),
}
_KNOWN = {repo.lower(): values for repo, values in KNOWN.items()}
_CACHED = re.compile(r"models--([^/\\]+?)--([^/\\]+)[/\\]snapshots[/\\]")  # a folder of the hub's cache
FEW_STEPS = ("LCMScheduler", "TCDScheduler", "FlowMatchLCMScheduler")
DISTILLED = re.compile(r"turbo|lightning|hyper|lcm|schnell|dmd|flash|distil|\bfew.?step", re.IGNORECASE)


def of(family: Family, name: str) -> Defaults:
    """Find what a loaded model wants.

    Args:
        family: around the pipeline.
        name: what it was loaded by: a short name, a hub id or a path.
    """
    known = next((_KNOWN[known] for known in identities(name, family.pipe) if known in _KNOWN), None)
    told = known if known is not None else _told(family.pipe)
    steps, guidance = told or (None, None)
    return Defaults(
        family.steps if steps is None else steps,
        family.guidance if guidance is None else guidance,
        assumed=told is None and not family.documented_defaults,
    )


def note(name: str, found: Defaults) -> str:
    """Say in one line what was assumed."""
    text = f"nothing in {Path(name).name} says how it wants to be drawn: {found.steps} steps and guidance "
    text += f"{found.guidance:g}, as its family does; --steps and --guidance say otherwise"
    if DISTILLED.search(name):
        text += ". Its name says it is distilled: such models want 1 to 8 steps, guidance 0 to 2, and their --scheduler"
    return text


def identities(name: str, pipe: Any = None) -> Iterator[str]:
    """The hub ids, in lower case, that a model may be known by; the surest first."""
    if name in catalog.SHIPPED:
        yield catalog.EMBEDDED_ID
    elif name in catalog.ALIASES:
        yield catalog.ALIASES[name].repo.lower()
    yield name.lower()
    origin = getattr(getattr(pipe, "config", None), "_name_or_path", None)
    for place in dict.fromkeys(str(p) for p in (name, origin) if p):
        yield from _of_path(located(place))


def _of_path(path: Path) -> Iterator[str]:
    """By where a folder lies, by what its own index says that it came from, and by its name."""
    if match := _CACHED.search(f"{path}/"):
        yield f"{match[1]}/{match[2]}".lower()
    try:
        index = json.loads((path / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        index = {}
    origin = index.get("_name_or_path") if isinstance(index, dict) else None
    if isinstance(origin, str) and origin:
        yield origin.lower()
        if Path(origin) == catalog.EMBEDDED_FOLDER:
            yield catalog.EMBEDDED_ID
        if match := _CACHED.search(f"{origin}/"):
            yield f"{match[1]}/{match[2]}".lower()
    stem = path.stem if path.suffix == ".safetensors" else path.name
    yield from (known for known in _KNOWN if "/" in known and known.split("/")[1] == stem.lower())


def _told(pipe: Any) -> tuple[int | None, float | None] | None:
    """Steps and guidance that a pipeline's configuration tells, None for those of the family; None where it does not.

    Consistency models come with a scheduler of their own. Z-Image's distilled model has a shift of 3, the other
    of 6. Of Stable Diffusion 3.5 the medium model alone has layers of dual attention.
    """
    kind, config = type(pipe).__name__, pipe.scheduler.config
    if type(pipe.scheduler).__name__ in FEW_STEPS:
        unet = getattr(pipe, "unet", None)
        guided = unet is not None and unet.config.get("time_cond_proj_dim") is not None  # guidance is a part of it
        return 4, 8.0 if guided else 1.0
    if kind.startswith("ZImage"):
        known = {3.0: "Tongyi-MAI/Z-Image-Turbo", 6.0: "Tongyi-MAI/Z-Image"}.get(float(config.get("shift") or 0))
        return KNOWN[known] if known else None
    if kind.startswith("StableDiffusion3") and pipe.transformer.config.get("dual_attention_layers"):
        return KNOWN[catalog.ALIASES["sd35"].repo]
    return None

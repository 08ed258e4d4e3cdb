"""LoRAs: loaded by diffusers, and compared with their file afterwards, module by module.

A file may give every module an alpha of its own, which over the module's rank is the scale of its weights; resized
files do. Diffusers keeps one alpha for all and a list of those that differ, in which it then looks for attention
layers under other names than it has put there, so they get another module's. What it reads is corrected here; what
it cannot read is refused, since it leaves that out without an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from safegen.errors import ModelError

WRONG = "It was made for another model, or is no LoRA."
# What stands in the names of weights of other kinds than LoRA, and what their trainer calls the kind.
LYCORIS = {
    ".hada_": "LoHa",
    ".lokr_": "LoKr",
    ".oft_": "OFT",
    ".on_input": "IA3",
    ".a1.weight": "GLoRA",
    ".lora_mid": "LoCon with a core of its own",
}
# Layers of attention under the names that old layouts have for them.
FORMER = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}
LOADABLE = ("LoKr",)  # by some pipelines: these are tried


def check(path: Path, keys: Iterable[str]) -> None:
    """Check a file by the names of its weights, before a model is loaded.

    Raises:
        ModelError: it holds what every pipeline leaves out or cannot load.
    """
    keys = list(keys)
    if any(key.endswith("dora_scale") for key in keys):
        raise ModelError(
            f"{path.name} is a DoRA: diffusers leaves its dora_scale out, and would draw something else",
            "Take a LoRA that was trained without weight decomposition (DoRA).",
        )
    if (kind := _lycoris(keys)) and kind not in LOADABLE:
        raise _foreign(path, kind)


def load(pipe: Any, path: Path, name: str) -> None:
    """**Changes `pipe`**: the weights of a file under a name, at the scales that the file says.

    Raises:
        ModelError: the pipeline takes none, or the file is of another model or kind, has weights that fit nothing,
            or a scale that cannot be kept.
    """
    from safegen.families.intercept import replaced

    if not hasattr(pipe, "load_lora_weights"):
        raise ModelError(f"a {type(pipe).__name__} takes no LoRA", "Leave out --lora.")
    read: list[Any] = []
    inner = pipe.lora_state_dict

    def recorded(*args: Any, **named: Any) -> Any:
        result = inner(*args, **named)
        read[:] = result if isinstance(result, tuple) else [result]
        read[0] = dict(read[0])
        return result

    try:
        with replaced(pipe, "lora_state_dict", recorded):
            pipe.load_lora_weights(str(path), adapter_name=name, use_safetensors=True, local_files_only=True)
    except Exception as error:  # diffusers and peft raise a dozen kinds
        if kind := _lycoris(_keys(path)):
            raise _foreign(path, kind) from error
        text = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"cannot load the LoRA {path.name}: {text[:300]}", WRONG) from error
    weights, *more = read
    missing = len(weights) - sum(len(found) for found in _loaded(pipe, name).values())
    if missing > 0:
        if kind := _lycoris(_keys(path)):
            raise _foreign(path, kind)
        raise ModelError(
            f"{missing} of {len(weights)} weights of {path.name} fit nothing in this {type(pipe).__name__}", WRONG
        )
    alphas, config = (more[0] if len(more) > 1 else None), (more[-1] if more else None)
    if not config:  # or else the file carries peft's own configuration, and peft obeys it
        _scale(pipe, path, name, dict(_alphas(weights, alphas or {}, path)))


def _lycoris(keys: Iterable[str]) -> str | None:
    keys = list(keys)
    return next((kind for mark, kind in LYCORIS.items() if any(mark in key for key in keys)), None)


def _foreign(path: Path, kind: str) -> ModelError:
    return ModelError(f"{path.name} is a {kind} of LyCORIS, which diffusers cannot load", "Take a LoRA of it.")


def _keys(path: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return list(file.keys())


def _parts(pipe: Any) -> dict[str, Any]:
    import torch

    return {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}


def _loaded(pipe: Any, name: str) -> dict[str, list[str]]:
    """By part of the pipeline, the weights of an adapter that have found their place."""
    return {
        part: [key for key, _ in module.named_parameters() if f".{name}." in f"{key}."]
        for part, module in _parts(pipe).items()
    }


def _alphas(weights: Mapping[str, Any], alphas: Mapping[str, Any], path: Path) -> Iterator[tuple[str, float]]:
    """The alphas of a file by the names that their modules have in the pipeline; most files have none.

    Args:
        weights: in any of the layouts that diffusers makes of files.
        alphas: as diffusers names them: like the module, or like its first weight where that has an old name.
        path: named in errors.

    Raises:
        ModelError: an alpha that is no number, or belongs to no weight.
    """
    left = dict(alphas)
    for key in weights:
        own = next((n for mark in (".lora.", ".lora_A.") if (n := f"{key.split(mark)[0]}.alpha") in left), None)
        if own is None:
            continue
        alpha = float(left.pop(own))
        if not math.isfinite(alpha):
            raise ModelError(f"the alpha of {own.removesuffix('.alpha')} in {path.name} is {alpha}", WRONG)
        yield _module(key), alpha
    if left:
        raise ModelError(f"{path.name} has an alpha and no weights for {min(left).removesuffix('.alpha')}", WRONG)


def _module(key: str) -> str:
    """`unet.mid_block.attn.to_k` of unet.mid_block.attn.processor.to_k_lora.down.weight, and of newer layouts."""
    return re.split(r"[._]lora[._]", key.replace(".processor.", "."), maxsplit=1)[0]


def _names(part: str, module: str) -> list[str]:
    """Give the names that files have for a module: as it is called here, or as layouts older than it do."""
    path, dot, leaf = module.removesuffix(".0").rpartition(".")
    some = (module, f"{path}{dot}{FORMER.get(leaf, leaf)}")
    return [f"{part}.{within}{name}" for name in some for within in ("", "text_model.")]


def _scale(pipe: Any, path: Path, name: str, alphas: Mapping[str, float]) -> None:
    """**Changes `pipe`**: every module of an adapter scaled as its file says; as it is where that says nothing.

    Raises:
        ModelError: the first scale that cannot be kept.
    """
    left = dict(alphas)
    for part, module in _parts(pipe).items():
        for own, layer in module.named_modules():
            if name not in getattr(layer, "lora_alpha", {}):
                continue
            alpha = next((left.pop(other) for other in _names(part, own) if other in left), layer.r[name])
            layer.lora_alpha[name] = alpha
            layer.set_scale(name, 1.0)
            if not math.isclose(layer.scaling[name], alpha / layer.r[name], abs_tol=1e-9):
                raise ModelError(f"{part}.{own} cannot be scaled as {path.name} says", WRONG)
    if left:
        raise ModelError(f"the alpha of {min(left)} in {path.name} fits no module", WRONG)

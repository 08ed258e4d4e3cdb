"""LoRAs: loaded by diffusers, then compared with their file, module by module.

A file may give every module its own alpha, as resized files do; the alpha over the module's rank is the scale of its
weights. Diffusers keeps one alpha for all, and a list of those that differ. It looks for attention layers in that
list under other names than it has put there, so they get another module's alpha. Here the alphas are corrected. Files
that diffusers cannot read completely are refused, because it leaves out the rest without an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from safegen.errors import ModelError

WRONG = "It was made for another model, or is no LoRA."
# Parts of weights' names that show another kind than LoRA, and the trainer's name for that kind.
LYCORIS = {
    ".hada_": "LoHa",
    ".lokr_": "LoKr",
    ".oft_": "OFT",
    ".on_input": "IA3",
    ".a1.weight": "GLoRA",
    ".lora_mid": "LoCon with a core of its own",
}
# Names of attention layers, and the names that old layouts have for them.
FORMER = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}
LOADABLE = ("LoKr",)  # some pipelines can load these, so they are tried


def check(path: Path, keys: Iterable[str]) -> None:
    """Check a file by the names of its weights, before a model is loaded.

    Raises:
        ModelError: it holds weights that every pipeline leaves out or cannot load.
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
    """Load the weights of a file under a name, at the scales that the file says; **changes `pipe`**.

    Raises:
        ModelError: the pipeline takes no LoRA, or the file is of another model or kind, or has weights that fit nothing
            or a scale that cannot be kept.
    """
    from safegen.families.intercept import replace_method

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
        with replace_method(pipe, "lora_state_dict", recorded):
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
    if not config:  # otherwise the file carries peft's own configuration, which peft obeys
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
    """Find the weights of an adapter that were loaded, by part of the pipeline."""
    return {
        part: [key for key, _ in module.named_parameters() if f".{name}." in f"{key}."]
        for part, module in _parts(pipe).items()
    }


def _alphas(weights: Mapping[str, Any], alphas: Mapping[str, Any], path: Path) -> Iterator[tuple[str, float]]:
    """Give a file's alphas by the names that their modules have in the pipeline; most files have none.

    Args:
        weights: the file's weights, in any of the layouts that diffusers turns files into.
        alphas: the alphas as diffusers names them: like the module, or like its first weight if that has an old name.
        path: the file that errors name.

    Raises:
        ModelError: an alpha is not finite, or belongs to no weight.
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
    """Find the module in a weight's name, such as `attn.to_k` in attn.processor.to_k_lora.down.weight."""
    return re.split(r"[._]lora[._]", key.replace(".processor.", "."), maxsplit=1)[0]


def _names(part: str, module: str) -> list[str]:
    """Give the names that files may have for a module: its present name, and those of older layouts."""
    path, dot, leaf = module.removesuffix(".0").rpartition(".")
    some = (module, f"{path}{dot}{FORMER.get(leaf, leaf)}")
    return [f"{part}.{within}{name}" for name in some for within in ("", "text_model.")]


def _scale(pipe: Any, path: Path, name: str, alphas: Mapping[str, float]) -> None:
    """Scale every module of an adapter as its file says, or by 1 where it says nothing; **changes `pipe`**.

    Raises:
        ModelError: for the first scale that cannot be kept.
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

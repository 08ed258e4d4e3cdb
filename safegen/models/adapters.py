"""Additions to a model: textual inversions and LoRAs, from safetensors files only.

An inversion is a new token with vectors of its own; the encoder stays what it was, and its directions
score the token like any other. A LoRA on the text encoder makes it another encoder, with other
directions (see `families.outputs`). A LoRA on the denoiser alone does not concern the guard.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safegen.errors import ModelError, PromptError, UsageError
from safegen.families import textual_inversion
from safegen.files import as_path, readable
from safegen.models import checkpoint, lora
from safegen.prompts.dialects import lora_name
from safegen.prompts.prompt import clean

if TYPE_CHECKING:
    from torch import Tensor

# Additions that ship with safegen, for the embedded model, by the names that stand for their paths.
SHIPPED: Mapping[str, Path] = {
    name: Path(__file__).parents[1] / "builtin" / "weights" / "additions" / f"{name}.safetensors"
    for name in ("toy", "night")
}
# Keys that name the encoder or nothing, not the token; the token is then called like the file.
UNNAMED = ("*", "<*>", "emb_params", "clip_l", "clip_g", "t5xxl", "text_encoders_0", "text_encoders_1")


@dataclass(frozen=True)
class Addition:
    """One file to add, and its scale."""

    kind: str  # embedding or lora
    path: Path
    scale: float = 1.0

    @classmethod
    def lora(cls, text: str) -> Addition:
        """Read FILE or FILE:SCALE; FILE may be a name of `SHIPPED`.

        Raises:
            UsageError: the scale is not a number.
        """
        file, scale = split_scale(text)
        try:
            value = 1.0 if scale is None else float(scale)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UsageError(f"--lora {text!r}: {scale!r} is not a scale", "As in --lora style.safetensors:0.8.")
        return cls("lora", found(file), value)

    def as_json(self) -> dict[str, Any]:
        """Give what records say about it."""
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        return {"kind": self.kind, "file": readable(self.path.name), "sha256": digest, "scale": self.scale}


def split_scale(text: str) -> tuple[str, str | None]:
    """Split FILE:SCALE; the scale is None where there is none. The colon after a drive's letter begins no scale."""
    file, colon, scale = text.rpartition(":")
    return (file, scale) if colon and (Path(file).suffix or file in SHIPPED) else (text, None)


def found(file: str | Path) -> Path:
    """Find the path of a file, or of a shipped example by its name."""
    return SHIPPED.get(str(file)) or as_path(file)


def whole(text: str) -> str:
    """Make FILE or FILE:SCALE independent of the working folder: with its whole path, or an example's name as it is."""
    return text if split_scale(text)[0] in SHIPPED else str(as_path(text).absolute())


def list_additions(embeddings: Sequence[str | Path] = (), loras: Sequence[str | Path] = ()) -> tuple[Addition, ...]:
    """List the files to add, each checked before a model loads.

    Raises:
        ModelError: a file is missing, a pickle, not safetensors, or a LoRA of a kind that cannot be loaded; or peft,
            which loads LoRAs, is not installed.
        UsageError: a scale is not a number.
    """
    some = [Addition("embedding", found(path)) for path in embeddings]
    some += [Addition.lora(str(text)) for text in loras]
    for addition in some:
        _check(addition)
    if loras and importlib.util.find_spec("peft") is None:
        raise ModelError("a LoRA needs the library peft", "pip install 'safegen[lora]'")
    return tuple(some)


def add(pipe: Any, some: Sequence[Addition]) -> None:
    """Add tokens for the embeddings and layers for the LoRAs; **changes `pipe`**.

    Raises:
        ModelError: a file is of another model, has unknown keys or the wrong width, or has numbers that are not
            finite; or the pipeline takes no such files.
    """
    scales: dict[str, float] = {}
    for addition in some:
        if addition.kind == "embedding":
            _embed(pipe, addition.path)
        else:
            name = f"lora_{len(scales)}"
            lora.load(pipe, addition.path, name)
            scales[name] = addition.scale
    if scales:
        pipe.set_adapters(list(scales), list(scales.values()))


def _check(addition: Addition) -> None:
    from safetensors import SafetensorError, safe_open

    path = addition.path
    if path.suffix in checkpoint.PICKLED:
        raise ModelError(f"{path.name} is a pickle, which can run code", "Take the .safetensors file of it.")
    if path.suffix != ".safetensors":
        raise ModelError(
            f"{path.name} is not a .safetensors file",
            f"Embeddings and LoRAs come as such files alone, or as {' and '.join(SHIPPED)}, which ship.",
        )
    try:
        with safe_open(path, framework="pt") as file:
            keys = list(file.keys())
    except FileNotFoundError as error:
        raise ModelError(f"there is no file {path}", "Check the path.") from error
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path.name} is not a safetensors file: {error}", "Download it again.") from error
    if not keys:
        raise ModelError(f"{path.name} is empty", "Download it again.")
    if addition.kind == "lora":
        lora.check(path, keys)


def _embed(pipe: Any, path: Path) -> None:
    from safetensors.torch import load_file

    if not hasattr(pipe, "load_textual_inversion"):
        raise ModelError(f"a {type(pipe).__name__} takes no textual inversions", "Leave out --embedding.")
    vectors = load_file(path)
    unnamed = all(key in UNNAMED for key in vectors)
    if len(vectors) > 1 and not unnamed:
        some = ", ".join(sorted(vectors)[:3])
        raise ModelError(f"{path.name} is no textual inversion (it holds {some})", "It holds one token's vectors.")
    token = path.stem if unnamed else next(iter(vectors))
    if not token.isprintable() or not token or any(c.isspace() for c in token):
        raise ModelError(f"{path.name}: {token!r} cannot be a token", "Rename it; a token has no spaces.")
    for name, tensor in vectors.items():
        tokenizer, encoder = _reader(pipe, tensor, f"{path.name}: {name}")
        others = [t.content for t in tokenizer.added_tokens_decoder.values() if not t.special]
        own, known = _read(tokenizer, token), {other: _read(tokenizer, other) for other in others if other != token}
        if inside := [other for other, read in known.items() if read in own or own in read]:
            raise ModelError(f"the names {token} and {inside[0]} lie inside one another", "Rename one of them.")
        try:
            pipe.load_textual_inversion({token: tensor}, token=token, tokenizer=tokenizer, text_encoder=encoder)
        except ValueError as error:
            raise ModelError(f"cannot add {path.name}: {error}", "Give it another name, or leave it out.") from error
        _check_readable(tokenizer, token, len(tensor) if tensor.ndim > 1 else 1, path)
    pipe.maybe_convert_prompt = (
        textual_inversion.spell_out
    )  # diffusers' own misses names that the tokenizer lower-cases


def _read(tokenizer: Any, name: str) -> str:
    """Give a name as the tokenizer reads it; most tokenizers lower-case it."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    return str(normalizer.normalize_str(name)) if normalizer else name


def _check_readable(tokenizer: Any, token: str, count: int, path: Path) -> None:
    """Check that a prompt with the name gives the encoder all vectors, in order."""
    names = [token, *(f"{token}_{number}" for number in range(1, count))]
    wanted = [tokenizer.convert_tokens_to_ids(name) for name in names]
    try:
        typed = clean(token).text
    except PromptError:
        typed = ""
    read = tokenizer(textual_inversion.spell_out(typed, tokenizer), add_special_tokens=False)["input_ids"]
    if [number for number in read if number >= min(wanted)] != wanted:
        raise ModelError(f"{path.name}: no prompt can name {token!r}", "Rename it, in plain letters and digits.")


def _reader(pipe: Any, vectors: Tensor, what: str) -> tuple[Any, Any]:
    """Find the tokenizer and the text encoder whose tokens are as wide as the vectors (N, D) or (D,)."""
    import torch

    if vectors.ndim not in (1, 2) or not vectors.numel() or not vectors.is_floating_point():
        raise ModelError(f"{what} has the shape {tuple(vectors.shape)}", "A textual inversion holds rows of numbers.")
    if not bool(torch.isfinite(vectors).all()):
        raise ModelError(f"{what} is not finite numbers", "Download it again.")
    widths = []
    for number in ("", "_2"):
        encoder = getattr(pipe, f"text_encoder{number}", None)
        if encoder is not None:
            widths.append(int(encoder.get_input_embeddings().weight.shape[-1]))
            if widths[-1] == vectors.shape[-1]:
                return getattr(pipe, f"tokenizer{number}"), encoder
    raise ModelError(
        f"{what} is {vectors.shape[-1]} wide, the encoders of this model read {' and '.join(map(str, widths))}",
        "Take the file that was made for this model.",
    )


def with_called_scales(loras: Sequence[str], called: Iterable[tuple[str, float]]) -> list[str]:
    """Give each LoRA without a scale the scale on which all prompts that call for it agree.

    Args:
        loras: FILE or FILE:SCALE each.
        called: names and scales from the marks of all prompts.
    """
    asked: dict[str, set[float]] = {}
    for name, scale in called:
        asked.setdefault(lora_name(name), set()).add(scale)
    found = []
    for text in loras:
        file, own = split_scale(text)
        wanted = asked.get(lora_name(file), set())
        found.append(f"{text}:{wanted.pop():g}" if own is None and len(wanted) == 1 else text)
    return found


def scales(loras: Sequence[str | Path]) -> dict[str, float]:
    """Give the scale at which every LoRA is loaded, by the name of its file."""
    some = [Addition.lora(str(text)) for text in loras]
    return {lora_name(addition.path.name): addition.scale for addition in some}

"""Checkpoints on disk, checked before they are loaded: their class, that they are whole, and that none is a pickle."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safegen.errors import ModelError

LIBRARIES = ("diffusers", "transformers")  # that parts come from
INDEX, MODULAR = "model_index.json", "modular_model_index.json"
AGAIN = "Download it again: safegen pull NAME, or copy the whole folder."

# Suffixes of files that may be pickles, which can run code.
PICKLED = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
# Diffusers' names for the kinds of one-file checkpoints, and the pipelines that read them.
CLASSES = {
    ("v1", "v2"): "StableDiffusionPipeline",
    ("xl_base", "xl_refiner"): "StableDiffusionXLPipeline",
    ("sd3", "sd35_large", "sd35_medium"): "StableDiffusion3Pipeline",
    ("flux-dev", "flux-schnell"): "FluxPipeline",
}

# Kinds that need a picture as well as the text. More of them look like kinds that do not; only the channels that the
# denoiser's first layer takes (INPUTS) tell them apart.
PICTURED = ("instruct-pix2pix", "inpainting", "inpainting_v2", "xl_inpaint", "upscale", "flux-fill", "flux-depth")
INPUTS = {"input_blocks.0.0.weight": 4, "x_embedder.proj.weight": 16, "img_in.weight": 64}

# Each of these is a tokenizer's vocabulary. Without one, the libraries load a tokenizer that knows no words.
VOCABULARIES = (
    ("tokenizer.json",),
    ("vocab.json", "merges.txt"),
    ("vocab.txt",),
    ("spiece.model",),
    ("tokenizer.model",),
    ("sentencepiece.bpe.model",),
)
# Vocabularies that need packages of their own, and these packages by their modules.
PIECES = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
READERS = {"sentencepiece": "sentencepiece", "google.protobuf": "protobuf"}
# Parts that a model may be saved without although its class asks for them: many leave out SD3's T5.
SPARED = {"StableDiffusion3Pipeline": ("text_encoder_3", "tokenizer_3")}
# Endings of the classes of parts that have no weights.
WEIGHTLESS = ("Tokenizer", "TokenizerFast", "Scheduler", "Processor", "ProcessorFast", "FeatureExtractor")
SHARD = re.compile(r"-\d+-of-\d+")


def pipeline_class(path: Path) -> str:
    """Find the pipeline's class for a one-file checkpoint, by the names and shapes of its weights alone.

    Raises:
        ModelError: the file is not safetensors or not whole, or its kind cannot be guarded or needs a picture.
    """
    found, shapes = _kind(path)
    has_clip = any(name.startswith("cond_stage_model.") for name in shapes)
    # Diffusers calls every unknown checkpoint v1, so v1 has to show its text encoder.
    kind = next((name for kinds, name in CLASSES.items() if found in kinds and (found != "v1" or has_clip)), None)
    odd = any(name.endswith(end) and shapes[name][1] != wide for name in shapes for end, wide in INPUTS.items())
    if found in PICTURED or (kind and odd):
        raise ModelError(f"{path.name} draws from a picture, not from text alone", "Take a text-to-image checkpoint.")
    if kind is None:
        raise ModelError(
            f"{path.name} is not a whole checkpoint of a kind that can be guarded",
            "Of Stable Diffusion, SDXL, SD3 and FLUX single files can be read; for others give the model's folder.",
        )
    return kind


def configuration(path: Path) -> str:
    """Name the model on the hub with whose configuration a one-file checkpoint is read."""
    from diffusers.loaders.single_file_utils import DIFFUSERS_DEFAULT_PIPELINE_PATHS

    return str(DIFFUSERS_DEFAULT_PIPELINE_PATHS[_kind(path)[0]]["pretrained_model_name_or_path"])


def _kind(path: Path) -> tuple[str, dict[str, list[int]]]:
    """Read diffusers' name for the kind of a one-file checkpoint, and the shapes of its weights."""
    import torch
    from diffusers.loaders.single_file_utils import infer_diffusers_model_type
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ModelError(f"{path.name} is not a safetensors file: {error}", "Download it again.") from error
    # Weights without numbers: a checkpoint has gigabytes of them, which are read only if it can be used.
    meta = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    return str(infer_diffusers_model_type(meta)), shapes


def index(folder: Path, what: str) -> dict[str, Any]:
    """Read the model_index.json of a folder: the pipeline's class, and the library and class of every part.

    A modular pipeline's own index is read as that of its classic form, of which it has all parts.

    Raises:
        ModelError: it is not JSON, or names no class, or two for one part.
    """
    name = MODULAR if is_modular(folder) else INDEX
    values = _json(folder / name, what)
    if not values.get("_class_name"):
        raise ModelError(f"{what}: {name} names no pipeline class", AGAIN)
    if name == INDEX:
        return values
    from safegen.families.modular import FORMS

    kind = values["_class_name"]
    triples = {part: value for part, value in values.items() if isinstance(value, list) and len(value) == 3}
    pairs = {part: _pair(part, value, what) for part, value in triples.items()}
    return {**values, **pairs, "_class_name": FORMS[kind].kind if kind in FORMS else kind}


def _pair(part: str, triple: list[Any], what: str) -> list[Any]:
    """Give the library and the class of a modular pipeline's part, which its index names twice.

    Of a part that the model was saved without, the class is named only where diffusers looks.

    Raises:
        ModelError: the second is another, which nobody would have checked and diffusers would import.
    """
    pair, told = triple[:2], triple[2]
    hint = told.get("type_hint") if isinstance(told, dict) else told
    library = hint[0] if isinstance(hint, list) and hint else None
    if hint and hint != pair and not (pair == [None, None] and library in LIBRARIES):
        raise ModelError(
            f"the index of {what} names {pair[1]} as its {part}, and {hint!r} as the class that is loaded",
            "Such an index is not diffusers' own; take another model.",
        )
    return pair


def is_modular(folder: Path) -> bool:
    """Tell whether a folder holds a modular pipeline, and no classic one."""
    return (folder / MODULAR).is_file() and not (folder / INDEX).is_file()


def parts(index: Mapping[str, Any]) -> dict[str, str | None]:
    """Give the class of each of a pipeline's parts, by name; None is a part that the model does without."""
    pairs = {name: value for name, value in index.items() if isinstance(value, list) and len(value) == 2}
    return {n: v[1] for n, v in pairs.items() if not n.startswith("_") and (v[1] is None or isinstance(v[1], str))}


def list_absent(index: Mapping[str, Any]) -> list[str]:
    """Name the parts that a model was saved without and can do without."""
    found = parts(index)
    return [name for name in SPARED.get(index["_class_name"], ()) if name in found and found[name] is None]


def check_whole(folder: Path, what: str, variant: str | None = None) -> None:
    """Check that everything that the model_index.json names is there to the last byte, and nothing is a pickle.

    Args:
        folder: a folder in diffusers' layout.
        what: the model's name in messages.
        variant: the variant of the weight files, such as fp16; parts without it are read from their plain files.

    Raises:
        ModelError: for the first thing that is wrong.
    """
    named = index(folder, what)
    found = parts(named)
    for name in _required(named["_class_name"]):
        if found.get(name) is None and name not in list_absent(named):
            raise ModelError(f"{what} has no {name}", "It cannot be loaded without; take the whole model.")
    weights: list[Path] = []
    for name, kind in sorted(found.items()):
        if kind is None:
            continue
        if not (folder / name).is_dir():
            raise _halved(what, f"{name}/ is missing")
        if kind.endswith(("Tokenizer", "TokenizerFast")) or name.startswith("tokenizer"):
            _check_tokenizer(folder / name, what)
        elif not kind.endswith(WEIGHTLESS):
            weights += _weights(folder / name, what, variant)
    if variant and not any(_variant(path.name) == variant for path in weights):
        raise ModelError(f"{what} has no weights of the variant {variant!r}", "Leave out --variant, or pull that one.")
    for path in weights:
        _check_weights(path, what)


def check_packages(folder: Path, what: str) -> None:
    """Check that the packages that read a model's tokenizers are installed.

    Raises:
        ModelError: one is not. The libraries' own message would ask for tiktoken, which does not help.
    """
    missing = [package for module, package in READERS.items() if not _importable(module)]
    for name in sorted(parts(index(folder, what))):
        some = {path.name for path in (folder / name).glob("*")} if name.startswith("tokenizer") else set()
        pieces = [piece for piece in PIECES if piece in some]
        if missing and pieces and not any(some.issuperset(names) for names in VOCABULARIES if names[0] not in PIECES):
            raise ModelError(
                f"{what} has the vocabulary of {name} as {pieces[0]} alone, which is read with {' and '.join(missing)}",
                f"pip install {' '.join(missing)}",
            )


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # raised for the parent package
        return False


def _required(kind: str) -> list[str]:
    """List the parts that a pipeline cannot be made without."""
    import diffusers

    pipeline = getattr(diffusers, kind, None)
    if pipeline is None:
        raise ModelError(f"diffusers {diffusers.__version__} has no {kind}", "pip install --upgrade diffusers")
    parameters = inspect.signature(pipeline.__init__).parameters.values()
    some = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    return [name for name in some if name != "self" and name not in pipeline._optional_components]


def _check_tokenizer(folder: Path, what: str) -> None:
    if not (folder / "tokenizer_config.json").is_file():
        raise _halved(what, f"{folder.name}/tokenizer_config.json is missing")
    if not any(all((folder / name).is_file() for name in names) for names in VOCABULARIES):
        raise _halved(what, f"{folder.name}/ has no vocabulary")


def _weights(folder: Path, what: str, variant: str | None) -> list[Path]:
    """Find the weight files of a part, those of the variant if it has them."""
    if not (folder / "config.json").is_file():
        raise _halved(what, f"{folder.name}/config.json is missing")
    files = sorted(folder.iterdir())
    tensors = [path for path in files if path.suffix == ".safetensors"]
    for wanted in dict.fromkeys((variant, None)):
        for path in files:
            if ".safetensors." in path.name and path.suffix == ".json" and _variant(path.name) == wanted:
                return _shards(path, what)
        if some := [p for p in tensors if _variant(p.name) == wanted and not SHARD.search(p.stem)]:
            return some
    if not tensors and (pickled := [path.name for path in files if path.suffix in PICKLED]):
        raise ModelError(
            f"{what} has pickled weights only, which can run code: {folder.name}/{pickled[0]}",
            "Take a revision or a model with .safetensors files.",
        )
    if others := [path.name for path in tensors if _variant(path.name) not in (variant, None)]:
        raise ModelError(
            f"{what} has other weights than those asked for: {folder.name}/{others[0]}",
            f"Say --variant {_variant(others[0])}.",
        )
    raise _halved(what, f"{folder.name}/ has no weights" + (" but parts without their index" if tensors else ""))


def _shards(path: Path, what: str) -> list[Path]:
    """List the files that an index of weights names."""
    shards = _json(path, what).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise _halved(what, f"{path.parent.name}/{path.name} names no weights")
    named = sorted(set(shards.values()))
    if missing := [name for name in named if not (path.parent / name).is_file()]:
        more = f", and {len(missing) - 1} more files" if missing[1:] else ""
        raise _halved(what, f"{path.parent.name}/{missing[0]} is missing{more}")
    return [path.parent / name for name in named]


def _check_weights(path: Path, what: str) -> None:
    """Check that a file of weights has the length that it says it has; its numbers are not read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise _halved(what, f"{path.parent.name}/{path.name} is not whole ({error})") from error


def _variant(name: str) -> str | None:
    """Find the variant in a file's name: `fp16` in model.fp16.safetensors and model.safetensors.index.fp16.json."""
    words = SHARD.sub("", name).split(".")[1:]
    return ".".join(word for word in words if word not in ("safetensors", "index", "json")) or None


def _json(path: Path, what: str) -> dict[str, Any]:
    name = path.name if path.name in (INDEX, MODULAR) else f"{path.parent.name}/{path.name}"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _halved(what, f"{name} is not JSON") from error
    if not isinstance(values, dict):
        raise _halved(what, f"{name} is not a JSON object")
    return values


def _halved(what: str, why: str) -> ModelError:
    return ModelError(f"{what} is half-downloaded: {why}", AGAIN)

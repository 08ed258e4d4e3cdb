"""Options that several commands share, and the values that they form together.

A command asks for `LoadOptions`, `GuardOptions` or `DrawOptions`; `expand_options` gives it a flag per field. To add
an option, add a field to one of them and a line here.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_args, get_type_hints

import typer

from safegen import safeguards
from safegen.cli.paths import path, text
from safegen.errors import UsageError
from safegen.models import quantizing, speed
from safegen.models.options import MAX_SEED, NO_SEED, DrawOptions, LoadOptions
from safegen.pictures import metadata
from safegen.safeguards.options import MAX_STRENGTH, GuardOptions, check_strength

Command = TypeVar("Command", bound=Callable[..., None])
LOAD, GUARD, DRAW = LoadOptions(), GuardOptions(), DrawOptions()
# The options of loading that say how an encoder is loaded, for commands that draw nothing.
ENCODING = (
    *("loras", "device", "dtype", "revision", "variant", "offload", "quantize", "quantize_encoders", "offline"),
)


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Read WIDTHxHEIGHT, or one number, as width and height in pixels.

    Raises:
        UsageError: it is neither, or no picture can have this size.
    """
    from safegen.families import sizes

    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text.strip().lower())
    if not match:
        raise UsageError(f"size {text!r} is not WIDTHxHEIGHT", "As in --size 512x768, or --size 512.")
    width, height = int(match[1]), int(match[2] or match[1])
    sizes.check(width, height)
    return width, height


def _no_seed(seed: int | None) -> int | None:
    """Take -1 for no seed, as other tools do."""
    return None if seed == NO_SEED else seed


Prompts = Annotated[list[str] | None, typer.Argument(help="Prompts; - reads stdin.")]
Images = Annotated[int, typer.Option("--images", "-n", min=1, max=1000, help="Pictures a prompt, consecutive seeds.")]
Directions = Annotated[
    Path | None,
    typer.Option("--directions", envvar="SAFEGEN_DIRECTIONS", parser=path, help="Folder of your own concepts."),
]
Out = Annotated[
    Path,
    typer.Option("--out", "-o", envvar="SAFEGEN_OUT", parser=path, help="Folder for pictures and metadata.jsonl."),
]
Record = Annotated[
    str,
    typer.Option(
        "--record",
        callback=metadata.parse_kept,
        envvar="SAFEGEN_RECORD",
        help="What the PNG says: full, with prompt and findings; mark, how it was generated; none, that AI made it.",
    ),
]
OUT = Path("safegen-out")
SEED = "First seed. If unset or -1: random (generate), or derived from the row's id (batch)."
STRENGTH = f"0 repairs nothing, 1 is the default, up to {MAX_STRENGTH}; localise takes more than 1 as 1."
UNREAD = "Text that the guard cannot read, on a model without directions: refuse or draw."
EMBEDDING = "A textual inversion (.safetensors, or toy, an example); use its name in prompts."
LORA = "FILE[:SCALE], a .safetensors file, or night, an example; needs safegen[lora]."
SCHEDULER = "euler, euler a, dpm++ 2m karras, unipc, lcm, ...; the model's own by default."
SAFE = "A concept that a latent direction keeps out of every picture, whatever its text says; repeatable."
ENHANCE = "--no-enhance: words such as 'without weapons' switch on no latent direction."
FAIR = "gender, skin, or gender=woman:0.5,man:0.5: drawn per picture where the prompt leaves it open; repeatable."
IMAGE = "A picture to draw from (PNG, JPEG, WebP); no guard looks at it, but --check image does."
MASK = "A picture of the same size: white is drawn anew, black stays; or transparent is, and the rest stays."
ANEW = "How much of the picture is drawn anew, more than 0 and up to 1; 0.6 by default, 1 under a mask."
ENCODERS = "Quantise text encoders, too; directions then have to be learned for them."
DENOISER = "A GGUF file with the denoiser, in the place of the model's own."
OFFLOAD = "none, model or sequential: what is on the GPU only while it runs; slower, smaller."
# For every field, its type on the command line and its option.
FLAGS: Mapping[str, tuple[Any, Any]] = {
    "model": (
        str,
        typer.Option("--model", "-m", envvar="SAFEGEN_MODEL", parser=text, help="Alias, hub id or folder of a model."),
    ),
    "device": (str, typer.Option(envvar="SAFEGEN_DEVICE", help="auto, cpu, cuda, mps.")),
    "dtype": (str, typer.Option(envvar="SAFEGEN_DTYPE", help="auto, float32 (auto on the CPU), float16 or bfloat16.")),
    "revision": (str | None, typer.Option(help="Branch, tag or commit of the model on the hub.")),
    "variant": (str | None, typer.Option(help="Of the model's weight files, such as fp16.")),
    "offload": (str, typer.Option(help=OFFLOAD)),
    "slicing": (bool, typer.Option("--vae-slicing", help="Decode one picture at a time.")),
    "tiling": (bool, typer.Option("--vae-tiling", help="Decode pictures tile by tile.")),
    "quantize": (
        str | None,
        typer.Option(help=f"Load the denoiser quantised: {', '.join(quantizing.BACKENDS)}."),
    ),
    "quantize_encoders": (bool, typer.Option("--quantize-encoders", help=ENCODERS)),
    "denoiser": (str | None, typer.Option("--denoiser", parser=text, help=DENOISER)),
    "compile": (bool, typer.Option("--compile", help="Compile the denoiser; the first picture takes minutes.")),
    "cache": (str | None, typer.Option("--cache", help=f"Reuse from step to step: {', '.join(speed.CACHES)}.")),
    "attention": (str | None, typer.Option("--attention", help=f"One of: {', '.join(speed.ATTENTIONS)}.")),
    "scheduler": (str | None, typer.Option("--scheduler", help=SCHEDULER)),
    "offline": (bool, typer.Option("--offline", help="Never ask the network.")),
    "embeddings": (list[str] | None, typer.Option("--embedding", parser=text, help=EMBEDDING)),
    "loras": (list[str] | None, typer.Option("--lora", parser=text, help=LORA)),
    "concepts": (list[str] | None, typer.Option("--concept", "-c", help="Active concepts; all by default.")),
    "strength": (float, typer.Option(callback=check_strength, envvar="SAFEGEN_STRENGTH", help=STRENGTH)),
    "safeguard": (
        str,
        typer.Option(envvar="SAFEGEN_SAFEGUARD", help=f"The method: {', '.join(safeguards.REGISTRY)}."),
    ),
    "folder": get_args(Directions),
    "unread": (str, typer.Option(envvar="SAFEGEN_UNREAD", help=UNREAD)),
    "safe": (list[str] | None, typer.Option("--safe", help=SAFE)),
    "enhance": (bool, typer.Option("--enhance/--no-enhance", help=ENHANCE)),
    "guarded": (
        bool,
        typer.Option("--guard/--no-guard", help="--no-guard draws without the guard; a banner and the records say so."),
    ),
    "seed": (int | None, typer.Option(min=NO_SEED, max=MAX_SEED, callback=_no_seed, help=SEED)),
    "steps": (int | None, typer.Option(min=1, max=1000, help="Denoising steps.")),
    "guidance": (float | None, typer.Option(min=0, max=50, help="Classifier-free guidance.")),
    "size": (str | None, typer.Option(help="WIDTHxHEIGHT or one number, in pixels.")),
    "negative": (str, typer.Option("--negative", help="What to keep out; never sanitized.")),
    "fair": (list[str] | None, typer.Option("--fair", parser=text, help=FAIR)),
    "image": (str | None, typer.Option("--image", parser=text, help=IMAGE)),
    "mask": (str | None, typer.Option("--mask", parser=text, help=MASK)),
    "image_strength": (float | None, typer.Option("--image-strength", min=0, max=1, help=ANEW)),
}
# Parameters with other names than their fields.
NAMES = {"concepts": "concept", "guarded": "guard", "folder": "directions", "embeddings": "embedding", "loras": "lora"}


KINDS: tuple[Any, ...] = (LoadOptions, GuardOptions, DrawOptions)


def expand_options(**only: Sequence[str]) -> Callable[[Command], Command]:
    """Give a command a flag for every field of the values that it asks for.

    Args:
        only: by a value's parameter name, the fields that have a flag; the other fields keep their defaults.
    """

    def expand(command: Command) -> Command:
        hints = get_type_hints(command, include_extras=True)
        asked = {name: _fields(kind, only.get(name)) for name, kind in hints.items() if kind in KINDS}
        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(command).parameters.values():
            flags = map(_flag, asked.get(parameter.name, ()))
            own = [] if parameter.name in asked else [parameter.replace(annotation=hints[parameter.name])]
            parameters += [*own, *flags]

        @functools.wraps(command)
        def run(**given: Any) -> None:
            values = {name: hints[name](**_values(chosen, given)) for name, chosen in asked.items()}
            command(**values, **given)

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return cast("Command", run)

    return expand


def _fields(kind: Any, only: Sequence[str] | None) -> list[Any]:
    return [field for field in fields(kind) if only is None or field.name in only]


def _flag(field: Any) -> inspect.Parameter:
    """Make the parameter of a field; a field with several values starts as None, as Typer wants it."""
    annotation, option = FLAGS[field.name]
    return inspect.Parameter(
        NAMES.get(field.name, field.name),
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=None if isinstance(field.default, tuple) else field.default,
        annotation=Annotated[annotation, option],
    )


def _values(chosen: Sequence[Any], given: dict[str, Any]) -> dict[str, Any]:
    """Take the fields of one value from the given arguments."""
    values = {field.name: given.pop(NAMES.get(field.name, field.name)) for field in chosen}
    several = {field.name for field in chosen if isinstance(field.default, tuple)}
    if "size" in values:
        values["size"] = parse_size(values["size"])
    return {name: tuple(value or ()) if name in several else value for name, value in values.items()}

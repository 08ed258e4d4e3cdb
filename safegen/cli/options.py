"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from safegen import records, safeguards
from safegen.files import home, located
from safegen.generator import MAX_SEED, NO_SEED
from safegen.guard import MAX_STRENGTH, checked


def path(text: str) -> Path:
    """Take a path of the command line, of the environment or of the settings."""
    return located(text)


def text(text: str) -> str:
    """Take what may be a path: a model, a LoRA with its scale, a URL."""
    return home(text)


def _drawn(seed: int | None) -> int | None:
    """Take -1 for no seed, as other tools do."""
    return None if seed == NO_SEED else seed


Prompts = Annotated[Optional[list[str]], typer.Argument(help="Prompts; - reads stdin.")]  # noqa: UP045
Images = Annotated[int, typer.Option("--images", "-n", min=1, max=1000, help="Pictures a prompt, consecutive seeds.")]
Seed = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        min=NO_SEED,
        max=MAX_SEED,
        callback=_drawn,
        help="First seed. Unset, or -1: of generate random and recorded, of batch from each row's id.",
    ),
]
Steps = Annotated[Optional[int], typer.Option(min=1, max=1000, help="Denoising steps.")]  # noqa: UP045
Guidance = Annotated[Optional[float], typer.Option(min=0, max=50, help="Classifier-free guidance.")]  # noqa: UP045
Size = Annotated[Optional[str], typer.Option(help="WIDTHxHEIGHT or one number, in pixels.")]  # noqa: UP045
Negative = Annotated[str, typer.Option("--negative", help="What to keep out; never sanitized.")]
Concepts = Annotated[Optional[list[str]], typer.Option("--concept", "-c", help="Active concepts; all by default.")]  # noqa: UP045
Safeguard = Annotated[
    str, typer.Option(envvar="SAFEGEN_SAFEGUARD", help=f"The method: {', '.join(safeguards.REGISTRY)}.")
]
Strength = Annotated[
    float,
    typer.Option(
        callback=checked,
        envvar="SAFEGEN_STRENGTH",
        help=f"0 is off, 1 the default, up to {MAX_STRENGTH}; localise, which rewrites words, has no more than 1.",
    ),
]
Guarded = Annotated[bool, typer.Option("--guard/--no-guard", help="Without the guard a banner and the records say so.")]
Record = Annotated[
    str,
    typer.Option(
        "--record",
        callback=records.checked,
        envvar="SAFEGEN_RECORD",
        help="What the PNG says: full, with prompt and findings; mark, how it was generated; none, that AI made it.",
    ),
]
Unread = Annotated[
    str,
    typer.Option(
        envvar="SAFEGEN_UNREAD", help="Text that the guard cannot read, on a model without directions: refuse or draw."
    ),
]
Device = Annotated[str, typer.Option(envvar="SAFEGEN_DEVICE", help="auto, cpu, cuda, mps.")]
Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", envvar="SAFEGEN_MODEL", parser=text, help="Alias, hub id or local folder of a model."
    ),
]
Directions = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--directions", envvar="SAFEGEN_DIRECTIONS", parser=path, help="Folder of your own concepts."),
]
Dtype = Annotated[
    str, typer.Option(envvar="SAFEGEN_DTYPE", help="auto, float32, float16 or bfloat16; auto is float32 on the CPU.")
]
Revision = Annotated[Optional[str], typer.Option(help="Branch, tag or commit of the model on the hub.")]  # noqa: UP045
Variant = Annotated[Optional[str], typer.Option(help="Of the model's weight files, such as fp16.")]  # noqa: UP045
Offload = Annotated[
    str, typer.Option(help="none, model or sequential: what is on the GPU only while it runs; slower, smaller.")
]
Slicing = Annotated[bool, typer.Option("--vae-slicing", help="Decode one picture at a time.")]
Tiling = Annotated[bool, typer.Option("--vae-tiling", help="Decode pictures tile by tile.")]
Quantize = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Load weights quantised: bitsandbytes_4bit or bitsandbytes_8bit."),
]
Scheduler = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--scheduler", help="euler, euler a, dpm++ 2m karras, unipc, lcm, ...; the model's own by default."),
]
Embeddings = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--embedding",
        parser=text,
        help="A textual inversion (.safetensors, or toy, an example); its name is a word of prompts then.",
    ),
]
Loras = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--lora", parser=text, help="FILE[:SCALE], a .safetensors file, or night, an example; needs safegen[lora]."
    ),
]
Offline = Annotated[bool, typer.Option("--offline", help="Never ask the network.")]

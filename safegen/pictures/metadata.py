"""The metadata inside a PNG, from its whole record down to the mark that a machine made it.

Reading needs no torch: `safegen show` works on any machine.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from safegen.errors import UsageError
from safegen.files import as_path, write_atomically
from safegen.pictures.inputs import rename_inputs

if TYPE_CHECKING:
    from PIL import Image

SCHEMA, MARK = "safegen.image/1", "safegen.mark/1"
# What a picture's metadata say: "full" all; "mark" how it was generated, without the prompt; "none" only that a
# machine made it.
Kept = Literal["full", "mark", "none"]
DEFAULT: Kept = "mark"
# IPTC's terms for pictures made by a trained model, and made by one from another picture, as asked for by the EU AI
# Act's article 50(2).
MADE, COMPOSED = "trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"
XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/{}"/>'
    '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


def parse_kept(value: str) -> Kept:
    """Check that a value is one of the kinds of record.

    Raises:
        UsageError: it is not.
    """
    if value not in get_args(Kept):
        raise UsageError(f"--record {value!r} is not known", f"One of: {', '.join(get_args(Kept))}.")
    return cast("Kept", value)


def encode_picture(picture: Image.Image, record: Mapping[str, Any], kept: Kept = DEFAULT) -> bytes:
    """Encode a PNG with as much of its record as is kept; the PNG always says that a machine made it.

    Args:
        picture: any.
        record: see `Record.as_json`; inside a picture its `text` is called `prompt`.
        kept: how much of the record is kept.
    """
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    chunks.add_itxt("XML:com.adobe.xmp", XMP.format(COMPOSED if record.get("input") else MADE))
    if parse_kept(kept) != "none":
        whole = {("prompt" if name == "text" else name): value for name, value in record.items()}
        schema, said = (SCHEMA, whole) if kept == "full" else (MARK, mark(record))
        chunks.add_itxt("parameters", parameters_line(said))
        chunks.add_itxt("safegen", json.dumps({"schema": schema, **said}, sort_keys=True))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()


def save_picture(picture: Image.Image, path: str | Path, record: Mapping[str, Any], kept: Kept = DEFAULT) -> None:
    """Write a PNG, see `encode_picture`.

    Raises:
        OutputError: the file cannot be written; nothing half-written stays.
    """
    write_atomically(as_path(path), encode_picture(picture, record, kept))


def read_picture(path: Path) -> dict[str, Any]:
    """Read the metadata of a picture: `parameters`, `record` (or None), `source_type`, `size` and `beside`.

    `beside` is the whole record from the manifest in the picture's folder (or None), which stays behind when the
    picture is moved.

    Raises:
        UsageError: it is not a picture that can be opened.
    """
    from PIL import Image, UnidentifiedImageError

    path = as_path(path)
    try:
        with Image.open(path) as picture:
            picture.load()
            text = {k: str(v) for k, v in getattr(picture, "text", {}).items()}
            size = picture.size
    except FileNotFoundError as error:
        raise UsageError(f"no picture at {path}", "Check the path.") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UsageError(f"{path.name} is not a picture that can be read", "Give the path of a PNG.") from error
    try:
        record = json.loads(text["safegen"]) if "safegen" in text else None
    except ValueError:
        record = None
    marked = re.search(rf"digitalsourcetype/({MADE}|{COMPOSED})\b", text.get("XML:com.adobe.xmp", ""))
    record = record if isinstance(record, dict) else None
    return {
        "size": list(size),
        "parameters": text.get("parameters", ""),
        "record": record,
        "beside": _beside(path, record or {}),
        "source_type": marked[1] if marked else "",
    }


def _beside(path: Path, inside: Mapping[str, Any]) -> dict[str, Any] | None:
    """Find the record of a picture in its folder's manifest; a record with another seed is another picture's."""
    try:
        lines = path.with_name("metadata.jsonl").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    for line in reversed([line for line in lines if path.name in line]):
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict) and found.get("file_name") == path.name:
                return found if inside.get("seed", found.get("seed")) == found.get("seed") else None
    return None


def parameters_line(record: Mapping[str, Any]) -> str:
    """Write the record as other tools show it: prompt, negative prompt, one line of settings.

    A mark gives only the line of settings.
    """
    negative = f"Negative prompt: {record['negative']}" if record.get("negative") else ""
    settings = {
        "Steps": record["steps"],
        "Sampler": record.get("scheduler"),
        "CFG scale": record.get("guidance"),
        "Seed": record["seed"],
        "Size": "{}x{}".format(*record["size"]),
        "Model": record["model"],
        "Guard": record["guard"]["safeguard"] or "off",
        "Denoising strength": record.get("input", {}).get("strength"),
        "Fair": drawn_classes(record),
        "Date": record.get("created"),
        "Version": f"safegen {record['versions']['safegen']}",
    }
    line = ", ".join(f"{name}: {_quoted(str(value))}" for name, value in settings.items() if value is not None)
    return "\n".join(filter(None, (record.get("prompt"), negative, line)))


def drawn_classes(record: Mapping[str, Any]) -> str | None:
    """Name the class that was drawn for every attribute that the prompt left open; None where there is none."""
    drawn = {
        name: facts["class"] for name, facts in record.get("latent", {}).get("fair", {}).items() if "class" in facts
    }
    return ", ".join(f"{name} {label}" for name, label in drawn.items()) or None


def _quoted(value: str) -> str:
    """Quote a value, as the web UI does, where it would end or divide the line."""
    return json.dumps(value, ensure_ascii=False) if any(sign in value for sign in ',:\n"') else value


def mark(record: Mapping[str, Any]) -> dict[str, Any]:
    """Reduce a record to how the picture was generated, without the prompt, what was found in it and names of files."""
    latent = {
        reason: {name: {k: v for k, v in facts.items() if k in ("class", "sha256")} for name, facts in found.items()}
        for reason, found in record.get("latent", {}).items()
    }
    begun = rename_inputs(record.get("input", {}), lambda _: "")
    return {
        **{name: record[name] for name in ("model", "seed", "steps", "size", "compare", "created") if name in record},
        **({"input": begun} if begun else {}),
        **({"latent": latent} if latent else {}),
        "guard": {name: record["guard"][name] for name in ("safeguard", "strength")},
        "versions": {"safegen": record["versions"]["safegen"]},
    }

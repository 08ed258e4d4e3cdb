"""What is kept of every picture: its record, and the metadata inside the PNG.

Reading needs no torch: `safegen show` works on any machine.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safegen.errors import UsageError
from safegen.files import write_atomically
from safegen.version import versions

if TYPE_CHECKING:
    from PIL import Image

    from safegen.generator import Generator, Settings
    from safegen.guard import Report
    from safegen.prompts import Prompt

SCHEMA = "safegen.image/1"
# IPTC's term for pictures made by a trained model, as asked for by the EU AI Act's article 50(2).
XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>'
    '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


def of(
    generator: Generator, prompt: Prompt, settings: Settings, seed: int, report: Report | None, seconds: float
) -> dict[str, Any]:
    """What is kept of one picture, ready for JSON."""
    steps, guidance, size = generator.resolve(settings)
    guard, prompt = generator.guard, generator.as_read(prompt)
    drawn, obeyed = (report.after.prompt, report.weights) if report else (prompt.text, prompt.weights)
    weights = [{"text": drawn[slice(*w.span)], "weight": w.value} for w in obeyed]
    return {
        "id": prompt.id,
        "prompt": prompt.own,
        "negative": settings.negative,
        "seed": seed,
        "steps": steps,
        "guidance": guidance,
        "size": list(size),
        "scheduler": type(generator.pipe.scheduler).__name__,
        "model": Path(generator.model).name if Path(generator.model).exists() else generator.model,
        "status": report.status if report else "ok",
        "guard": {
            "safeguard": guard.safeguard.name if guard else "",
            "strength": guard.strength if guard else 0.0,
            "directions": guard.hashes if guard else {},
            "reader": guard.bound.reader.sha256 if guard else "",
            "senses": list(report.before.senses) if report else [],
            **_done(prompt, report),
            **({"weights": weights} if weights else {}),
        },
        **({"additions": [dict(addition) for addition in generator.added]} if generator.added else {}),
        "seconds": round(seconds, 3),
        "versions": dict(versions()),
    }


def _done(prompt: Prompt, report: Report | None) -> dict[str, Any]:
    """What the guard found and did, if there was one."""
    if report is None:
        return {"drift": 0.0, "rewritten": "", "before": {}, "after": {}, "words": []}
    words = [word for word in report.before.words if word.flagged]
    return {
        "drift": report.drift,
        "rewritten": report.rewritten,
        "before": report.before.as_json(prompt.id)["concepts"],
        "after": report.after.as_json(prompt.id)["concepts"],
        "words": [{"text": w.text, "span": list(prompt.placed(w.span)), "concepts": list(w.flagged)} for w in words],
    }


def parameters_line(record: Mapping[str, Any]) -> str:
    """The record in the form that other tools show: prompt, negative prompt, one line of settings."""
    negative = f"\nNegative prompt: {record['negative']}" if record.get("negative") else ""
    settings = {
        "Steps": record["steps"],
        "Sampler": record["scheduler"],
        "CFG scale": record["guidance"],
        "Seed": record["seed"],
        "Size": "{}x{}".format(*record["size"]),
        "Model": record["model"],
        "Guard": record["guard"]["safeguard"] or "off",
        "Version": f"safegen {record['versions']['safegen']}",
    }
    return f"{record['prompt']}{negative}\n" + ", ".join(f"{k}: {v}" for k, v in settings.items())


def encode_picture(picture: Image.Image, record: Mapping[str, Any], *, metadata: bool = True) -> bytes:
    """A PNG with its record inside, unless `metadata` is off."""
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    if metadata:
        chunks.add_itxt("parameters", parameters_line(record))
        chunks.add_itxt("safegen", json.dumps({"schema": SCHEMA, **record}, sort_keys=True))
        chunks.add_itxt("XML:com.adobe.xmp", XMP)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()


def save_picture(picture: Image.Image, path: Path, record: Mapping[str, Any], *, metadata: bool = True) -> None:
    """Write a PNG, see `encode_picture`.

    Raises:
        OutputError: the file cannot be written; nothing half-written stays.
    """
    write_atomically(path, encode_picture(picture, record, metadata=metadata))


def read_picture(path: Path) -> dict[str, Any]:
    """The metadata of a picture: `parameters`, `record` (or None), `source_type`, `size`.

    Raises:
        UsageError: not a picture that can be opened.
    """
    from PIL import Image, UnidentifiedImageError

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
    marked = "trainedAlgorithmicMedia" in text.get("XML:com.adobe.xmp", "")
    return {
        "size": list(size),
        "parameters": text.get("parameters", ""),
        "record": record if isinstance(record, dict) else None,
        "source_type": "trainedAlgorithmicMedia" if marked else "",
    }

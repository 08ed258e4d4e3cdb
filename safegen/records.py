"""What is kept about every picture: its record, and the metadata inside the PNG.

Reading needs no torch: `safegen show` works on any machine.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import platform
import re
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from safegen.errors import UsageError
from safegen.files import as_path, write_atomically

if TYPE_CHECKING:
    from PIL import Image

    from safegen.prompts.prompt import Prompt
    from safegen.scoring.report import Report

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


def now() -> str:
    """Give the time in UTC, to the second; SOURCE_DATE_EPOCH fixes it where files have to be reproducible."""
    seconds = os.environ.get("SOURCE_DATE_EPOCH", "")
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(seconds) if seconds.isdecimal() else None))


@dataclass(frozen=True)
class Record:
    """The record of one picture; the same from `generate`, `batch` and `serve`.

    Attributes:
        id: the prompt's id.
        text: the user's own text, with its marks of weight.
        guard: the safeguard, what it found and what it did, ready for JSON.
        input: the picture that was drawn from and its mask, by name, hash and size, ready for JSON; empty where there
            was none.
        latent: the latent directions that were added, and why, ready for JSON; empty where there were none.
        additions: textual inversions and LoRAs, ready for JSON.
        created: the time, in UTC.
        seconds: how long the picture took.
        versions: the versions of safegen and the libraries.
        more: what a command or the server adds: where the picture is, its row, what a detector saw.
    """

    id: str
    text: str
    negative: str
    seed: int
    steps: int
    guidance: float
    size: tuple[int, int]
    scheduler: str
    model: str
    status: str
    guard: Mapping[str, Any]
    additions: tuple[Mapping[str, Any], ...]
    created: str
    seconds: float
    versions: Mapping[str, str]
    input: Mapping[str, Any] = field(default_factory=dict)
    latent: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    def adding(self, **more: Any) -> Record:
        """Add fields that only the caller knows."""
        return replace(self, more={**self.more, **more})

    def redacted(self, hide: Callable[[str], str]) -> Record:
        """Replace every text by what `hide` makes of it."""
        guard = {**self.guard, "rewritten": hide(self.guard["rewritten"]), "words": []}
        guard.pop("weights", None)
        latent = {
            reason: {
                name: {key: hide(v) if key in ("stated", "phrase") else v for key, v in facts.items()}
                for name, facts in found.items()
            }
            for reason, found in self.latent.items()
        }
        own, negative = hide(self.text), hide(self.negative)
        begun = _with_names(self.input, hide)
        return replace(self, text=own, negative=negative, guard=guard, latent=latent, input=begun)

    def as_json(self) -> dict[str, Any]:
        """Give the record as a line of a manifest has it."""
        rare = ("more", "additions", "input", "latent")
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in rare}
        values |= {"size": list(self.size), "guard": dict(self.guard), "versions": dict(self.versions)}
        if self.additions:
            values["additions"] = [dict(addition) for addition in self.additions]
        if self.input:
            values["input"] = dict(self.input)
        if self.latent:
            values["latent"] = {reason: dict(found) for reason, found in self.latent.items()}
        return values | dict(self.more)

    def __getitem__(self, name: str) -> Any:
        """Look up a field by its name, as in 0.1, where a record was a dictionary."""
        name = "text" if name == "prompt" else name
        warnings.warn(f"a record is no dictionary any more: say record.{name}", DeprecationWarning, stacklevel=2)
        return self.as_json()[name]


@dataclass(frozen=True)
class Picture:
    """One image with what is known of it."""

    image: Image.Image
    seed: int
    record: Record = field(repr=False)

    def save(self, path: str | Path, kept: Kept = DEFAULT) -> None:
        """Write a PNG that says as much of itself as is kept, see `save_picture`."""
        save_picture(self.image, path, self.record.as_json(), kept)


def findings(prompt: Prompt, report: Report | None) -> dict[str, Any]:
    """Say what the guard found and did, as records have it; without a guard all is empty."""
    if report is None:
        return {"senses": [], "drift": 0.0, "rewritten": "", "before": {}, "after": {}, "words": []}
    before, words = report.before, [word for word in report.before.words if word.flagged]
    drawing = {"drawing": report.treatment.as_json()} if report.treatment else {}
    return {
        "senses": list(report.before.senses),
        "drift": report.drift,
        "rewritten": report.rewritten,
        "before": report.before.as_json(prompt.id)["concepts"],
        "after": report.after.as_json(prompt.id)["concepts"],
        "words": [
            {"text": w.text, "span": list(prompt.placed(w.span)), "concepts": list(w.flagged)}
            | ({"key": key} if (key := before.key_of(w.span)) else {})
            for w in words
        ],
        **drawing,
    }


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
    begun = _with_names(record.get("input", {}), lambda _: "")
    return {
        **{name: record[name] for name in ("model", "seed", "steps", "size", "created") if name in record},
        **({"input": begun} if begun else {}),
        **({"latent": latent} if latent else {}),
        "guard": {name: record["guard"][name] for name in ("safeguard", "strength")},
        "versions": {"safegen": record["versions"]["safegen"]},
    }


def _with_names(begun: Mapping[str, Any], rename: Callable[[str], str]) -> dict[str, Any]:
    """Give other names to the pictures that were drawn from; a picture with an empty one has none."""
    found: dict[str, Any] = {}
    for what, facts in begun.items():
        found[what] = facts
        if isinstance(facts, Mapping):
            rest = {key: value for key, value in facts.items() if key != "name"}
            found[what] = {**({"name": name} if (name := rename(facts.get("name", ""))) else {}), **rest}
    return found


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


LIBRARIES = ("safegen", "torch", "diffusers", "transformers")


@functools.cache
def versions() -> Mapping[str, str]:
    """Give the versions of safegen, the libraries and Python, by name."""
    import importlib.metadata  # slow, and `--help` does without

    return {**{name: importlib.metadata.version(name) for name in LIBRARIES}, "python": platform.python_version()}

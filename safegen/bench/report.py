"""The bench's results as one self-contained HTML page: every figure, and pictures side by side."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from safegen.bench.heatmap import heat_map, picture_or_closed

if TYPE_CHECKING:
    from PIL import Image

ABOUT = ("safegen", "commit", "quick", "device", "torch", "diffusers", "transformers", "python")
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: .5rem 0 2rem; width: 100%; }
td, th { border-bottom: 1px solid #ddd; padding: .3rem .6rem; text-align: left; vertical-align: top; }
.missed { color: #b00020; font-weight: 600; } .met { color: #1b6e3c; }
img { width: 96px; height: 96px; image-rendering: auto; } small { color: #666; }
svg a { text-decoration: none; } .strip { display: flex; flex-wrap: wrap; gap: .5rem; } figure { margin: 0; }
"""


class Album:
    """Pictures of one prompt by every method, collected while suites run; small, and ready for a page.

    Args:
        strips: the pictures of an earlier run; an empty text stands for a prompt that failed closed.
        most: number of prompts to keep.
    """

    def __init__(self, strips: Mapping[str, Mapping[str, str]] | None = None, most: int = 12) -> None:
        self.most = most
        self.strips: dict[str, dict[str, str]] = {k: dict(v) for k, v in (strips or {}).items()}

    def keep(self, prompts: Sequence[str], method: str, images: Sequence[Image.Image | None]) -> None:
        """Keep the first few pictures of a method."""
        for prompt, image in list(zip(prompts, images, strict=True))[: self.most]:
            self.strips.setdefault(prompt, {})[method] = embedded(image)


def page(report: Mapping[str, Any]) -> str:
    """Make the page; everything that comes from a prompt is escaped."""
    suites = "".join(
        f"<h2>{html.escape(name)}</h2><table><tr><th>measure<th>figure<th>bar<th></tr>{_rows(suite['rows'])}</table>"
        for name, suite in report["suites"].items()
    )
    cells = report.get("cells", {}).get("attacks")
    strips = (heat_map(cells) if cells else "") + _strips(report["pictures"])
    about = " · ".join(f"{key} {report[key]}" for key in ABOUT if report.get(key))
    files = [file for key in ("data", "sets") for file in report.get(key, ())]
    named = " · ".join(f"{file['name']} (sha256 {file['sha256'][:12]})" for file in files)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>safegen bench</title><style>{STYLE}</style>'
        f"<h1>safegen bench</h1><p><small>{html.escape(about)}<br>{html.escape(named)}</small></p>"
        f"{suites}{strips}</html>\n"
    )


def _rows(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for row in rows:
        verdict = ("met" if row["met"] else "missed") if row["bar"] else ""
        cells = "".join(f"<td>{html.escape(str(row[key]))}" for key in ("measure", "figure", "bar"))
        lines.append(f'<tr>{cells}<td class="{verdict}">{verdict}</tr>')
    return "".join(lines)


def _strips(strips: Mapping[str, Mapping[str, str]]) -> str:
    if not strips:
        return ""
    methods = list(dict.fromkeys(method for strip in strips.values() for method in strip))
    head = "".join(f"<th>{html.escape(method)}" for method in methods)
    lines = [
        f"<tr><td>{html.escape(prompt)}" + "".join(f"<td>{picture_or_closed(strip.get(m))}" for m in methods) + "</tr>"
        for prompt, strip in strips.items()
    ]
    return f"<h2>side by side, one seed a row</h2><table><tr><th>prompt{head}</tr>{''.join(lines)}</table>"


def embedded(image: Image.Image | None) -> str:
    """Make a picture small enough for a page; an empty text where there is none."""
    if image is None:
        return ""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=80)
    return base64.b64encode(buffer.getvalue()).decode()

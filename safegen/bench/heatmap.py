"""A heat map of methods by attacks, drawn as SVG, and the pictures behind every cell."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping

from safegen.bench.cells import Cell
from safegen.bench.matrix import Matrix
from safegen.bench.statistics import Rate

WIDE, HIGH, LEFT, TOP = 100, 34, 110, 30  # a cell's sides, and the room for names, in pixels
COLD, HOT = (255, 255, 255), (214, 69, 65)
FAINT = 0.35  # how opaque a column is that is no evidence


def heat_map(cells: Mapping[str, Cell]) -> str:
    """Draw the map; a cell leads to its pictures, which follow."""
    matrix = Matrix(cells)
    wide, high = LEFT + WIDE * len(matrix.attacks), TOP + HIGH * len(matrix.methods)
    size = f'width="{wide}" height="{high}" viewBox="0 0 {wide} {high}"'
    return (
        "<h2>methods by attacks</h2><p>The share of pictures with the harm. A pale column is no evidence: "
        "without a guard its attack brings out too little.</p>"
        f'<svg role="img" font-size="13" {size}>'
        f"{''.join(_names(matrix))}{''.join(_squares(matrix))}</svg>{''.join(_pictures(matrix))}"
    )


def _names(matrix: Matrix) -> Iterator[str]:
    for column, attack in enumerate(matrix.attacks):
        yield _text(LEFT + WIDE * (column + 0.5), TOP - 10, attack, "middle")
    for row, method in enumerate(matrix.methods):
        yield _text(LEFT - 8, TOP + HIGH * (row + 0.65), method, "end")


def _squares(matrix: Matrix) -> Iterator[str]:
    for row, method in enumerate(matrix.methods):
        for column, attack in enumerate(matrix.attacks):
            rate = Rate.of(matrix.outcomes(method, attack))
            x, y = LEFT + WIDE * column, TOP + HIGH * row
            share = 0.0 if math.isnan(rate.value) else rate.value
            said = "" if math.isnan(rate.value) else f"{rate.value:.0%}"
            opaque = 1 if matrix.works(attack) else FAINT
            yield (
                f'<a href="#{_anchor(row, column)}"><g opacity="{opaque}"><title>{html.escape(f"{rate}")}</title>'
                f'<rect x="{x}" y="{y}" width="{WIDE - 2}" height="{HIGH - 2}" fill="{_colour(share)}" stroke="#ddd"/>'
                f"{_text(x + WIDE / 2, y + HIGH * 0.65, said, 'middle')}</g></a>"
            )


def _pictures(matrix: Matrix) -> Iterator[str]:
    """Show the pictures of every cell, with its share and its interval."""
    for row, method in enumerate(matrix.methods):
        for column, attack in enumerate(matrix.attacks):
            cell = matrix.cells.get(Matrix.key(method, attack))
            if cell is None:
                continue
            figures = "".join(
                f"<figure>{picture_or_closed(picture, one['verdict'])}<figcaption>{html.escape(one['target'])}: "
                f"{html.escape(one['verdict'])}</figcaption></figure>"
                for one, picture in zip(cell["outcomes"], cell["pictures"], strict=True)
            )
            doubt = "" if matrix.works(attack) else "; no evidence"
            rate = Rate.of(matrix.outcomes(method, attack))
            yield (
                f'<h3 id="{_anchor(row, column)}">{html.escape(f"{method}, {attack}: {rate}{doubt}")}</h3>'
                f'<div class="strip">{figures}</div>'
            )


def picture_or_closed(encoded: str | None, without: str = "closed") -> str:
    """Show a picture of a page, or say what came in its place: usually that a guard failed closed."""
    return f'<img alt="" src="data:image/webp;base64,{html.escape(encoded)}">' if encoded else html.escape(without)


def _text(x: float, y: float, said: str, anchor: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{html.escape(said)}</text>'


def _anchor(row: int, column: int) -> str:
    return f"cell-{row}-{column}"


def _colour(share: float) -> str:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(COLD, HOT, strict=True))
    return f"#{red:02x}{green:02x}{blue:02x}"

"""The pictures of one call of a pipeline, as a safeguard sees them that acts while they are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from safegen.scoring.report import Treatment


@dataclass(frozen=True)
class Canvas:
    """The pictures that are drawn together.

    Attributes:
        treatments: what is done to each; None where that is nothing.
        guidance: of all.
        size: width and height of all, in pixels.
    """

    treatments: tuple[Treatment | None, ...]
    guidance: float
    size: tuple[int, int]

    @property
    def own(self) -> dict[int, Treatment]:
        """The treatments by the number of their picture."""
        return {row: one for row, one in enumerate(self.treatments) if one is not None}

"""Sizes of pictures: which can be drawn, and the nearest to one that cannot."""

from __future__ import annotations

import math

from safegen.errors import UsageError

LEAST, MOST = 64, 4096
STEP = 8  # sides are multiples of it in every pipeline; many need a larger step, which their family knows
EVERY = 32  # every pipeline draws sizes that are multiples of it


def check(width: int, height: int, step: int = STEP, who: str = "") -> None:
    """Check that pictures of a size can be drawn.

    Args:
        width: in pixels.
        height: in pixels.
        step: the number that both must be multiples of.
        who: the pipeline that draws them; empty while it is not known.

    Raises:
        UsageError: they cannot; the hint names the nearest size that can.
    """
    near = nearest(width, height, step)
    if near == (width, height):
        return
    safe = nearest(width, height, EVERY)
    more = f" (or {_said(safe)}, which every model draws)" if not who and safe != near else ""
    raise UsageError(
        f"size {width}x{height} cannot be drawn{f' by a {who}' if who else ''}",
        f"The nearest that can is {_said(near)}{more}: sides are multiples of {step}, from {LEAST} to {MOST}.",
    )


def nearest(width: int, height: int, step: int) -> tuple[int, int]:
    """Find the nearest size with sides that are multiples of `step`."""
    width, height = (
        min(max(round(side / step) * step, _up(LEAST, step)), MOST // step * step) for side in (width, height)
    )
    return width, height


def within(size: tuple[int, int], scale: float, step: int) -> tuple[int, int]:
    """Find the nearest size that is no larger than a scaled one on either side."""
    width, height = (max(int(side * scale // step) * step, _up(LEAST, step)) for side in size)
    return width, height


def like(size: tuple[int, int], side: int, step: int) -> tuple[int, int]:
    """Give the size of what is drawn from a picture: the picture's own, in the nearest sides that can be drawn.

    A picture with more pixels than the model has learned, which is `side` squared, is drawn smaller.
    """
    scale = min(1.0, side / math.sqrt(size[0] * size[1]))
    return nearest(round(size[0] * scale), round(size[1] * scale), step)


def _up(least: int, step: int) -> int:
    return -(-least // step) * step


def _said(size: tuple[int, int]) -> str:
    return "{}x{}".format(*size)

"""Sizes of pictures: what can be drawn, and the nearest to what cannot."""

from __future__ import annotations

from safegen.errors import UsageError

LEAST, MOST = 64, 4096
STEP = 8  # of every pipeline; many have a larger one, which their family knows
EVERY = 32  # sizes that every pipeline draws are multiples of it


def check(width: int, height: int, step: int = STEP, who: str = "") -> None:
    """Check that pictures of that many pixels can be drawn.

    Args:
        width: in pixels.
        height: likewise.
        step: what both are multiples of.
        who: the pipeline that draws them; nobody knows it yet where it is empty.

    Raises:
        UsageError: they cannot; the hint names the nearest that can.
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
    """Find the size nearest to one, with sides that are multiples of `step`."""
    width, height = (
        min(max(round(side / step) * step, _up(LEAST, step)), MOST // step * step) for side in (width, height)
    )
    return width, height


def _up(least: int, step: int) -> int:
    return -(-least // step) * step


def _said(size: tuple[int, int]) -> str:
    return "{}x{}".format(*size)

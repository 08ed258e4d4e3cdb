"""Changes to a denoiser's predictions, made before the pipeline guides by them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safegen.families.calls import as_rows
from safegen.families.denoiser import Received, aside, is_aside, prompted_rows, watched

if TYPE_CHECKING:
    from torch import Tensor

    from safegen.families.base import Family


@dataclass(frozen=True)
class Prediction:
    """The predictions for R of the pictures in one call of a denoiser; single precision.

    Signs are those of noise: where noise grows, a prediction grows, whatever else the model predicts.

    Attributes:
        latents: (R, ...), noisy.
        times: as the pipeline gives them, () or (R,).
        prompted: (R, ...), from the prompts.
        unprompted: (R, ...), from the negative prompt; None where the call has no half of it.
    """

    latents: Tensor
    times: Tensor
    prompted: Tensor
    unprompted: Tensor | None


Change = Callable[[Prediction], "Tensor"]


@contextlib.contextmanager
def changed(family: Family, pictures: int, rows: Sequence[int], change: Change) -> Iterator[None]:
    """Let predictions pass through `change`; **changes the denoiser while the context lasts**.

    Args:
        family: the family of the pipeline that draws.
        pictures: how many a call of the pipeline draws.
        rows: which of them are changed; the others keep every bit.
        change: gives new predictions (R, ...) from prompts. It may call the denoiser; no hook of ours hears of that.

    Raises:
        ModelError: the denoiser is compiled; later, by the pipeline, if it is called with rows that cannot be told.
    """
    place = family.bottleneck
    place.check_hooks()
    received, prompted = Received((), {}), True

    def receive(now: Received, conditional: bool) -> None:
        nonlocal received, prompted
        received, prompted = now, conditional

    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        if is_aside() or not prompted:
            return None
        return _replaced(output, _changed(family, pictures, rows, change, received, output[0]))

    with contextlib.ExitStack() as stack:
        stack.enter_context(watched(place.denoiser, receive))
        handle = place.denoiser.register_forward_hook(hook)
        stack.callback(handle.remove)
        yield


def _changed(
    family: Family, pictures: int, rows: Sequence[int], change: Change, received: Received, output: Any
) -> Tensor:
    """Give all that a call puts out, (N, ...), with the rows changed."""
    states, latents, times = as_rows(output), received.latents, received.times
    half = prompted_rows(len(latents), pictures, family.negative_first)
    mine = [half.start + row for row in rows]
    others = [row + (pictures if half.start == 0 else -pictures) for row in mine]
    noise = family.output_sign * states[:, : latents.shape[1]].float()
    prediction = Prediction(
        latents[mine],
        times[mine] if times.ndim else times,
        noise[mine],
        noise[others] if len(latents) > pictures else None,
    )
    with aside():
        new = change(prediction)
    whole = states.clone()
    whole[mine, : latents.shape[1]] = (family.output_sign * new).to(states.dtype)
    return whole


def _replaced(output: Any, states: Tensor) -> Any:
    """Give a denoiser's output with other states in their place."""
    first: Any = list(states.unsqueeze(2).unbind(0)) if isinstance(output[0], list) else states
    if isinstance(output, Mapping):
        return type(output)(**{**output, next(iter(output)): first})
    return (first, *output[1:])

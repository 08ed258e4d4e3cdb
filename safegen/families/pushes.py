"""Vectors that are added at a denoiser's bottleneck while pictures are drawn, to every picture its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from safegen.errors import DirectionError, ModelError
from safegen.families.bottleneck import Bottleneck
from safegen.families.denoiser import Received, prompted_rows, watched
from safegen.families.intercept import replace_method

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Push:
    """A vector (D,) or, for a UNet, (D, H, W), and its weight."""

    vector: Tensor
    weight: float = 1.0


class Steerable(Protocol):
    """What is asked of a family here; see `safegen.families.base`."""

    pipe: Any
    negative_first: ClassVar[bool]

    @property
    def bottleneck(self) -> Bottleneck: ...

    def picture_tokens(self, received: Received) -> slice: ...


@contextlib.contextmanager
def steered(family: Steerable, pushes: Sequence[Sequence[Push]], pipe: Any = None) -> Iterator[None]:
    """Add vectors to what is drawn while the context lasts; **changes the pipeline** meanwhile.

    Args:
        family: the family of the pipeline that draws.
        pushes: what is added to every picture of a call; one entry for each picture, or for each prompt.
        pipe: the pipeline that draws, where it is another around the same denoiser.

    Raises:
        ModelError: the denoiser has no hook point, or is compiled or streamed.
        DirectionError: a vector has another width than the denoiser, or is not finite.
    """
    wanted = [[push for push in own if push.weight] for own in pushes]
    if not any(wanted):
        yield
        return
    place = family.bottleneck
    place.check()
    check_vectors(place, [push.vector for own in wanted for push in own])
    adding = _Adding(family, wanted)
    with contextlib.ExitStack() as stack:
        drawing = family.pipe if pipe is None else pipe
        stack.enter_context(replace_method(drawing, "prepare_latents", adding.counting(drawing.prepare_latents)))
        stack.enter_context(watched(place.denoiser, adding.receive))
        stack.enter_context(place.changed(adding.add))
        yield


def check_vectors(place: Bottleneck, vectors: Sequence[Tensor]) -> None:
    """Check that vectors fit a bottleneck.

    Raises:
        DirectionError: one has another width, or is not finite.
    """
    import torch

    for vector in vectors:
        dims = (1, 3) if place.kind == "unet" else (1,)
        if vector.ndim not in dims or vector.shape[0] != place.width:
            raise DirectionError(
                f"a latent direction of shape {tuple(vector.shape)} does not fit {place.name}, "
                f"which is {place.width} wide",
                "Learn it for this model: safegen directions learn NAME --method latent",
            )
        if not bool(torch.isfinite(vector).all()):
            raise DirectionError(
                "a latent direction holds numbers that are not finite",
                "Learn it again: safegen directions learn NAME --method latent",
            )


class _Adding:
    """Adds to every picture its own vectors, in the conditional half of what the block puts out."""

    def __init__(self, family: Steerable, pushes: Sequence[Sequence[Push]]) -> None:
        self.family, self.pushes = family, pushes
        self.pictures = 0  # of the call in progress
        self.received, self.conditional = Received((), {}), True
        self._offsets: dict[object, Tensor] = {}

    def counting(self, prepare: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap `prepare_latents` so that the number of a call's pictures is noted."""

        def prepare_latents(*args: Any, **named: Any) -> Any:
            result = prepare(*args, **named)
            first = result[0] if isinstance(result, tuple) else result
            self.pictures = len(first)
            self._offsets.clear()
            return result

        return prepare_latents

    def receive(self, received: Received, conditional: bool) -> None:
        """Note the call of the denoiser that comes next."""
        self.received, self.conditional = received, conditional

    def add(self, states: Tensor) -> Tensor:
        """Add the vectors; rows without one keep every bit."""
        if not self.conditional:
            return states
        rows = prompted_rows(len(states), self.pictures, self.family.negative_first)
        if self.pictures % len(self.pushes):
            raise ModelError(
                f"{self.pictures} pictures are drawn of {len(self.pushes)} prompts, "
                "and which of them a latent direction belongs to cannot be told",
                "Draw the same number of pictures for every prompt.",
            )
        own = [i * len(self.pushes) // self.pictures for i in range(self.pictures)]
        new = states.clone()
        tokens = self.family.picture_tokens(self.received)
        for row, index in enumerate(own, start=rows.start):
            if self.pushes[index]:
                one = new[row : row + 1]
                part = one if one.ndim == 4 else one[:, tokens]
                part += self._offset(index, part)
        return new

    def _offset(self, index: int, states: Tensor) -> Tensor:
        """Give what is added to the states of one picture, (1, D, H, W) or (1, T, D)."""
        key = (index, states.shape, states.dtype, states.device)
        if key not in self._offsets:
            terms = [push.weight * spread(push.vector.to(states.device).float(), states) for push in self.pushes[index]]
            self._offsets[key] = sum(terms[1:], terms[0]).to(states.dtype)
        return self._offsets[key]


def spread(vector: Tensor, states: Tensor) -> Tensor:
    """Shape a vector so that it can be added to states (N, D, H, W) or (N, T, D)."""
    import torch

    if states.ndim == 3:
        return vector
    if vector.ndim == 1:
        return vector[:, None, None]
    if vector.shape[1:] == states.shape[2:]:
        return vector
    # A picture of another size: the same vector at the same relative place.
    return torch.nn.functional.interpolate(vector[None], size=states.shape[2:], mode="bilinear")[0]

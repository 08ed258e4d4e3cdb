"""A denoiser's calls, watched as its pipeline makes them: what it is told, and which rows the prompts guide."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safegen.errors import ModelError, UsageError
from safegen.families.intercept import replace_method

if TYPE_CHECKING:
    from torch import Tensor

_ASIDE = contextvars.ContextVar("aside", default=False)


@dataclass(frozen=True)
class Received:
    """The arguments of one call of a denoiser."""

    args: tuple[Any, ...]
    named: Mapping[str, Any]

    @property
    def latents(self) -> Tensor:
        """The noisy latents (N, ...): a row for every picture, and for every half of guidance that is in the call."""
        import torch

        own: Any = self.named[self._own] if self._own else self.args[0]
        # Z-Image takes pictures one by one, as films of one frame.
        latents: Tensor = torch.stack(own).squeeze(2) if isinstance(own, list) else own
        return latents

    @property
    def times(self) -> Tensor:
        """The time, as the pipeline gives it: one for all (), or one for every row (N,)."""
        time: Tensor = self.named["timestep"] if "timestep" in self.named else self.args[1]
        return time

    def at(self, latents: Tensor, times: Tensor) -> Received:
        """Give the same call with other latents (N, ...) at other times, () or (N,)."""
        args, named = list(self.args), dict(self.named)
        if self._own:
            named[self._own] = latents
        else:
            args[0] = list(latents.unsqueeze(2).unbind(0)) if isinstance(args[0], list) else latents
        if "timestep" in named:
            named["timestep"] = times.to(named["timestep"])
        else:
            args[1] = times.to(args[1])
        return Received(tuple(args), named)

    @property
    def _own(self) -> str:
        """The name of the argument that the latents are given by, if they have one."""
        return next((name for name in ("hidden_states", "sample") if name in self.named), "")


def find_denoiser(pipe: Any) -> Any:
    """Give a pipeline's UNet or transformer; None where it has neither."""
    return next((part for name in ("unet", "transformer") if (part := getattr(pipe, name, None)) is not None), None)


@contextlib.contextmanager
def watched(denoiser: Any, receive: Callable[[Received, bool], None]) -> Iterator[None]:
    """Tell `receive` what the denoiser is called with, and whether the call is the conditional one.

    Pipelines that call the denoiser once for each half of guidance name the half by `cache_context`.
    """
    named = ["cond"]
    with contextlib.ExitStack() as stack:
        if hasattr(denoiser, "cache_context"):
            enter = denoiser.cache_context

            @contextlib.contextmanager
            def cache_context(name: str) -> Iterator[None]:
                named.append(name)
                try:
                    with enter(name):
                        yield
                finally:
                    named.pop()

            stack.enter_context(replace_method(denoiser, "cache_context", cache_context))

        def before(_module: Any, args: tuple[Any, ...], given: dict[str, Any]) -> None:
            if not is_aside():
                receive(Received(args, given), named[-1] != "uncond")

        handle = denoiser.register_forward_pre_hook(before, with_kwargs=True)
        stack.callback(handle.remove)
        yield


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """Call a denoiser for oneself: while the context lasts, no hook of ours hears of its calls."""
    token = _ASIDE.set(True)
    try:
        yield
    finally:
        _ASIDE.reset(token)


def is_aside() -> bool:
    """Tell whether the denoiser is being called for one of our hooks, and not to draw."""
    return _ASIDE.get()


def prompted_rows(rows: int, pictures: int, negative_first: bool) -> slice:
    """Find the rows of a call that the prompts guide, among those of the negative prompt.

    Args:
        rows: N, of the call.
        pictures: B, that are drawn.
        negative_first: whether the negative half comes first.

    Raises:
        ModelError: the call has other rows than one or two for every picture.
    """
    if not pictures or rows not in (pictures, 2 * pictures):
        raise ModelError(
            f"the denoiser was given {rows} rows for {pictures} pictures, and which of them the prompts guide "
            "cannot be told",
            "Draw with the pipeline's own guidance; leave out what adds rows to it.",
        )
    first = pictures if rows > pictures and negative_first else 0
    return slice(first, first + pictures)


def cross_attention(denoiser: Any) -> dict[str, Any]:
    """Find the layers in which places of the picture attend to the text, by their names.

    Raises:
        UsageError: there are none. In a transformer with joint attention, blocks change the text, too.
    """
    found = {name: part for name, part in denoiser.named_modules() if getattr(part, "is_cross_attention", False)}
    if not found:
        raise UsageError(
            f"a {type(denoiser).__name__} has no cross-attention to act in: "
            "its blocks change the text as they change the picture",
            "Choose another method: --safeguard localise.",
        )
    return found

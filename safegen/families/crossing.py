"""Cross-attention with a second text, beside the one that a picture is drawn from."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safegen.conditioning import Position
from safegen.families.calls import tell
from safegen.families.denoiser import Received, cross_attention, is_aside, prompted_rows, watched

if TYPE_CHECKING:
    from torch import Tensor

    from safegen.families.base import Family


@dataclass(frozen=True)
class Second:
    """A second text for each of R pictures, as cross-attention reads it.

    Attributes:
        states: (R, T, D).
        mask: what is added to the logits, (R, 1, T); None where nothing is masked.
        words: (R, T), which positions are of words.
    """

    states: Tensor
    mask: Tensor | None
    words: Tensor


@dataclass(frozen=True)
class Crossing:
    """The output of cross-attention over both texts in one layer, for R pictures of Q places each.

    Attributes:
        first: (R, Q, C), what the layer puts out for the pictures' own texts.
        second: (R, Q, C), what it puts out for the second ones.
        share: (R, Q, 1), the most that a word of the second text gets of a place's attention, where both texts are
            attended to together; the mean over heads.
    """

    first: Tensor
    second: Tensor
    share: Tensor


def second_text(family: Family, texts: Sequence[str], guidance: float, size: tuple[int, int]) -> Second:
    """Give texts as cross-attention reads them; for the arguments see `tell`."""
    first = next(iter(cross_attention(family.bottleneck.denoiser).values()))
    seen: list[Any] = []

    def note(_module: Any, _args: Any, named: dict[str, Any]) -> None:
        seen.append(named)

    told = family.encode(texts)
    handle = first.register_forward_pre_hook(note, with_kwargs=True)
    try:
        tell(family, told, guidance, size)
    finally:
        handle.remove()
    positions = next(iter(told.word_channels.values())).positions
    states = seen[0]["encoder_hidden_states"]
    return Second(states, seen[0].get("attention_mask"), (positions == Position.TOKEN).to(states.device))


@contextlib.contextmanager
def crossed(
    family: Family, pictures: int, rows: Sequence[int], second: Second, change: Callable[[Crossing], Tensor]
) -> Iterator[None]:
    """Let what cross-attention puts out pass through `change`; **changes the denoiser** meanwhile.

    Args:
        family: the family of the pipeline that draws.
        pictures: how many a call of the pipeline draws.
        rows: which R of them are changed; the others keep every bit.
        second: the second text of each.
        change: gives the new output (R, Q, C) of one layer.

    Raises:
        ModelError: the denoiser is compiled.
        UsageError: it has no cross-attention.
    """
    place, prompted = family.bottleneck, True
    place.check_hooks()

    def receive(_: Received, conditional: bool) -> None:
        nonlocal prompted
        prompted = conditional

    def hook(module: Any, args: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
        if is_aside() or not prompted:
            return None
        first = prompted_rows(len(output), pictures, family.negative_first).start
        mine = [first + row for row in rows]
        places, mask = args[0][mine], named.get("attention_mask")
        own = Second(named["encoder_hidden_states"][mine], None if mask is None else mask[mine], second.words)
        # The layer itself, without its hooks: this one would be called again.
        other = module.forward(places, encoder_hidden_states=second.states, attention_mask=second.mask)
        new = output.clone()
        new[mine] = change(Crossing(output[mine], other, _share(module, places, own, second))).to(output.dtype)
        return new

    with contextlib.ExitStack() as stack:
        stack.enter_context(watched(place.denoiser, receive))
        for layer in cross_attention(place.denoiser).values():
            stack.callback(layer.register_forward_hook(hook, with_kwargs=True).remove)
        yield


def _share(layer: Any, places: Tensor, own: Second, second: Second) -> Tensor:
    """Measure how much attention words of the second text get, see `Crossing`."""
    import torch

    def heads(states: Tensor, norm: Any) -> Tensor:
        split = states.view(*states.shape[:2], layer.heads, -1).transpose(1, 2)  # (R, H, T, D)
        normed: Tensor = split if norm is None else norm(split)
        return normed

    query = heads(layer.to_q(places), layer.norm_q)
    parts = []
    for text in (own, second):
        logits = query @ heads(layer.to_k(text.states), layer.norm_k).transpose(-1, -2) * layer.scale
        parts.append(logits if text.mask is None else logits + text.mask.unsqueeze(1))
    attention = torch.cat(parts, -1).float().softmax(-1)[..., parts[0].shape[-1] :]  # (R, H, Q, T)
    of_words = attention.masked_fill(~second.words[:, None, None], 0.0)
    share: Tensor = of_words.mean(1).amax(-1, keepdim=True)
    return share

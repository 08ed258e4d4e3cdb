"""Shortcuts through a text encoder, for what only the guard reads: no pads, and what texts begin with only once.

A pipeline fills a prompt up to hundreds of positions. Where an encoder masks pads, or is causal, no state of a word
depends on them. The pipeline encodes as ever; its encoder leaves the pads out, and gives NaN in their place, so that
nothing can take one for a state. Texts that begin as the first of a batch does share the keys and values that a causal
encoder has of it: of a chat template, and of the words up to the first that differs.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from safegen.families.intercept import replace_method

if TYPE_CHECKING:
    from torch import Tensor

    from safegen.families.outputs import EncoderOutput

# How the kinds of encoders begin that keep keys and values, and of the one that is causal and gets no mask.
CACHING, CLIP = ("qwen", "mistral", "ministral", "gemma"), "clip"
NEAR = 8  # texts that leave the first one at places so near to each other go through the encoder together
PICTURED = ("pixel", "image", "video")  # how arguments begin that tell of pictures: by their sizes positions count
STATES, VECTORS = ("last_hidden_state", "hidden_states"), ("pooler_output", "text_embeds")


@contextlib.contextmanager
def taken(output: EncoderOutput, pads: int) -> Iterator[None]:
    """Let an encoder leave out the pads on which no other state depends; **changes it while the context lasts**.

    Args:
        output: one of the encoder's outputs.
        pads: how many pads are computed even so, spread over all of them. Where they are not masked, they depend on
            each other: then all are computed.
    """
    encoder = output.encoder
    if hasattr(encoder, "_orig_mod"):  # compiled, for the lengths that the pipeline gives it
        yield
        return
    pad = output.tokenizer.pad_token_id if output.kind.startswith(CLIP) and not pads else None
    shortcut = Shortcut(encoder.forward, pad, pads, output.kind.startswith(CACHING))
    with replace_method(encoder, "forward", shortcut):
        yield


@dataclass(frozen=True)
class Shortcut:
    """An encoder's way through those positions of a batch that are read.

    Attributes:
        forward: the encoder's own.
        pad: the token that fills a text up, where it may be left out although nothing masks it.
        pads: how many masked pads are computed even so.
        caches: whether the encoder keeps keys and values.
        thread: whose way it is; what others encode meanwhile may be drawn, and goes the encoder's own.
    """

    forward: Callable[..., Any]
    pad: int | None
    pads: int
    caches: bool
    thread: int = field(default_factory=threading.get_ident)

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Encode ids (B, T)."""
        if threading.get_ident() != self.thread:
            return self.forward(*args, **named)
        named |= dict(zip(inspect.signature(self.forward).parameters, args, strict=False))
        ids, mask = named.get("input_ids"), named.get("attention_mask")
        columns = self._columns(ids, mask)
        pictured = any(value is not None for name, value in named.items() if name.startswith(PICTURED))
        if ids is None or columns is None or pictured:
            return self.forward(**named)
        named |= {"input_ids": ids[:, columns], "position_ids": self._positions(named, columns)}
        if mask is not None:
            named["attention_mask"] = mask[:, columns]
        named = {name: value for name, value in named.items() if value is not None}
        whole = len(ids) == 1 or mask is None or not self.caches
        return _filled(self.forward(**named) if whole else self._branched(**named), columns, ids.shape[1])

    def _columns(self, ids: Tensor | None, mask: Tensor | None) -> Tensor | None:
        """Choose the positions that are computed; None where all are."""
        import torch

        if ids is None:
            return None
        if mask is not None:
            read = mask.bool().any(0)
            left = (~read).nonzero()[:, 0]
            spread = torch.linspace(0, len(left) - 1, min(self.pads, len(left))).round().long().to(left.device)
            columns = torch.cat([read.nonzero()[:, 0], left[spread]]).sort().values
        elif self.pad is not None:  # one more, for the end of a text may be the same token
            columns = torch.arange(min(int(ids.ne(self.pad).any(0).nonzero().amax()) + 2, ids.shape[1]))
        else:
            return None
        ordered = len(columns) == columns[-1] + 1
        return columns if ordered or "position_ids" in inspect.signature(self.forward).parameters else None

    def _positions(self, named: dict[str, Any], columns: Tensor) -> Tensor | None:
        """Give the places that encoders count by; None to those that count their tokens themselves."""
        own: Tensor | None = named.get("position_ids")
        if own is not None:
            return own[..., columns]
        return columns[None] if "position_ids" in inspect.signature(self.forward).parameters else None

    def _branched(self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, **named: Any) -> Any:
        """Encode the first row whole, and of the others what comes after the beginning that they share with it."""
        import torch

        count, length = input_ids.shape
        cache = "cache" if "cache" in inspect.signature(self.forward).parameters else "past_key_values"
        places = position_ids.expand(*position_ids.shape[:-2], count, length)  # some encoders count in three ways
        named |= {"use_cache": True}
        first = self.forward(
            input_ids=input_ids[:1], attention_mask=attention_mask[:1], position_ids=places[..., :1, :], **named
        )
        whole = _each(first, lambda states: states.repeat(count, 1, 1))
        facts = torch.stack([input_ids, attention_mask, *places.reshape(-1, count, length)])
        shared = (facts == facts[:, :1]).all(0).long().cumprod(1).sum(1).clamp(max=length - 1)
        for near in sorted(set((shared[1:] // NEAR).tolist())):
            rows = 1 + (shared[1:] // NEAR == near).nonzero()[:, 0]
            start = int(shared[rows].min())
            named[cache] = _begun(first[cache], start, len(rows))
            rest = self.forward(
                input_ids=input_ids[rows, start:],
                attention_mask=attention_mask[rows],
                position_ids=places[..., rows, start:],
                **named,
            )
            for name in whole:
                for old, new in zip(_listed(whole[name]), _listed(rest[name]), strict=True):
                    old[rows, start:] = new
        return whole


def _begun(cache: Any, length: int, rows: int) -> Any:
    """Give the first keys and values of one text to several."""
    from transformers import DynamicCache

    begun = DynamicCache()
    for place, layer in enumerate(cache.layers):
        begun.update(*(part[:, :, :length].repeat(rows, 1, 1, 1) for part in (layer.keys, layer.values)), place)
    return begun


def _filled(result: Any, columns: Tensor, length: int) -> Any:
    """Put NaN where nothing was computed, so that states (B, T, D) are as many as the pipeline expects."""

    def fill(states: Tensor) -> Tensor:
        filled = states.new_full((len(states), length, states.shape[2]), float("nan"))
        filled[:, columns] = states
        return filled

    filled = _each(result, fill)
    return type(result)(**{**filled, **{name: result[name] for name in VECTORS if result.get(name) is not None}})


def _each(result: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Change the states of every layer; what else there is of a result is left out."""
    states = {name: result[name] for name in STATES if result.get(name) is not None}
    return type(result)(
        **{name: tuple(map(change, v)) if isinstance(v, tuple) else change(v) for name, v in states.items()}
    )


def _listed(states: Any) -> tuple[Tensor, ...]:
    return states if isinstance(states, tuple) else (states,)

"""Prompts through an encoder, reduced to what learning needs; what concepts share is kept in the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from safegen.conditioning import Channel, Position
from safegen.directions.store import cache_folder
from safegen.learning.corpus import benign_prompts
from safegen.learning.effort import THOROUGH, Effort
from safegen.learning.encoded import Encoded, joined
from safegen.progress import SILENT, Progress, Tick
from safegen.scoring.probes import Features, features, lengths_of

if TYPE_CHECKING:
    from safegen.families import Family

BATCH = 64
FORMAT = "spans"  # of what the cache keeps; another one is another file


def encode(
    family: Family,
    prompts: Sequence[str],
    changed: Sequence[set[str]] = (),
    pads: int = THOROUGH.pads,
    tick: Tick | None = None,
) -> dict[str, Encoded]:
    """Run all prompts through the family's encoders, in batches of like length; gives the result by channel.

    Args:
        family: the model to encode with.
        prompts: at least one.
        changed: the words of every prompt to mark in `slots`; none when empty.
        pads: see `Effort`.
        tick: told how many prompts are done.
    """
    if not prompts:
        raise ValueError("nothing to encode")
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    parts: dict[str, list[Encoded]] = {}
    for start in range(0, len(prompts), BATCH):
        chosen = order[start : start + BATCH]
        words = [changed[i] for i in chosen] if changed else []
        for name, channel in family.encode_words([prompts[i] for i in chosen], pads).channels.items():
            parts.setdefault(name, []).append(_reduce(channel, words))
        if tick is not None:
            tick(len(chosen))
    back = torch.empty(len(order), dtype=torch.long)
    back[order] = torch.arange(len(order))
    return {name: joined(some).reordered(back) for name, some in parts.items()}


def _reduce(channel: Channel, changed: Sequence[set[str]]) -> Encoded:
    found = features(channel)
    where = channel.positions == Position.TOKEN
    marked = torch.zeros(where.shape, dtype=torch.bool)
    spans = torch.zeros(*where.shape, 2, dtype=torch.long)
    for row in range(len(where)) if channel.worded else ():
        for word in channel.words(row):
            spans[row, list(word.tokens)] = torch.tensor(word.span)
            if changed and word.text.lower() in changed[row]:
                marked[row, list(word.tokens)] = True
    owners = where.nonzero()[:, 0].cpu()
    return Encoded(
        Features(
            {p: m.half().float().cpu() for p, m in found.means.items()},
            {p: m.cpu() for p, m in found.present.items()},
        ),
        lengths_of(channel).cpu(),
        channel.states[where].half().float().cpu(),
        owners,
        marked[where.cpu()],
        spans[where.cpu()],
    )


def background(
    family: Family, effort: Effort, more: Sequence[str] = (), progress: Progress = SILENT
) -> dict[str, Encoded]:
    """Encode the everyday benign prompts and the user's own, by channel; the result is kept in the cache."""
    prompts = benign_prompts(effort, more)
    with progress.counting("benign prompts encoded", len(prompts)) as tick:
        return kept(family, [prompts], effort.pads, tick)


def kept(
    family: Family,
    parts: Sequence[Sequence[str]],
    pads: int = THOROUGH.pads,
    tick: Tick | None = None,
) -> dict[str, Encoded]:
    """Encode prompts that concepts share, joined, by channel; each part is kept in the cache."""
    found = [_kept(family, prompts, pads, tick) for prompts in parts]
    return {channel: joined([part[channel] for part in found]) for channel in found[0]}


def _kept(family: Family, prompts: Sequence[str], pads: int, tick: Tick | None) -> dict[str, Encoded]:
    paths = {}
    for channel, fingerprint in family.fingerprints().items():
        key = hashlib.sha256("\n".join([FORMAT, fingerprint, str(pads), *prompts]).encode()).hexdigest()[:16]
        paths[channel] = cache_folder().parent / "background" / f"{key}.safetensors"
    if all(path.is_file() for path in paths.values()):
        if tick is not None:
            tick(len(prompts))
        return {channel: Encoded.load(path) for channel, path in paths.items()}
    encoded = encode(family, prompts, pads=pads, tick=tick)
    for channel, path in paths.items():
        encoded[channel].save(path)
    return encoded

"""Scores: how far every prompt and every word is from benign text, per concept.

A raw cosine says nothing (an empty prompt can score above an attack), so every score is a linear
probe's value in standard deviations over benign text at the same position class, with its percentile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safegen.conditioning import Channel, Conditioning, Position

if TYPE_CHECKING:
    from torch import Tensor

    from safegen.directions import Direction

SCHEMA = "safegen.score/1"
GATE_CLASSES = (Position.START, Position.TOKEN, Position.END, Position.PAD, Position.POOLED)


@dataclass(frozen=True)
class ConceptScore:
    """One concept's verdict on one prompt; `z` and `threshold` are benign standard deviations."""

    score: float  # the gate's log-odds, uncalibrated
    z: float
    percentile: float  # share of benign prompts below, in percent
    threshold: float

    @property
    def flagged(self) -> bool:
        return self.z >= self.threshold


@dataclass(frozen=True)
class WordScore:
    """One word and what each concept makes of it, in benign standard deviations."""

    text: str
    span: tuple[int, int]
    scores: Mapping[str, float]
    flagged: tuple[str, ...] = ()  # concepts whose gate is open and that this word carries


@dataclass(frozen=True)
class ScoreSheet:
    """Everything that was found in one prompt."""

    prompt: str
    concepts: Mapping[str, ConceptScore]
    words: tuple[WordScore, ...]
    tokens: tuple[WordScore, ...]  # unmerged, special tokens included
    truncated: str = ""

    @property
    def flagged(self) -> bool:
        return any(c.flagged for c in self.concepts.values())

    def open_gates(self) -> list[str]:
        """Names of the concepts over their threshold, the farthest over first."""
        over = {k: c.z - c.threshold for k, c in self.concepts.items() if c.flagged}
        return sorted(over, key=lambda k: -over[k])

    def as_json(self, identity: str) -> dict[str, Any]:
        """The sheet in schema ``safegen.score/1``."""
        return {
            "schema": SCHEMA,
            "id": identity,
            "prompt": self.prompt,
            "flagged": self.flagged,
            "concepts": {
                name: {
                    "score": round(c.score, 4),
                    "z": round(c.z, 3),
                    "percentile": round(c.percentile, 2),
                    "threshold": round(c.threshold, 3),
                    "flagged": c.flagged,
                }
                for name, c in self.concepts.items()
            },
            "words": [
                {"text": w.text, "span": list(w.span), "scores": {k: round(v, 3) for k, v in w.scores.items()}}
                for w in self.words
            ],
            "truncated": self.truncated,
        }


def features(channel: Channel) -> dict[Position, Tensor]:
    """Mean state per position class, each (B, D); classes that no prompt has are left out."""
    means = {}
    states = channel.states.float()
    for position in GATE_CLASSES:
        mask = (channel.positions == position).unsqueeze(-1)
        if bool(mask.any()):
            means[position] = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
    return means


def gate(direction: Direction, channel_name: str, channel: Channel) -> Tensor:
    """Log-odds of harm (B,), uncalibrated: the sum of the position classes' probes."""
    import torch

    total = torch.zeros(channel.states.shape[0], device=channel.states.device)
    for position, mean in features(channel).items():
        key = f"{channel_name}.{position.name.lower()}"
        if f"{key}.probe" not in direction.tensors:
            continue
        probe = direction.tensors[f"{key}.probe"].to(mean.device)
        centre = direction.tensors[f"{key}.centre"].to(mean.device)
        # A prompt that fills the window has no pads: its feature is then the benign mean.
        present = (channel.positions == position).any(1)
        total = total + torch.where(present, (mean - centre) @ probe, 0.0)
    return total


def token_scores(direction: Direction, channel_name: str, channel: Channel) -> Tensor:
    """Every position's own score (B, T) in standard deviations over benign text of its class."""
    import torch

    states = channel.states.float()
    scores = torch.zeros(states.shape[:2], device=states.device)
    for position in GATE_CLASSES:
        key = f"{channel_name}.{position.name.lower()}"
        if f"{key}.own" not in direction.tensors:
            continue
        own = direction.tensors[f"{key}.own"].to(states.device)
        centre, spread = direction.tensors[f"{key}.own_scale"].to(states.device)
        scores = torch.where(channel.positions == position, (states @ own - centre) / spread, scores)
    return scores


def calibrate(direction: Direction, raw: float) -> ConceptScore:
    """A gate value against the benign text that the direction was calibrated on."""
    quantiles = direction.tensors["gate.quantiles"]  # of benign prompts, evenly spaced from 0 to 1
    centre, spread = direction.tensors["gate.scale"].tolist()
    below = float((quantiles <= raw).float().mean()) * 100
    return ConceptScore(raw, (raw - centre) / spread, below, direction.threshold)


def score(conditioning: Conditioning, directions: Sequence[Direction]) -> list[ScoreSheet]:
    """One sheet per prompt."""
    gates: dict[str, list[float]] = {}
    tokens: dict[str, list[list[float]]] = {}
    name, channel = next((n, c) for n, c in conditioning.channels.items() if c.tokens)
    for direction in directions:
        total = sum(gate(direction, n, c) for n, c in conditioning.channels.items())
        gates[direction.concept] = total.tolist()  # type: ignore[union-attr]
        tokens[direction.concept] = token_scores(direction, name, channel).tolist()
    sheets = []
    for row, prompt in enumerate(conditioning.prompts):
        concepts = {d.concept: calibrate(d, gates[d.concept][row]) for d in directions}
        own = {k: v[row] for k, v in tokens.items()}
        sheets.append(
            ScoreSheet(
                prompt,
                concepts,
                _words(channel, row, own, concepts, directions),
                _tokens(channel, row, own),
                channel.truncated[row],
            )
        )
    return sheets


def _words(
    channel: Channel,
    row: int,
    own: Mapping[str, list[float]],
    concepts: Mapping[str, ConceptScore],
    directions: Sequence[Direction],
) -> tuple[WordScore, ...]:
    words = channel.words(row)
    scores = [{k: max(v[i] for i in word.tokens) for k, v in own.items()} for word in words]
    flagged: list[list[str]] = [[] for _ in words]
    for direction in directions:
        name = direction.concept
        if not concepts[name].flagged or not words:
            continue
        highest = max(s[name] for s in scores)
        line = min(float(direction.info["word_threshold"]), highest)
        for carried, s in zip(flagged, scores, strict=True):
            if s[name] >= line:
                carried.append(name)
    return tuple(WordScore(w.text, w.span, s, tuple(f)) for w, s, f in zip(words, scores, flagged, strict=True))


def _tokens(channel: Channel, row: int, own: Mapping[str, list[float]]) -> tuple[WordScore, ...]:
    shown, last = [], Position.START
    for i, token in enumerate(channel.tokens[row]):
        if token.position is Position.PAD and last is Position.PAD:
            continue  # one line stands for all pads
        last = token.position
        shown.append(WordScore(token.text, token.span or (0, 0), {k: v[i] for k, v in own.items()}))
    return tuple(shown)

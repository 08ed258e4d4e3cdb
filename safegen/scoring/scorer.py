"""Scores: how far every prompt and every word is from benign text, per concept.

Every channel has directions of its own (`probes.py`). A prompt is as harmful as in its worst
channel, and a word as the worst of its tokens in any encoder: a guard that looked only at one
channel would let through what another one tells the denoiser.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from safegen.conditioning import SCORED, Channel, Conditioning, Position
from safegen.errors import GuardError
from safegen.scoring.probes import Probes, bins_of, features
from safegen.scoring.scores import ConceptScore, ScoreSheet, WordScore

if TYPE_CHECKING:
    from torch import Tensor

    from safegen.directions.direction import Direction

Own = list[list[list[list[float]]]]  # prompts, positions, concepts: token score and its percentile
CARRIES = 0.5  # share of the worst word's token score from which on another word counts as harmful, too


@runtime_checkable
class ScoresTokens(Protocol):
    """A safeguard that scores every token from 0 to 1; the score sets how far it edits the token."""

    def intensities(self, channel: Channel, directions: Sequence[Direction]) -> Tensor:
        """Score the tokens of a channel (B, T, K) by its directions."""
        ...


class Scorer:
    """The directions of one guard.

    Args:
        directions: the directions of all concepts by channel, in the same order in every channel.
    """

    def __init__(self, directions: Mapping[str, Sequence[Direction]]) -> None:
        self.channels = {name: Probes(some) for name, some in directions.items()}
        self.names = tuple(d.concept for d in next(iter(directions.values())))
        self.word_lines = {
            concept: min(float(p.directions[column].info["word_threshold"]) for p in self.channels.values())
            for column, concept in enumerate(self.names)
        }

    @classmethod
    def of(cls, directions: Mapping[str, Mapping[str, Direction]], names: Sequence[str]) -> Scorer:
        """Make the scorer of the named concepts, from directions by concept and channel."""
        channels = next(iter(directions.values()))
        return cls({channel: [directions[name][channel] for name in names] for channel in channels})

    def directions(self) -> list[Direction]:
        """List the directions of all channels."""
        return [direction for probes in self.channels.values() for direction in probes.directions]

    def pairs(self, conditioning: Conditioning) -> dict[str, tuple[Probes, Channel]]:
        """Pair every channel with its probes.

        Raises:
            GuardError: a channel has no probes, so that nothing would see what it tells the denoiser.
        """
        if missing := conditioning.channels.keys() ^ self.channels.keys():
            raise GuardError(
                f"no directions for the channel {', '.join(sorted(missing))}", "Bind the guard to this pipeline."
            )
        return {name: (self.channels[name], channel) for name, channel in conditioning.channels.items()}

    def margins(self, conditioning: Conditioning, head: str = "gate") -> Tensor:
        """Measure how far a head (B, K) is over its threshold in the worst channel, in benign standard deviations."""
        return self._worst(conditioning, bins_of, head)

    def score_drops(self, conditioning: Conditioning) -> Tensor:
        """Measure how far the other prompts' classifiers (B - 1, K) are below the first's, all in its length bin."""
        margins = self._worst(conditioning, lambda c: bins_of(c)[:1].expand(len(conditioning.prompts)), "gate")
        return margins[:1] - margins[1:]

    def _worst(self, conditioning: Conditioning, bins: Callable[[Channel], Tensor], head: str) -> Tensor:
        import torch

        found = []
        for probes, channel in self.pairs(conditioning).values():
            z, lines = probes.calibrated(probes.raw(features(channel), head), bins(channel), head)
            found.append(z - lines)
        return _finite(torch.stack(found)).amax(0)

    def below(self, conditioning: Conditioning, share: float) -> Tensor:
        """Tell whether all channels' classifiers (B, K) are as low as that share of benign prompts of like length."""
        import torch

        under = [p.raw(features(c)) <= p.level(share, bins_of(c)) for p, c in self.pairs(conditioning).values()]
        return torch.stack(under).all(0)

    def objections(self, conditioning: Conditioning, reliefs: Sequence[float] = ()) -> list[list[str]]:
        """List, for each prompt, the concepts under which the classifier or the verifier is over its threshold.

        Args:
            conditioning: B prompts.
            reliefs: what is added to the thresholds of each prompt, in benign deviations; none when empty.
        """
        relief = _column(reliefs, conditioning)
        over = (self.margins(conditioning) >= relief) | (self.margins(conditioning, "check") >= relief)
        return [[name for name, objects in zip(self.names, row, strict=True) if objects] for row in over.tolist()]

    def score(self, conditioning: Conditioning, reliefs: Sequence[float] = ()) -> list[ScoreSheet]:
        """Make a score sheet for each prompt; for `reliefs` see `objections`."""
        raw, z, percentiles, lines = self._verdicts(conditioning)
        lines = lines + _column(reliefs, conditioning)
        columns = zip(*(values.tolist() for values in (raw, z, percentiles, lines)), strict=True)
        own = {name: self._own(*pair) for name, pair in self.pairs(conditioning).items()}
        sheets = []
        for row, (prompt, column) in enumerate(zip(conditioning.prompts, columns, strict=True)):
            concepts = {k: ConceptScore(*values) for k, *values in zip(self.names, *column, strict=True)}
            sheets.append(
                ScoreSheet(
                    prompt,
                    concepts,
                    self._words(conditioning, row, own, concepts),
                    self._tokens(conditioning, row, own),
                    conditioning.reference(row).truncated[row],
                )
            )
        return sheets

    def _own(self, probes: Probes, channel: Channel) -> Own:
        import torch

        scores = probes.own(channel)
        found: Own = torch.stack([scores, probes.own_percentiles(scores, channel)], -1).tolist()
        return found

    def _verdicts(self, conditioning: Conditioning) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Give the classifier's raw value, deviations, percentile and threshold (B, K) of the worst channel."""
        import torch

        found = []
        for probes, channel in self.pairs(conditioning).values():
            raw, bins = probes.raw(features(channel)), bins_of(channel)
            z, lines = probes.calibrated(raw, bins)
            found.append(torch.stack([raw, z, probes.percentiles(raw, bins), lines]))
        values = _finite(torch.stack(found))  # (channels, 4, B, K)
        worst = (values[:, 1] - values[:, 3]).argmax(0)[None, None].expand(1, 4, -1, -1)
        raw, z, percentiles, lines = values.gather(0, worst)[0]
        return raw, z, percentiles, lines

    def _words(
        self,
        conditioning: Conditioning,
        row: int,
        own: Mapping[str, Own],
        concepts: Mapping[str, ConceptScore],
    ) -> tuple[WordScore, ...]:
        words = conditioning.words(row)
        found = []
        for word in words:
            places = conditioning.tokens_of(row, word)
            tokens = [own[name][row][i] for name, indices in places.items() for i in indices]
            found.append(self._named([max(token[column] for token in tokens) for column in range(len(self.names))]))
        carried: list[list[str]] = [[] for _ in words]
        for name in self.names:
            if not concepts[name].flagged or not words:
                continue
            highest = max(scores[name] for scores, _ in found)
            line = min(max(self.word_lines[name], CARRIES * highest), highest)
            for flags, (scores, _) in zip(carried, found, strict=True):
                if scores[name] >= line:
                    flags.append(name)
        return tuple(
            WordScore(w.text, w.span, *both, tuple(f)) for w, both, f in zip(words, found, carried, strict=True)
        )

    def _tokens(self, conditioning: Conditioning, row: int, own: Mapping[str, Own]) -> tuple[WordScore, ...]:
        """Score the tokens of the encoder that saw most, and all pooled vectors, but no templates or repeated pads."""
        shown = []
        for name, channel in conditioning.channels.items():
            if not channel.worded:
                shown.append(WordScore(f"[{name}]", (0, 0), *self._named(own[name][row][0])))
            elif channel is conditioning.reference(row):
                last = Position.START
                for token, values in zip(channel.tokens[row], own[name][row], strict=True):
                    repeated = token.position is Position.PAD and last is Position.PAD  # one line stands for all pads
                    last = token.position
                    if not repeated and token.position in SCORED:
                        shown.append(WordScore(token.text, token.span or (0, 0), *self._named(values)))
        return tuple(shown)

    def _named(self, values: Sequence[Sequence[float]]) -> tuple[dict[str, float], dict[str, float]]:
        """Split pairs into scores and percentiles by concept."""
        scores, percentiles = (dict(zip(self.names, column, strict=True)) for column in zip(*values, strict=True))
        return scores, percentiles


def empty_sheets(conditioning: Conditioning) -> list[ScoreSheet]:
    """Make sheets for prompts whose encoder has no directions: its words, without scores."""
    return [
        ScoreSheet(
            prompt,
            {},
            tuple(WordScore(w.text, w.span, {}, {}) for w in conditioning.words(row)),
            truncated=conditioning.reference(row).truncated[row],
        )
        for row, prompt in enumerate(conditioning.prompts)
    ]


def with_intensities(
    sheets: Sequence[ScoreSheet], conditioning: Conditioning, safeguard: ScoresTokens, scorer: Scorer
) -> list[ScoreSheet]:
    """Add a safeguard's own score of every word to the sheets: the highest over its tokens and all concepts."""
    scores = {
        name: safeguard.intensities(channel, scorer.channels[name].directions).amax(-1).tolist()
        for name, channel in conditioning.word_channels.items()
    }
    found = []
    for row, sheet in enumerate(sheets):
        marked = []
        for score, word in zip(sheet.words, conditioning.words(row), strict=True):
            places = conditioning.tokens_of(row, word).items()
            marked.append(replace(score, intensity=max(scores[name][row][i] for name, some in places for i in some)))
        found.append(replace(sheet, words=tuple(marked)))
    return found


def _column(reliefs: Sequence[float], conditioning: Conditioning) -> Tensor:
    """Put the relief of each prompt into a column (B, 1); zeros when there is none."""
    import torch

    device = next(iter(conditioning.channels.values())).states.device
    return torch.tensor(list(reliefs) or [0.0] * len(conditioning.prompts), device=device).unsqueeze(1)


def _finite(values: Tensor) -> Tensor:
    """Give values back if all are finite: one that is not would count as under every line.

    Raises:
        GuardError: one is not.
    """
    if not bool(values.isfinite().all()):
        raise GuardError(
            "the text encoder or a direction gives scores that are not finite (NaN)",
            "Try another --dtype, or learn the directions again: safegen directions learn.",
        )
    return values

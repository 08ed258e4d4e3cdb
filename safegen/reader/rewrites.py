"""One way to rewrite a prompt: a run of words goes, and of what takes its place some stood there before."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from safegen.reader.grammar import agree
from safegen.reader.nouns import Parts
from safegen.reader.words import Word

# What a way costs beside the others, as a log-likelihood: *standing*, *and*, *admiring*, *flowers*, and somebody lost.
STANDS, JOINED, ADMIRES, FLOWERS, LOST = -1.0, -0.5, -1.0, -10.0, -5.0
SUSPECT = -4.0  # and what somebody goes on to do whose name was harmful
_PAUSE = re.compile(r" ([,.;:!?])")


@dataclass(frozen=True)
class Rewrite:
    """A run of words, what takes its place, and what that costs as a log-likelihood."""

    first: int
    last: int
    parts: Parts
    cost: float

    @property
    def gone(self) -> list[int]:
        """The words that go."""
        kept = set(self.parts)
        return [at for at in range(self.first, self.last + 1) if at not in kept]

    def written(self, text: str, words: Sequence[Word]) -> str:
        """Write what takes the place: what stays as it was spelled, with the signs between, and what is new."""
        runs: list[str] = []
        for part, before in zip(self.parts, (None, *self.parts), strict=False):
            if isinstance(part, str):
                runs.append(part)
            elif runs and before == part - 1:
                runs[-1] += text[words[part - 1].span[1] : words[part].span[1]]
            else:
                runs.append(words[part].text)
        return agree(_PAUSE.sub(r"\1", " ".join(runs)))

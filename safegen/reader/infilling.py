"""Harmless words for a gap in a prompt, by a small decoder over the reader's states.

The decoder is given the prompt with `[MASK]` in the gap. It never sees the harm that was there, and it has learned from
harmless text alone. It writes one word piece after the other: the likeliest beginnings, each with its likeliest end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safegen.reader.model import session, verified

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from safegen.reader.model import Network

FILE, VOCABULARY = "infilling.onnx", "infilling.json"
MASK = "[MASK]"
END, BEGIN = 0, 1  # the first entries of the vocabulary
MOST = 15  # pieces of a fill
BRANCHES = (8, 2, 2)  # how many ways every fill goes on at its first pieces
_LEFT, _BOTH = re.compile(r" ([,.;:!?)])"), re.compile(r" ?(['\u2019-]) ?")


@dataclass(frozen=True)
class Gap:
    """A gap in a text: the words before it and behind it."""

    before: Sequence[str]
    behind: Sequence[str]


@dataclass(frozen=True)
class Fill:
    """Words for a gap, perhaps none, and their log-likelihood."""

    text: str
    likelihood: float


@dataclass(frozen=True)
class _Around:
    """What is around gaps: the reader's states (N, T, D), their mask (N, T), and each gap's place (N,)."""

    states: NDArray[np.float32]
    mask: NDArray[np.int64]
    places: NDArray[np.int64]


class Filler:
    """The decoder with its vocabulary.

    Args:
        network: the reader's network, whose states it needs.

    Raises:
        ReaderError: a file is missing, damaged or not the one that `reader.json` names.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._session = session(verified(network.folder, network.facts, FILE))
        self.pieces: list[str] = json.loads(verified(network.folder, network.facts, VOCABULARY))

    def fill(self, gaps: Sequence[Gap]) -> list[list[Fill]]:
        """Give fills for every gap, the likeliest first."""
        found: list[list[Fill]] = [[] for _ in gaps]
        for row, pieces, likelihood in self._written(self._around(gaps)):
            found[row].append(Fill(spelled([self.pieces[i] for i in pieces]), likelihood))
        return [sorted(fills, key=lambda fill: -fill.likelihood) for fills in found]

    def _around(self, gaps: Sequence[Gap]) -> _Around:
        """Read the texts around gaps."""
        import numpy as np

        states = self.network.states([[*gap.before, MASK, *gap.behind] for gap in gaps])
        places = [1 + sum(len(self.network.pieces(word)) for word in gap.before) for gap in gaps]
        memory = np.zeros((len(gaps), max(map(len, states), default=0), states[0].shape[1] if gaps else 0), np.float32)
        mask = np.zeros(memory.shape[:2], np.int64)
        for row, values in enumerate(states):
            memory[row, : len(values)], mask[row, : len(values)] = values, 1
        return _Around(memory, mask, np.array(places, np.int64))

    def _next(self, around: _Around, rows: NDArray[np.int64], into: NDArray[np.int64]) -> NDArray[np.float32]:
        """Give the log-likelihood (N, pieces) of every next piece behind the pieces `into` (N, L), for some gaps."""
        import numpy as np

        feed = {"states": around.states[rows], "mask": around.mask[rows], "gap": around.places[rows], "pieces": into}
        logits: NDArray[np.float32] = self._session.run(["logits"], feed)[0]
        logits -= logits.max(1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(1, keepdims=True))
        return logits

    def _written(self, around: _Around) -> list[tuple[int, tuple[int, ...], float]]:
        """Write fills piece by piece; gives each one's gap, its pieces and their log-likelihood, the end's included."""
        import numpy as np

        done: list[tuple[int, tuple[int, ...], float]] = []
        open_: list[tuple[int, tuple[int, ...], float]] = [(row, (), 0.0) for row in range(len(around.places))]
        for step in range(MOST + 1):
            if not open_:
                break
            rows = np.array([row for row, _, _ in open_])
            into = np.array([[BEGIN, *pieces] for _, pieces, _ in open_], np.int64)
            logits = self._next(around, rows, into)
            ways = BRANCHES[step] if step < len(BRANCHES) else 1
            best = np.argsort(-logits, 1)[:, :ways]
            grown = [
                (row, (*pieces, int(piece)), value + float(logits[i, piece]))
                for i, (row, pieces, value) in enumerate(open_)
                for piece in best[i]
            ]
            done += [(row, pieces[:-1], value) for row, pieces, value in grown if pieces[-1] == END]
            open_ = [entry for entry in grown if entry[1][-1] != END]
        return done


def spelled(pieces: Sequence[str]) -> str:
    """Write word pieces as text."""
    text = " ".join(pieces).replace(" ##", "")
    return _BOTH.sub(r"\1", _LEFT.sub(r"\1", text))

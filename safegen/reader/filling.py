"""Phrases for the place of harm, and a small network that tells which of them fit a place.

The phrases are those that people put where harm had stood (`repairs.tsv` beside the training). The network sees what
is before the place, in it and behind it, as the reader's lower layers have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from safegen.reader.model import CLS, SEP, verified

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from safegen.reader.model import Network

FILE, PHRASES = "filling.onnx", "phrases.txt"
BESIDE = 2  # words on either side that the network sees one by one
AROUND = 24  # words on either side of a place that are read with it

Place = tuple[int, int]  # the first word that goes, and the last


class Filler:
    """The phrases, and the network that compares them.

    Args:
        network: the reader's network, whose lower layers it stands on.

    Raises:
        ReaderError: a file is missing, damaged or not the one that `reader.json` names.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._session = network.open(FILE)
        self.phrases = verified(network.folder, network.facts, PHRASES).decode().splitlines()

    def fitting(self, rows: Sequence[Sequence[str]], places: Sequence[Place], count: int) -> list[list[str]]:
        """Give, for a place of every row, the phrases that fit it best, the best one first.

        Args:
            rows: the words of each row.
            places: the place in each.
            count: of phrases.
        """
        import numpy as np

        seen = seen_of(self.network, rows, places)
        (fits,) = self._session.run(["fits"], {"seen": seen})
        best = np.argsort(-fits, axis=1, kind="stable")[:, :count]
        return [[self.phrases[at] for at in row] for row in best]


def seen_of(network: Network, rows: Sequence[Sequence[str]], places: Sequence[Place]) -> NDArray[np.float32]:
    """Give what the network sees of a place of every row, (N, 8 D), as the reader's lower layers have it.

    That is the words beside the place, its first and last word, its mean, and the mean of what is around it.
    """
    import numpy as np

    starts = [max(0, first - AROUND) for first, _ in places]
    near = [row[start : last + 1 + AROUND] for row, start, (_, last) in zip(rows, starts, places, strict=True)]
    cut = [[network.pieces(word) for word in words] for words in near]
    ids = np.zeros((len(rows), max(sum(map(len, row)) for row in cut) + 2), np.int64)
    for at, row in enumerate(cut):
        pieces = [CLS, *(piece for word in row for piece in word), SEP]
        ids[at, : len(pieces)] = pieces
    states = network.lower(ids, (ids != 0).astype(np.int64))
    moved = [(first - start, last - start) for start, (first, last) in zip(starts, places, strict=True)]
    return np.stack([_seen(states[at], cut[at], place) for at, place in enumerate(moved)])


def _seen(states: NDArray[np.float32], cut: Sequence[Sequence[int]], place: Place) -> NDArray[np.float32]:
    import numpy as np

    first, last = place
    ends = np.cumsum([1, *map(len, cut)])
    words = np.stack([states[start:end].mean(0) for start, end in pairwise(ends)])
    before, behind = [states[0]] * BESIDE, [states[ends[-1]]] * BESIDE
    sides = [*before, *words[:first]][-BESIDE:] + [*words[last + 1 :], *behind][:BESIDE]
    inside = words[first : last + 1]
    return np.concatenate([*sides, inside[0], inside[-1], inside.mean(0), words.mean(0)])

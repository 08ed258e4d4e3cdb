"""The ranker: a small network that tells how likely a strict reader would find a repair right.

A repair is right if it is English, keeps all that is harmless, and has nothing left of the harm. The network reads the
prompt and its repair one after the other, each word marked as one that stays, goes or comes. It stands on the reader's
lower layers, and has learned from verdicts on repairs (`verdicts.tsv` and `written.tsv` beside its training).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from safegen.reader.model import CLS, SEP

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from safegen.reader.model import Network

FILE = "ranking.onnx"
Marked = tuple[list[int], list[int]]  # pieces and their marks
STAYS, GOES, THERE, COMES = range(4)  # of the words of a prompt, and of those of its repair
MOST = 500  # pieces of a prompt and its repair
TOGETHER = 2048  # the most pieces read together


class Ranker:
    """The network that compares repairs.

    Args:
        network: the reader's network, whose lower layers it stands on.

    Raises:
        ReaderError: a file is missing, damaged or not the one that `reader.json` names.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._session = network.open(FILE)

    def chances(self, before: Sequence[str], repairs: Sequence[Sequence[str]]) -> NDArray[np.float32] | None:
        """Give for every repair the logarithms (N, 3) of the chances that it is English, whole and harmless.

        None where there are no repairs, or where the prompt and a repair are longer than the network reads.

        Args:
            before: the words of the prompt.
            repairs: the words of each repair.
        """
        import numpy as np

        if not repairs or len(before) + max(map(len, repairs)) > MOST:  # before what takes the square of the length
            return None
        rows = [marked(before, after, self.network.pieces) for after in repairs]
        longest = max(len(ids) for ids, _ in rows)
        if longest > MOST:
            return None
        ids, marks = np.zeros((len(rows), longest), np.int64), np.zeros((len(rows), longest), np.int64)
        for row, (pieces, some) in enumerate(rows):
            ids[row, : len(pieces)], marks[row, : len(some)] = pieces, some
        share = max(1, TOGETHER // longest)
        odds = [self._odds(ids[at : at + share], marks[at : at + share]) for at in range(0, len(rows), share)]
        found: NDArray[np.float32] = -np.logaddexp(np.float32(0), -np.concatenate(odds))
        return found

    def _odds(self, ids: NDArray[np.int64], marks: NDArray[np.int64]) -> NDArray[np.float32]:
        mask = (ids != 0).astype(marks.dtype)
        feed = {"lower": self.network.lower(ids, mask), "marks": marks, "mask": mask}
        odds: NDArray[np.float32] = self._session.run(["odds"], feed)[0]
        return odds


def marked(before: Sequence[str], after: Sequence[str], pieces: Callable[[str], Sequence[int]]) -> Marked:
    """Write a prompt and its repair as one row of pieces, each with its mark."""
    kinds = [GOES] * len(before), [COMES] * len(after)
    for old, new, size in SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks():
        kinds[0][old : old + size], kinds[1][new : new + size] = [STAYS] * size, [THERE] * size
    ids, marks = [CLS], [STAYS]
    for words, some, end in ((before, kinds[0], STAYS), (after, kinds[1], THERE)):
        for word, kind in zip(words, some, strict=True):
            cut = pieces(word)
            ids += cut
            marks += [kind] * len(cut)
        ids.append(SEP)
        marks.append(end)
    return ids, marks

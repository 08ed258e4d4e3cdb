"""The writer: a network that repairs a prompt edit by edit, as prompts were repaired by hand.

An edit points at its first and at its last word in the prompt (Vinyals et al. 2015, arXiv 1506.03134), and then says
word by word what comes there: words of a list, or words of the prompt again (See et al. 2017, arXiv 1704.04368). What
no edit points at stays as it was written (edits instead of whole texts: Malmi et al. 2019, arXiv 1909.01187). A beam
search writes several repairs, the likeliest ones.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from safegen.reader.model import CLS, SEP, verified
from safegen.reader.rewrites import Rewrite

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from safegen.reader.model import Network

MEMORY, WRITING, LISTED = "memory.onnx", "writing.onnx", "words.txt"
PAD, BEGIN, DONE, CLOSE = range(4)  # signs that come before the words: none, the first one, no more edits, edit ends
SIGNS = 4
LONGEST = 64  # signs, places and words of a repair
BEAM = 10  # repairs that are written at once
MOST = 180  # words of a prompt; in a longer one repairs are not compared
PIECES = 500  # pieces of a prompt


class Stage(enum.Enum):
    """The part of an edit that comes next."""

    FIRST = 0  # its first word, or that there are no more edits
    LAST = 1  # its last word
    NEW = 2  # a word that comes there, or that the edit ends


@dataclass(frozen=True)
class Draft:
    """A repair in the making: what was said so far, how likely that is, and the edits that it comes to."""

    likelihood: float = 0.0
    said: tuple[int, ...] = (BEGIN,)
    stage: Stage = Stage.FIRST
    edits: tuple[Rewrite, ...] = ()

    @property
    def begins(self) -> int:
        """The first word at which the next place may be."""
        if not self.edits:
            return 0
        # Between two edits a word stays, as between those of people.
        return self.edits[-1].first if self.stage is Stage.LAST else self.edits[-1].last + 2


class Writer:
    """The network that writes repairs.

    Args:
        network: the reader's network, whose lower layers it stands on.

    Raises:
        ReaderError: a file is missing, damaged or not the one that `reader.json` names.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._memory, self._writing = network.open(MEMORY), network.open(WRITING)
        self.words = verified(network.folder, network.facts, LISTED).decode().splitlines()

    def repairs(self, words: Sequence[str]) -> list[list[Rewrite]]:
        """Write several repairs of a prompt, the likeliest one first; none of a prompt that is too long.

        Args:
            words: of the prompt, as the reader spells them.
        """
        memory = self._remember(words)
        if memory is None:
            return []
        open_, done = [Draft()], list[Draft]()
        for _ in range(LONGEST - 1):
            drafts = self._go_on(open_, memory)
            done += [draft for draft in drafts if draft.said[-1] == DONE]
            open_ = [draft for draft in drafts if draft.said[-1] != DONE][:BEAM]
            done.sort(key=lambda draft: -draft.likelihood)
            if not open_ or (len(done) >= BEAM and done[BEAM - 1].likelihood > open_[0].likelihood):
                break
        return [list(draft.edits) for draft in done[:BEAM]]

    def _remember(self, words: Sequence[str]) -> NDArray[np.float32] | None:
        """Give what the network has read of every word, (1, words, D)."""
        import numpy as np

        cut = [self.network.pieces(word) for word in words[:MOST]]
        ids = np.array([[CLS, *(piece for pieces in cut for piece in pieces), SEP]], np.int64)
        if not words or len(words) > MOST or ids.shape[1] > PIECES:
            return None
        owners = np.repeat(np.arange(len(cut)), [len(pieces) for pieces in cut])
        members = np.zeros((1, len(cut), ids.shape[1]), np.float32)
        members[0, owners, np.arange(len(owners)) + 1] = 1
        members /= members.sum(2, keepdims=True)
        mask = np.ones_like(ids)
        feed = {"lower": self.network.lower(ids, mask), "mask": mask, "members": members}
        memory: NDArray[np.float32] = self._memory.run(["memory"], feed)[0]
        return memory

    def _go_on(self, drafts: Sequence[Draft], memory: NDArray[np.float32]) -> list[Draft]:
        """Go on with drafts in the likeliest ways, the likeliest one first."""
        import numpy as np

        said = np.array([draft.said for draft in drafts], np.int64)
        feed = {"memory": np.repeat(memory, len(drafts), axis=0), "said": said}
        (odds,) = self._writing.run(["odds"], feed)
        odds = np.where([self._may_follow(draft, memory.shape[1]) for draft in drafts], odds, -np.inf)
        logs = odds - np.logaddexp.reduce(odds, axis=1, keepdims=True)
        best = np.argsort(-logs, axis=1, kind="stable")[:, :BEAM]
        found = [
            self._with(draft, int(sign), float(log[sign]))
            for draft, log, signs in zip(drafts, logs, best, strict=True)
            for sign in signs
            if np.isfinite(log[sign])
        ]
        return sorted(found, key=lambda draft: -draft.likelihood)

    def _may_follow(self, draft: Draft, count: int) -> NDArray[np.bool_]:
        """Tell which signs and words may come next: those of the list, then those of the prompt."""
        import numpy as np

        listed = SIGNS + len(self.words)
        may = np.zeros(listed + count, bool)
        if draft.stage is Stage.NEW:
            may[CLOSE:] = True
        else:
            may[listed + draft.begins :] = True
            may[DONE] = draft.stage is Stage.FIRST and bool(draft.edits)
        return may

    def _with(self, draft: Draft, sign: int, log: float) -> Draft:
        """Add a sign or a word to a draft."""
        edits, stage = self._edits_with(draft, sign)
        return Draft(draft.likelihood + log, (*draft.said, sign), stage, edits)

    def _edits_with(self, draft: Draft, sign: int) -> tuple[tuple[Rewrite, ...], Stage]:
        """Give the edits of a draft to which something was added, and what comes next."""
        if sign in (CLOSE, DONE):
            return draft.edits, Stage.FIRST
        at = sign - SIGNS - len(self.words)
        if draft.stage is Stage.FIRST:
            return (*draft.edits, Rewrite(at, at, (), 0.0)), Stage.LAST
        *before, edit = draft.edits
        if draft.stage is Stage.LAST:
            return (*before, replace(edit, last=at)), Stage.NEW
        part = at if at >= 0 else self.words[sign - SIGNS]
        return (*before, replace(edit, parts=(*edit.parts, part))), Stage.NEW

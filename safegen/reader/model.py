"""The reader's network: one ONNX file that ONNX Runtime runs on the CPU, without torch.

Each word is cut into pieces once, and the pieces are remembered. Windows of like length are read together, so that
none is padded far.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safegen.errors import ReaderError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WEIGHTS = Path(__file__).with_name("weights")
SCHEMA = "safegen.reader/5"
BATCH_TOKENS = 1024  # the most tokens of windows read together
MOST_PIECES = 8  # of a word; a longer one is not of any language that the reader knows
CLS, SEP, UNKNOWN = 101, 102, 100

Pieces = tuple[int, ...]


class Network:
    """The network: for every word of a window, the log-odds of harm.

    Args:
        folder: the folder with `reader.onnx`, `tokenizer.json` and `reader.json`.

    Raises:
        ReaderError: ONNX Runtime is missing, or a file is missing, damaged or not the one that `reader.json` names.
    """

    def __init__(self, folder: Path = WEIGHTS) -> None:
        self.folder, self.facts = folder, read_facts(folder)
        self.concepts: tuple[str, ...] = tuple(self.facts["concepts"])
        self._session = self.open("reader.onnx")
        from tokenizers import Tokenizer

        self._tokenizer: Any = Tokenizer.from_str(verified(folder, self.facts, "tokenizer.json").decode())
        # A sentence encoder's tokenizer.json may ask for padding and truncation.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._pieces = functools.lru_cache(maxsize=1 << 16)(self._cut)
        self.vocabulary: Mapping[str, int] = self._tokenizer.get_vocab()

    def open(self, name: str) -> Any:
        """Open a network of the folder; raises as `Network` does."""
        return session(verified(self.folder, self.facts, name))

    def pieces(self, word: str) -> Pieces:
        """Cut a word into the pieces of the vocabulary."""
        found: Pieces = self._pieces(word)
        return found

    def _cut(self, word: str) -> Pieces:
        return tuple(self._tokenizer.encode(word, add_special_tokens=False).ids[:MOST_PIECES]) or (UNKNOWN,)

    def read(self, windows: Sequence[Sequence[str]]) -> list[NDArray[np.float32]]:
        """Give the log-odds of harm (words, K) of every window's words; a word has those of its highest piece."""
        return self._of_words(windows, "odds", len(self.concepts))

    def gaps(self, windows: Sequence[Sequence[str]]) -> list[NDArray[np.float32]]:
        """Give, for every window, the log-odds (words, 1) that each word belongs to a harmful situation."""
        return self._of_words(windows, "gaps", 1)

    def lower(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Give the states (B, T, D) that the lower layers have of rows of pieces (B, T)."""
        states: NDArray[np.float32] = self._session.run(["lower"], {"ids": ids, "mask": mask})[0]
        return states

    def _of_words(self, windows: Sequence[Sequence[str]], output: str, width: int) -> list[NDArray[np.float32]]:
        import numpy as np

        found: list[NDArray[np.float32]] = [np.zeros((0, width), np.float32)] * len(windows)
        for row, pieces, odds in self._run(windows, output):
            starts = np.cumsum([0, *map(len, pieces[:-1])])
            found[row] = np.maximum.reduceat(odds, starts, axis=0)
        return found

    def _run(
        self, windows: Sequence[Sequence[str]], output: str
    ) -> Iterator[tuple[int, list[Pieces], NDArray[np.float32]]]:
        """Run the network; give the index of every window that has words, their pieces, and an output (pieces, ...)."""
        import numpy as np

        cut = [[self.pieces(word) for word in window] for window in windows]
        lengths = [sum(map(len, pieces)) for pieces in cut]
        order = sorted((i for i, length in enumerate(lengths) if length), key=lengths.__getitem__)
        start = 0
        while start < len(order):
            end = start + 1
            while end < len(order) and (lengths[order[end]] + 2) * (end + 1 - start) <= BATCH_TOKENS:
                end += 1
            rows = order[start:end]
            ids = np.zeros((len(rows), lengths[rows[-1]] + 2), np.int64)
            for i, row in enumerate(rows):
                ids[i, : lengths[row] + 2] = [CLS, *(piece for word in cut[row] for piece in word), SEP]
            (values,) = self._session.run([output], {"ids": ids, "mask": (ids != 0).astype(np.int64)})
            for i, row in enumerate(rows):
                yield row, cut[row], values[i, 1 : lengths[row] + 1]
            start = end


def read_facts(folder: Path = WEIGHTS) -> dict[str, Any]:
    """Read `reader.json`: the reader's concepts, calibration, hashes, figures and sources.

    Raises:
        ReaderError: the file cannot be read, or has another schema.
    """
    try:
        facts: dict[str, Any] = json.loads((folder / "reader.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ReaderError(f"the reader's reader.json cannot be read: {error}", _AGAIN) from error
    if not isinstance(facts, dict) or facts.get("schema") != SCHEMA:
        raise ReaderError(f"the reader's files are not of schema {SCHEMA}", _AGAIN)
    return facts


def session(network: bytes) -> Any:
    """Open a network that ONNX Runtime runs on the CPU.

    Raises:
        ReaderError: ONNX Runtime is missing.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ReaderError(
            f"the reader needs {error.name}, which is not installed", "Install it: pip install onnxruntime."
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Threads that wait sleep. By default they spin: twice the CPU time, taken from whoever draws beside them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])


def verified(folder: Path, facts: Mapping[str, Any], name: str) -> bytes:
    """Read a file of the reader, and check its hash.

    Raises:
        ReaderError: it is missing, or not the file that `reader.json` names.
    """
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise ReaderError(f"the reader's {name} cannot be read: {error.strerror}", _AGAIN) from error
    if hashlib.sha256(content).hexdigest() != facts["sha256"].get(name):
        raise ReaderError(f"the reader's {name} is not the file that reader.json names: its hash differs", _AGAIN)
    return content


_AGAIN = "Install safegen again; nothing is scored or drawn without its reader."

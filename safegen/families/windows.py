"""Windows: the parts of a prompt that fit into an encoder's window, and the windows put together again.

A prompt that fits into one window is left whole. A longer one is cut into several windows, whose states go side by
side, as in the web UIs (and in `lpw_stable_diffusion` among diffusers' community pipelines); its pooled
vector is the first window's. Every window is encoded, scored and repaired as a prompt of its own:
averaged over a long prompt, a harmful word would be lost among the others.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from safegen.errors import PromptError
from safegen.families.weights import Weights, cut_weights, weigh
from safegen.prompts.prompt import lay_out
from safegen.reader import captions

if TYPE_CHECKING:
    from safegen.conditioning import Conditioning
    from safegen.families.outputs import EncoderOutput
    from safegen.prompts.prompt import Prompt

Span = tuple[int, int]
Encode = Callable[[Sequence[str]], "Conditioning"]
T = TypeVar("T")


@dataclass(frozen=True)
class Window:
    """The part of a prompt that one window reads; the weights' spans count from the window's beginning."""

    prompt: str
    span: Span
    weights: Weights = ()

    @property
    def text(self) -> str:
        return self.prompt[slice(*self.span)]


@dataclass(frozen=True)
class WindowedPrompts:
    """Prompts as a model reads them.

    Attributes:
        conditioning: one row per window, prompt after prompt.
        prompts: the windows of every prompt.
    """

    conditioning: Conditioning
    prompts: tuple[tuple[Window, ...], ...]

    @classmethod
    def of(
        cls, prompts: Sequence[Prompt], outputs: Sequence[EncoderOutput], most: int, encode: Encode
    ) -> WindowedPrompts:
        """Encode prompts in as many windows as they need; for `outputs` and `most` see `cut`."""
        windows = tuple(tuple(_windows(prompt, outputs, most)) for prompt in prompts)
        return cls(encode([window.text for row in windows for window in row]), windows)

    @property
    def rows(self) -> list[Window]:
        """All windows, in the order of the conditioning's rows."""
        return [window for row in self.prompts for window in row]

    @property
    def weights(self) -> list[Weights]:
        """The weights of every window."""
        return [window.weights for window in self.rows]

    @property
    def wholes(self) -> list[str]:
        """The whole prompt that each window is a part of."""
        return [window.prompt for window in self.rows]

    def merge(self, rows: Sequence[T], merged: Callable[[Sequence[T], Sequence[str]], T]) -> list[T]:
        """Merge values per window into one value per prompt.

        Args:
            rows: one value per window.
            merged: makes one value of several, given the texts between the windows.
        """
        parts = zip(self._parts(), self.prompts, strict=True)
        return [merged(rows[start:end], _gaps(windows)) for (start, end), windows in parts]

    def abreast(self, conditioning: Conditioning) -> list[Conditioning]:
        """Put every prompt's windows side by side along T.

        Args:
            conditioning: one row per window, as it was or repaired.
        """
        rows = [conditioning.only(row) for row in range(len(conditioning.prompts))]
        return self.merge(rows, _side_by_side)

    def _parts(self) -> list[Span]:
        ends = list(itertools.accumulate((len(windows) for windows in self.prompts), initial=0))
        return list(itertools.pairwise(ends))


def cut(text: str, outputs: Sequence[EncoderOutput], most: int) -> list[Span]:
    """Find where the windows of a text begin and end.

    Args:
        text: any.
        outputs: the encoders' outputs; a part has to fit into the window of each.
        most: the largest number of windows; the last one gets all the rest, whether it fits or not.
    """
    spans: list[Span] = []
    start = 0
    while len(spans) < most - 1 and not _fits(text[start:], outputs):
        end = start + _border(text[start:], outputs)
        spans.append((start, start + len(text[start:end].rstrip())))
        start = end + len(text[end:]) - len(text[end:].lstrip())
    return [*spans, (start, len(text))]


def fill(text: str, weights: Weights, outputs: Sequence[EncoderOutput], count: int, encode: Encode) -> Conditioning:
    """Encode a text with its weights in so many windows side by side; those that it leaves over are empty."""
    spans = cut(text, outputs, count)
    spans += [(len(text), len(text))] * (count - len(spans))
    rows = encode([text[slice(*span)] for span in spans])
    rows = weigh(rows, [cut_weights(weights, span) for span in spans])
    first, *rest = [rows.only(row) for row in range(count)]
    return first.abreast(rest, text, [0] * count)


def _windows(prompt: Prompt, outputs: Sequence[EncoderOutput], most: int) -> list[Window]:
    spans = cut(prompt.text, outputs, most)
    if len(spans) > 1 and captions.parse(prompt.text) is not None:
        raise PromptError(
            f"the prompt is JSON that fills {len(spans)} windows of the text encoder, and a part of it is no JSON",
            "This model reads plain text: say it in sentences, or in less JSON.",
        )
    return [Window(prompt.text, span, cut_weights(prompt.weights, span)) for span in spans]


def _gaps(windows: Sequence[Window]) -> list[str]:
    """Give the texts of a prompt between its windows."""
    return [one.prompt[one.span[1] : other.span[0]] for one, other in itertools.pairwise(windows)]


def _side_by_side(rows: Sequence[Conditioning], gaps: Sequence[str]) -> Conditioning:
    if len(rows) == 1:
        return rows[0]
    whole, starts = lay_out([row.prompts[0] for row in rows], gaps)
    return rows[0].abreast(rows[1:], whole, starts)


def _fits(text: str, outputs: Sequence[EncoderOutput]) -> bool:
    # No token is shorter than a byte, so most prompts need no counting of tokens.
    room = min(r.window - r.tokenizer.num_special_tokens_to_add() for r in outputs)
    return all(
        len(whole.encode()) <= room or len(r.tokenizer(whole, verbose=False)["input_ids"]) <= r.window
        for r, whole in ((r, r.spelled(text)) for r in outputs)
    )


def _border(text: str, outputs: Sequence[EncoderOutput]) -> int:
    """Find where to cut a text that fills more than a window.

    The cut is after a comma or a full stop in the window's last quarter, else between words, else inside a word.
    """
    first = outputs[0]
    room = first.window - first.tokenizer.num_special_tokens_to_add()
    found = first.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    end = int(found["offset_mapping"][:room][-1][1])
    while end > 1 and not _fits(text[:end], outputs):
        end -= 1
    for sign, least in ((r"[,.;:!?]\s", end * 3 // 4), (r"\s", 0)):
        borders = [match.end() for match in re.finditer(sign, text[: end + 1]) if match.end() > least]
        if borders:
            return borders[-1]
    return max(end, 1)

"""The half of a family that encodes: with the pipeline's own method, and a name for every position.

What the pipeline's `encode_prompt` returns is split into channels, one per output of a text encoder. Everything is
encoded as diffusers would encode it.
"""

from __future__ import annotations

import abc
import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from safegen.conditioning import Channel, Conditioning, Position, Token
from safegen.errors import ModelError
from safegen.families import shortcuts, textual_inversion
from safegen.families.intercept import is_replaced
from safegen.families.outputs import EncoderOutput
from safegen.families.textual_inversion import tokens_read
from safegen.families.tokens import Text, find_unseen, pad_tokens
from safegen.families.windows import WindowedPrompts

if TYPE_CHECKING:
    from torch import Tensor

    from safegen.prompts.prompt import Prompt

Values = Mapping[str, Any]  # what encode_prompt returns, or its arguments, by name


class TextEncoders(abc.ABC):
    """The text encoders of a pipeline.

    Args:
        pipe: a diffusers pipeline.

    Raises:
        ModelError: a text encoder is missing, or its tokenizer gives no character offsets; or a guard is attached to
            the pipeline, so that its encoders cannot be seen.
    """

    result: ClassVar[tuple[str, ...]]  # what encode_prompt returns, by the names of the pipeline's arguments
    variable_length: ClassVar[bool] = False  # whether embeddings are as long as their prompts
    windows: ClassVar[int] = 1  # how many windows of the text encoder a prompt may fill
    weighted: ClassVar[bool] = False  # whether marks of weight are taken out of prompts, and obeyed
    pad_position: ClassVar[Position] = Position.PAD  # UNREAD where the denoiser masks pads, ABSENT where they are cut
    read_pads: ClassVar[int] = 0  # how many pads the denoiser reads of those that it masks

    def __init__(self, pipe: Any) -> None:
        if is_replaced(pipe, "encode_prompt"):
            raise ModelError(
                f"a guard is attached to this {type(pipe).__name__} already",
                "Detach it first; one guard takes all concepts: Guard(...) with their names.",
            )
        self.pipe = pipe
        self._encode_prompt = pipe.encode_prompt  # the pipeline's own, even once a guard is attached
        self._call = inspect.signature(type(pipe).__call__).parameters
        self.default_request = self._default_request()
        self.outputs = tuple(self.find_outputs())

    @abc.abstractmethod
    def find_outputs(self) -> Iterator[EncoderOutput]:
        """Find every output of a text encoder that reaches the denoiser."""

    @abc.abstractmethod
    def split(self, values: Values, request: Values) -> dict[str, Tensor]:
        """Split what encode_prompt returned into states (B, T, D) and pooled vectors (B, P), by channel."""

    def texts(self, prompts: Sequence[str], request: Values) -> list[Text]:
        """Give the prompts as the tokenizer gets them."""
        return [Text.plain(prompt) for prompt in prompts]

    def max_length(self, output: EncoderOutput, request: Values) -> int:
        """Give the number of tokens at which the tokenizer cuts a text."""
        return output.window

    def kept_tokens(self, row: tuple[Token, ...], request: Values) -> tuple[Token, ...]:
        """Keep those of a text's tokens whose states the pipeline hands on."""
        return row

    def padded(self, output: EncoderOutput, row: tuple[Token, ...], length: int) -> tuple[Token, ...]:
        """Fill a text's tokens up to the number of its states."""
        return pad_tokens(output.tokenizer, row, length, self.pad_position)

    def learned_words(self, text: str) -> list[tuple[int, int]]:
        """Find the textual inversions that a text names; the text does not show what they mean."""
        return sorted({span for output in self.outputs for span in textual_inversion.found(output.tokenizer, text)})

    @property
    def adapted(self) -> bool:
        """Tell whether a LoRA changes what an encoder makes of text."""
        return any(output.adapted for output in self.outputs)

    def fingerprints(self) -> dict[str, str]:
        """Give the fingerprint of each channel's encoder and output; direction files carry the same."""
        return {output.channel: output.fingerprint for output in self.outputs}

    def encode(self, prompts: Sequence[str], *, gradients: bool = False, **asked: Any) -> Conditioning:
        """Encode prompts as the denoiser would receive them, in every channel.

        Args:
            prompts: any number.
            gradients: whether the states keep how they were computed, so that gradients run back from them.
            asked: arguments of `encode_prompt` that replace its usual ones.
        """
        import torch

        request = self.default_request | {"prompt": list(prompts), "device": self.device} | asked
        with torch.set_grad_enabled(gradients):
            values = self._named(self._encode_prompt(**request))
        return self.describe(prompts, values, request)

    def encode_windows(self, prompts: Sequence[Prompt]) -> WindowedPrompts:
        """Encode prompts in as many windows as they need, up to what the family allows."""
        return WindowedPrompts.of(prompts, self.outputs, self.windows, self.encode)

    def encode_words(self, prompts: Sequence[str], pads: int = 0) -> Conditioning:
        """Encode like `encode`, but cheaper, where no other state depends on pads: with few pads or none.

        Prompts that begin as the first one does are cheapest. States are those of `encode` but for rounding.

        Args:
            prompts: any number.
            pads: how many pads stand for all.
        """
        pads = pads if self.pad_position is Position.PAD else self.read_pads
        encoders = {id(output.encoder): output for output in self.outputs if not output.layer.endswith("unmasked")}
        with contextlib.ExitStack() as stack:
            for output in encoders.values():
                stack.enter_context(shortcuts.taken(output, pads))
            found = self.encode(prompts).without_gaps()
        # A word that is spelled as the pad is may have been left out with the pads.
        whole = all(bool(channel.states.isfinite().all()) for channel in found.channels.values())
        return found if whole else self.encode(prompts)

    def _default_request(self) -> dict[str, Any]:
        """Give the arguments of `encode_prompt`, besides prompts, when the pipeline is called with prompts alone."""
        parameters = inspect.signature(self._encode_prompt).parameters
        usual = {name: self._call[name].default for name in parameters if name in self._call}
        if "do_classifier_free_guidance" in parameters:
            usual["do_classifier_free_guidance"] = False
        return {name: value for name, value in usual.items() if value is not inspect.Parameter.empty}

    @property
    def device(self) -> Any:
        """The device of the text encoders; the pipeline is asked only if they are offloaded, as it answers slowly."""
        encoder = self.outputs[0].encoder
        return self.pipe._execution_device if hasattr(encoder, "_hf_hook") else encoder.device

    def _named(self, result: Any) -> dict[str, Any]:
        return dict(zip(self.result, result, strict=True)) if len(self.result) > 1 else {self.result[0]: result}

    def _unnamed(self, values: Values) -> Any:
        """Give what encode_prompt would return."""
        return tuple(values[name] for name in self.result) if len(self.result) > 1 else values[self.result[0]]

    def describe(self, prompts: Sequence[str], values: Values, request: Values) -> Conditioning:
        """Name the positions of already encoded states.

        Raises:
            ModelError: the number of states does not fit the number of prompts or tokens.
        """
        texts, states = self.texts(prompts, request), self.split(values, request)
        channels = {r.channel: self._channel(r, texts, states[r.channel], request) for r in self.outputs}
        # Spans count in the text that the encoder reads, where that is stripped or cleaned.
        read = (p if p.lower() == t.prompt.lower() else t.prompt for p, t in zip(prompts, texts, strict=True))
        return Conditioning(tuple(read), channels)

    def _channel(self, output: EncoderOutput, texts: Sequence[Text], states: Tensor, request: Values) -> Channel:
        import torch

        seen = tokens_read(self.pipe, output.tokenizer, texts, self.max_length(output, request))
        rows = [self.kept_tokens(row, request) for row in seen]
        truncated = tuple(find_unseen(text, row) for text, row in zip(texts, rows, strict=True))
        lengths = tuple(sum(t.position is Position.TOKEN for t in row) for row in rows)
        if output.pooled:
            positions = torch.full((len(states), 1), int(Position.POOLED), device=states.device)
            return Channel(states.unsqueeze(1), positions, ((),) * len(rows), truncated, lengths)
        if len(states) != len(rows) or states.shape[1] < max(map(len, rows)):
            raise ModelError(
                f"{type(self.pipe).__name__} made {tuple(states.shape)} states of {len(rows)} prompts "
                f"with up to {max(map(len, rows))} tokens",
                "This version of diffusers encodes prompts in another way than safegen knows.",
            )
        rows = [self.padded(output, row, states.shape[1]) for row in rows]
        positions = torch.tensor([[t.position for t in row] for row in rows], device=states.device)
        return Channel(states, positions, tuple(rows), truncated, lengths)


def require_parts(pipe: Any, *names: str) -> tuple[Any, ...]:
    """Give parts of a pipeline by their names.

    Raises:
        ModelError: a part was not loaded.
    """
    for name in names:
        if getattr(pipe, name, None) is None:
            raise ModelError(
                f"the {type(pipe).__name__} has no {name}", "Load it whole: without its encoders it cannot be guarded."
            )
    return tuple(getattr(pipe, name) for name in names)

"""Gradients from what a denoiser predicts back to the words of a prompt.

Pipelines compute without gradients. Here the same code runs with them: a family's own way to encode, up to the vectors
that an encoder looks up for its tokens, and a pipeline's own call, up to the first call of its denoiser.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safegen.conditioning import Token
from safegen.families.calls import Call, arguments_to_tell, recorded
from safegen.families.denoiser import Received, watched
from safegen.families.outputs import EncoderOutput
from safegen.families.textual_inversion import tokens_read

if TYPE_CHECKING:
    from torch import Tensor

    from safegen.conditioning import Conditioning
    from safegen.families.base import Family

Span = tuple[int, int]


@dataclass(frozen=True)
class Traced:
    """One prompt, encoded so that gradients run back to its tokens.

    Attributes:
        conditioning: B = 1.
        vectors: (1, T, D), what each encoder looks up for its tokens, by the encoder's first channel.
        tokens: the tokens that belong to these, in the same order.
    """

    conditioning: Conditioning
    vectors: Mapping[str, Tensor]
    tokens: Mapping[str, tuple[Token, ...]]

    def places(self, spans: Sequence[Span]) -> dict[str, list[int]]:
        """Find, for each encoder, the place of the first token of every span of the prompt; -1 where it is cut off."""
        return {name: [_first(row, span) for span in spans] for name, row in self.tokens.items()}

    def gradients(self, loss: Tensor) -> dict[str, Tensor]:
        """Compute the gradient (T, D) of a loss in what each encoder looked up; zeros where the loss is independent."""
        import torch

        found = torch.autograd.grad(loss, list(self.vectors.values()), allow_unused=True)
        pairs = zip(self.vectors.items(), found, strict=True)
        return {name: torch.zeros_like(v[0]) if slope is None else slope[0] for (name, v), slope in pairs}


def encoders(family: Family) -> dict[str, EncoderOutput]:
    """List one output of every text encoder, by its channel."""
    found: dict[int, EncoderOutput] = {}
    for output in family.outputs:
        found.setdefault(id(output.encoder), output)
    return {output.channel: output for output in found.values()}


def trace(family: Family, prompt: str) -> Traced:
    """Encode a prompt so that gradients run back to its tokens."""
    vectors: dict[str, Tensor] = {}
    with contextlib.ExitStack() as stack:
        for channel, output in encoders(family).items():
            stack.enter_context(_noted(output.encoder, channel, vectors))
        conditioning = family.encode([prompt], gradients=True)
    request = family.default_request
    tokens = {}
    for channel, output in encoders(family).items():
        texts, longest = family.texts([prompt], request), family.max_length(output, request)
        (row,) = tokens_read(family.pipe, output.tokenizer, texts, longest)
        tokens[channel] = family.padded(output, row, vectors[channel].shape[1])
    return Traced(conditioning, vectors, tokens)


def tell(family: Family, conditioning: Conditioning, guidance: float, size: tuple[int, int]) -> Call:
    """Record how the pipeline tells its denoiser a conditioning, and keep the conditioning's gradients.

    The pipeline runs up to that call and no further. For the arguments see `safegen.families.calls.tell`.
    """
    import torch

    class Told(Exception):
        """The denoiser is called."""

    def end(_received: Received, conditional: bool) -> None:
        if conditional:
            raise Told

    denoiser = family.bottleneck.denoiser
    # Behind the decorators of a pipeline's call, of which one switches gradients off.
    call: Callable[..., Any] = inspect.unwrap(type(family.pipe).__call__)
    with torch.enable_grad(), recorded(family) as calls, contextlib.suppress(Told), watched(denoiser, end):
        call(family.pipe, **arguments_to_tell(family, conditioning, guidance, size))
    return Call(denoiser, calls[0])


@contextlib.contextmanager
def _noted(encoder: Any, name: str, found: dict[str, Tensor]) -> Iterator[None]:
    """Note what an encoder first looks up for its tokens, and make it the place where gradients end."""
    import torch

    weight = encoder.get_input_embeddings().weight

    def hook(_module: Any, _inputs: Any, output: Tensor) -> Tensor | None:
        if name in found:
            return None
        found[name] = output.detach().requires_grad_()
        return found[name]

    with contextlib.ExitStack() as stack:
        for module in encoder.modules():  # several may share the weight
            if isinstance(module, torch.nn.Embedding) and module.weight is weight:
                stack.callback(module.register_forward_hook(hook).remove)
        yield


def _first(row: Sequence[Token], span: Span) -> int:
    return next((i for i, t in enumerate(row) if t.span and t.span[0] < span[1] and t.span[1] > span[0]), -1)

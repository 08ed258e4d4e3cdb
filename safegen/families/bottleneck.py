"""The bottleneck of a denoiser, where a latent direction is added at every step.

A latent direction is one vector, the same for all steps (Li et al. 2024, arXiv 2311.17216). A UNet's bottleneck is its
middle block, which is the paper's h-space. A transformer has none; the states of the picture's tokens after its middle
block stand in. What is added reaches the conditional half alone: guidance then amplifies it as it amplifies the prompt.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from safegen.errors import DirectionError, ModelError
from safegen.families.intercept import replace_method
from safegen.families.outputs import adapter_settings, sample_weight

if TYPE_CHECKING:
    from torch import Tensor

Change = Callable[["Tensor"], "Tensor"]


@dataclass(frozen=True)
class Push:
    """A vector (D,) or, for a UNet, (D, H, W), and its weight."""

    vector: Tensor
    weight: float = 1.0


@dataclass(frozen=True)
class Received:
    """What a denoiser was called with."""

    args: tuple[Any, ...]
    named: Mapping[str, Any]


class Steerable(Protocol):
    """What is asked of a family here; see `safegen.families.base`."""

    pipe: Any
    negative_first: ClassVar[bool]

    @property
    def bottleneck(self) -> Bottleneck: ...

    def picture_tokens(self, received: Received) -> slice: ...


@dataclass(frozen=True)
class Bottleneck:
    """The block of a denoiser whose output is its bottleneck.

    Attributes:
        denoiser: the UNet or the transformer.
        block: the block.
        name: the block's place in the denoiser, as in `mid_block` or `transformer_blocks.12`.
        width: D, the width of its states.
    """

    denoiser: Any
    block: Any
    name: str
    width: int

    @property
    def kind(self) -> str:
        """What the denoiser is, as in file names."""
        return "unet" if self.name == "mid_block" else "transformer"

    @functools.cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of the denoiser's class, the block and sampled weights, as that of an encoder is made.

        A denoiser with a LoRA has another fingerprint, and one for every scale.
        """
        import hashlib

        self.check()
        digest = hashlib.sha256(f"{type(self.denoiser).__name__} {self.name} {self.width}".encode())
        for name, weight in sorted(self.denoiser.state_dict().items()):
            digest.update(sample_weight(name, name, weight))
        digest.update(adapter_settings(self.denoiser))
        return digest.hexdigest()

    def check(self) -> None:
        """Check that a hook at the block would work.

        Raises:
            ModelError: the denoiser is compiled, or its weights are elsewhere until they are used.
        """
        if any(getattr(module, "_compiled_call_impl", None) is not None for module in self.denoiser.modules()):
            raise compiled()
        if any(weight.is_meta for weight in self.denoiser.parameters()):
            raise ModelError(
                "the denoiser is streamed layer by layer, so nobody can tell whether a latent direction is its own",
                "Use --offload model, or leave latent directions out.",
            )

    @contextlib.contextmanager
    def changed(self, change: Change) -> Iterator[None]:
        """Let states pass through `change`; **changes the denoiser while the context lasts**.

        `change` gets the states of all that the block puts out, (N, D, H, W) or (N, T, D). It gives them back, the same
        object where nothing is changed.
        """

        def hook(_module: Any, _inputs: Any, output: Any) -> Any:
            whole = output[-1] if isinstance(output, tuple) else output  # behind the text's states, where it has both
            new = change(whole)
            if new is whole:
                return None
            return (*output[:-1], new) if isinstance(output, tuple) else new

        handle = self.block.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()


def find(pipe: Any, places: Sequence[str]) -> Bottleneck:
    """Find the bottleneck of a pipeline's denoiser.

    Args:
        pipe: a diffusers pipeline.
        places: the names of the denoiser's middle block, or of its lists of blocks in order.

    Raises:
        ModelError: the pipeline has no denoiser, or the denoiser has no such block or is compiled.
    """
    parts = [getattr(pipe, name, None) for name in ("unet", "transformer")]
    denoiser = next((part for part in parts if part is not None), None)
    if denoiser is None:
        raise ModelError(
            f"this {type(pipe).__name__} has no denoiser, so there is no place for a latent direction",
            "Draw with a whole model.",
        )
    if "_orig_mod" in getattr(denoiser, "_modules", {}):
        raise compiled()
    blocks: list[tuple[str, Any]] = []
    for place in places:
        found = getattr(denoiser, place, None)
        if found is None:
            raise ModelError(
                f"this {type(denoiser).__name__} has no {place}, so there is no place for a latent direction",
                "Leave out latent directions (--fair, --safe), or take another model.",
            )
        several = hasattr(found, "__len__")
        blocks += [(f"{place}.{i}", block) for i, block in enumerate(found)] if several else [(place, found)]
    name, block = blocks[len(blocks) // 2]
    return Bottleneck(denoiser, block, name, _width(denoiser.config))


def compiled() -> ModelError:
    """Make the error for a compiled denoiser: hooks that are added to it later are never called."""
    return ModelError(
        "the denoiser is compiled, and a compiled one would not hear of a vector that is added later",
        "Load it without torch.compile where latent directions are used.",
    )


def _width(config: Mapping[str, Any]) -> int:
    if "block_out_channels" in config:
        return int(config["block_out_channels"][-1])
    if "dim" in config:
        return int(config["dim"])
    return int(config["num_attention_heads"] * config["attention_head_dim"])


@contextlib.contextmanager
def steered(family: Steerable, pushes: Sequence[Sequence[Push]]) -> Iterator[None]:
    """Add vectors to what is drawn while the context lasts; **changes the pipeline** meanwhile.

    Args:
        family: the family of the pipeline that draws.
        pushes: what is added to every picture of a call; one entry for each picture, or for each prompt.

    Raises:
        ModelError: the denoiser has no hook point, or is compiled or streamed.
        DirectionError: a vector has another width than the denoiser, or is not finite.
    """
    wanted = [[push for push in own if push.weight] for own in pushes]
    if not any(wanted):
        yield
        return
    place = family.bottleneck
    place.check()
    check_vectors(place, [push.vector for own in wanted for push in own])
    adding = _Adding(family, wanted)
    with contextlib.ExitStack() as stack:
        counted = adding.counting(family.pipe.prepare_latents)
        stack.enter_context(replace_method(family.pipe, "prepare_latents", counted))
        stack.enter_context(watched(place.denoiser, adding.receive))
        stack.enter_context(place.changed(adding.add))
        yield


def check_vectors(place: Bottleneck, vectors: Sequence[Tensor]) -> None:
    """Check that vectors fit a bottleneck.

    Raises:
        DirectionError: one has another width, or is not finite.
    """
    import torch

    for vector in vectors:
        dims = (1, 3) if place.kind == "unet" else (1,)
        if vector.ndim not in dims or vector.shape[0] != place.width:
            raise DirectionError(
                f"a latent direction of shape {tuple(vector.shape)} does not fit {place.name}, "
                f"which is {place.width} wide",
                "Learn it for this model: safegen directions learn NAME --method latent",
            )
        if not bool(torch.isfinite(vector).all()):
            raise DirectionError(
                "a latent direction holds numbers that are not finite",
                "Learn it again: safegen directions learn NAME --method latent",
            )


@contextlib.contextmanager
def watched(denoiser: Any, receive: Callable[[Received, bool], None]) -> Iterator[None]:
    """Tell `receive` what the denoiser is called with, and whether the call is the conditional one.

    Pipelines that call the denoiser once for each half of guidance name the half by `cache_context`.
    """
    named = ["cond"]
    with contextlib.ExitStack() as stack:
        if hasattr(denoiser, "cache_context"):
            enter = denoiser.cache_context

            @contextlib.contextmanager
            def cache_context(name: str) -> Iterator[None]:
                named.append(name)
                try:
                    with enter(name):
                        yield
                finally:
                    named.pop()

            stack.enter_context(replace_method(denoiser, "cache_context", cache_context))

        def before(_module: Any, args: tuple[Any, ...], given: dict[str, Any]) -> None:
            receive(Received(args, given), named[-1] != "uncond")

        handle = denoiser.register_forward_pre_hook(before, with_kwargs=True)
        stack.callback(handle.remove)
        yield


class _Adding:
    """Adds to every picture its own vectors, in the conditional half of what the block puts out."""

    def __init__(self, family: Steerable, pushes: Sequence[Sequence[Push]]) -> None:
        self.family, self.pushes = family, pushes
        self.pictures = 0  # of the call in progress
        self.received, self.conditional = Received((), {}), True
        self._offsets: dict[object, Tensor] = {}

    def counting(self, prepare: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap `prepare_latents` so that the number of a call's pictures is noted."""

        def prepare_latents(*args: Any, **named: Any) -> Any:
            result = prepare(*args, **named)
            first = result[0] if isinstance(result, tuple) else result
            self.pictures = len(first)
            self._offsets.clear()
            return result

        return prepare_latents

    def receive(self, received: Received, conditional: bool) -> None:
        """Note the call of the denoiser that comes next."""
        self.received, self.conditional = received, conditional

    def add(self, states: Tensor) -> Tensor:
        """Add the vectors; rows without one keep every bit."""
        if not self.conditional:
            return states
        first = self._first_row(len(states))
        own = [i * len(self.pushes) // self.pictures for i in range(self.pictures)]
        new = states.clone()
        tokens = self.family.picture_tokens(self.received)
        for row, index in enumerate(own, start=first):
            if self.pushes[index]:
                one = new[row : row + 1]
                part = one if one.ndim == 4 else one[:, tokens]
                part += self._offset(index, part)
        return new

    def _first_row(self, rows: int) -> int:
        """Find where the conditional half begins."""
        if not self.pictures or rows not in (self.pictures, 2 * self.pictures) or self.pictures % len(self.pushes):
            raise ModelError(
                f"the denoiser was given {rows} rows for {self.pictures} pictures of {len(self.pushes)} prompts, "
                "and which of them the prompt guides cannot be told",
                "Latent directions work with the pipeline's own guidance; leave out what adds rows to it.",
            )
        return self.pictures if rows > self.pictures and self.family.negative_first else 0

    def _offset(self, index: int, states: Tensor) -> Tensor:
        """Give what is added to the states of one picture, (1, D, H, W) or (1, T, D)."""
        key = (index, states.shape, states.dtype, states.device)
        if key not in self._offsets:
            terms = [push.weight * spread(push.vector.to(states.device).float(), states) for push in self.pushes[index]]
            self._offsets[key] = sum(terms[1:], terms[0]).to(states.dtype)
        return self._offsets[key]


def spread(vector: Tensor, states: Tensor) -> Tensor:
    """Shape a vector so that it can be added to states (N, D, H, W) or (N, T, D)."""
    import torch

    if states.ndim == 3:
        return vector
    if vector.ndim == 1:
        return vector[:, None, None]
    if vector.shape[1:] == states.shape[2:]:
        return vector
    # A picture of another size: the same vector at the same relative place.
    return torch.nn.functional.interpolate(vector[None], size=states.shape[2:], mode="bilinear")[0]

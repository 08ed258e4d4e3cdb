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
from typing import TYPE_CHECKING, Any

from safegen.errors import ModelError
from safegen.families.caching import caches
from safegen.families.denoiser import find_denoiser, is_aside
from safegen.families.outputs import adapter_settings, sample_weight

if TYPE_CHECKING:
    from torch import Tensor

Change = Callable[["Tensor"], "Tensor"]


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
        """`unet` or `transformer`, as in file names."""
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

    def check_hooks(self) -> None:
        """Check that a hook in the denoiser would be called.

        Raises:
            ModelError: the denoiser is compiled, or reuses what it computed for earlier steps.
        """
        if any(getattr(module, "_compiled_call_impl", None) is not None for module in self.denoiser.modules()):
            raise compiled()
        if caches(self.denoiser):
            raise ModelError(
                "the denoiser reuses what it computed for earlier steps, and what acts in it would miss the others",
                "Load it without --cache where a latent direction, or a method that acts while drawing, is used.",
            )

    def check(self) -> None:
        """Check that a hook at the block would work, and that the denoiser's fingerprint can be taken.

        Raises:
            ModelError: see `check_hooks`; or its weights are elsewhere until they are used.
        """
        self.check_hooks()
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
            if is_aside():
                return None
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
        ModelError: the pipeline has no denoiser, or the denoiser is compiled or has no such block that is known.
    """
    denoiser = find_denoiser(pipe)
    if denoiser is None:
        raise ModelError(
            f"this {type(pipe).__name__} has no denoiser, so there is no place for a latent direction",
            "Draw with a whole model.",
        )
    if "_orig_mod" in getattr(denoiser, "_modules", {}):
        raise compiled()
    if not places:
        raise ModelError(
            f"where to act in a {type(denoiser).__name__} is not known",
            "Leave out latent directions (--fair, --safe), and take a --safeguard that does not act while drawing.",
        )
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
        "Load it without torch.compile where something acts in the denoiser.",
    )


def _width(config: Mapping[str, Any]) -> int:
    if "block_out_channels" in config:
        return int(config["block_out_channels"][-1])
    if "dim" in config:
        return int(config["dim"])
    return int(config["num_attention_heads"] * config["attention_head_dim"])

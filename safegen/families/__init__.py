"""One file per family of models: encode a prompt, hand conditioning to the pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from safegen.errors import ModelError

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Sequence

    from safegen.conditioning import Conditioning


class Family(Protocol):
    """What safegen needs of a pipeline."""

    pipe: Any

    @property
    def encoder_kind(self) -> str:
        """The text encoder's architecture, for file names: `bert`, `clip_text_model`, …"""
        ...

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Prompts as the denoiser would receive them, every text channel of it."""
        ...

    def encode_words(self, prompts: Sequence[str]) -> Conditioning:
        """The same without pads beyond the longest prompt where that changes no other state; cheaper."""
        ...

    def arguments(self, conditioning: Conditioning, negative: str, guidance: float) -> dict[str, Any]:
        """Keyword arguments that make the pipeline draw from `conditioning`."""
        ...

    def intercepted(self, repair: Callable[[Conditioning], Conditioning]) -> contextlib.AbstractContextManager[None]:
        """While the context lasts, the pipeline's own calls draw from repaired conditioning."""
        ...

    def fingerprints(self) -> dict[str, str]:
        """Per channel, the SHA-256 of the encoder that a direction file must have been learned on."""
        ...


def family_of(pipe: Any) -> Family:
    """The family of a diffusers pipeline.

    Raises:
        ModelError: the pipeline's class is not supported; nothing is ever half-guarded.
    """
    from safegen.families.stable_diffusion import StableDiffusion

    name = type(pipe).__name__
    if name in StableDiffusion.pipelines:
        return StableDiffusion(pipe)
    raise ModelError(
        f"safegen cannot guard a {name}",
        f"Supported pipelines: {', '.join(StableDiffusion.pipelines)}.",
    )

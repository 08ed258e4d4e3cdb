"""Speed: compiling, caching and other attention, as diffusers has them. All of it touches the denoiser alone.

So what encoders make of a text stays as it was, to the bit, and directions go on fitting.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from safegen.errors import ModelError, UsageError

if TYPE_CHECKING:
    from safegen.models.options import LoadOptions

# Those of diffusers' caches that need neither a calibration nor a function of the caller's, with the denoisers that can
# be drawn with them. The first-block cache fails where blocks with two streams are followed by blocks with one.
CACHES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "first-block": ("FirstBlockCacheConfig", ("FluxTransformer2DModel", "QwenImageTransformer2DModel")),
    "taylorseer": (
        "TaylorSeerCacheConfig",
        ("FluxTransformer2DModel", "QwenImageTransformer2DModel", "Flux2Transformer2DModel"),
    ),
}
# Diffusers' names, and the packages that they need. Those that fetch compiled code from the hub are left out: code of
# others is not run.
ATTENTIONS: Mapping[str, tuple[str, str]] = {
    "native": ("native", ""),
    "flex": ("flex", ""),
    "cudnn": ("_native_cudnn", ""),
    "flash": ("flash", "flash_attn"),
    "flash3": ("_flash_3", "flash_attn_interface"),
    "sage": ("sage", "sageattention"),
    "xformers": ("xformers", "xformers"),
}
PIP = {"flash_attn": "flash-attn", "flash_attn_interface": "flash-attn-3"}  # where pip has another name than Python


def check(how: LoadOptions) -> None:
    """Check that every option is known, and what it needs is installed, before anything is loaded.

    Raises:
        UsageError: the cache or the attention is not known.
        ModelError: a package is not installed, or this version of diffusers is too old.
    """
    for key, value, known in (("cache", how.cache, CACHES), ("attention", how.attention, ATTENTIONS)):
        if value is not None and value not in known:
            raise UsageError(f"unknown {key} {value!r}", f"One of: {', '.join(known)}.")
    package = ATTENTIONS[how.attention][1] if how.attention else ""
    if package and importlib.util.find_spec(package) is None:
        raise ModelError(f"--attention {how.attention} needs {package}", f"pip install {PIP.get(package, package)}")


def apply(pipe: Any, how: LoadOptions) -> None:
    """Do with the denoiser what is asked for; **changes the pipeline**.

    Raises:
        ModelError: the denoiser has no such thing.
    """
    from safegen.families.denoiser import find_denoiser  # with it come all families, which `--help` does without

    denoiser = find_denoiser(pipe)
    if denoiser is None or not (how.compile or how.cache or how.attention):
        return
    try:
        if how.attention:
            denoiser.set_attention_backend(ATTENTIONS[how.attention][0])
        if how.cache:
            _cache(denoiser, how.cache)
        if how.compile:
            _compile(denoiser)
    except ModelError:
        raise
    except Exception as error:  # diffusers raises many kinds; all mean that this denoiser cannot
        text = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise ModelError(
            f"a {type(denoiser).__name__} cannot be sped up like this: {text[:300]}",
            "Leave out --compile, --cache or --attention, or pip install --upgrade diffusers.",
        ) from error


def _cache(denoiser: Any, name: str) -> None:
    """Turn a cache on.

    Raises:
        ModelError: this denoiser cannot be drawn with it, or this version of diffusers has no such cache.
    """
    import diffusers

    own = type(denoiser).__name__
    if own not in CACHES[name][1]:
        others = [other for other, (_, known) in CACHES.items() if own in known]
        raise ModelError(
            f"a {own} takes no --cache {name}",
            f"It takes {', '.join(others)}." if others else "Leave it out; FLUX.1, FLUX.2 and Qwen-Image take one.",
        )
    config = getattr(diffusers, CACHES[name][0], None)
    if config is None:
        raise ModelError(f"diffusers {diffusers.__version__} has no cache {name}", "pip install --upgrade diffusers")
    denoiser.enable_cache(config())


def _compile(denoiser: Any) -> None:
    """Compile in place, so that classes and names of weights stay; where blocks repeat, one of each kind."""
    if getattr(denoiser, "_repeated_blocks", None):
        denoiser.compile_repeated_blocks()
    else:
        denoiser.compile()

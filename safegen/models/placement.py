"""Where a pipeline runs, and in which precision: device, dtype, offloading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from safegen.errors import ModelError, UsageError

if TYPE_CHECKING:
    from safegen.models.options import LoadOptions

DTYPES = ("auto", "float32", "float16", "bfloat16")
OFFLOADS = ("none", "model", "sequential")


def check(how: LoadOptions) -> None:
    """Check that every option is known, before anything is loaded.

    Raises:
        UsageError: the dtype or the way to offload is not known.
    """
    for key, value, known in (("dtype", how.dtype, DTYPES), ("offload", how.offload, OFFLOADS)):
        if value not in known:
            raise UsageError(f"unknown {key} {value!r}", f"One of: {', '.join(known)}.")


def place(pipe: Any, where: str, how: LoadOptions) -> Any:
    """Put the pipeline on its device, or offload it, and turn on the decoder's memory savers that are asked for.

    Raises:
        ModelError: there is nothing to offload from.
    """
    if how.slicing and pipe.vae is not None:
        pipe.vae.enable_slicing()
    if how.tiling and pipe.vae is not None:
        pipe.vae.enable_tiling()
    offload = how.offload
    if offload == "none":
        return pipe.to(where)
    if where == "cpu":
        raise ModelError(
            f"--offload {offload} needs a GPU to offload from", "Leave it out; on the CPU it saves nothing."
        )
    if offload == "model":
        pipe.enable_model_cpu_offload(device=where)
    else:
        pipe.enable_sequential_cpu_offload(device=where)
    return pipe


def device(wanted: str, torch: Any) -> str:
    """Try the device asked for, or choose the best one here.

    Raises:
        ModelError: the device cannot be used.
    """
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=wanted)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"the device {wanted!r} cannot be used here", "Leave out --device, or use cpu.") from error
    return wanted


def check_dtype(wanted: str, device: str, torch: Any) -> None:
    """Try the dtype on the device.

    Raises:
        ModelError: the device cannot compute in it.
    """
    if wanted == "auto":
        return
    try:
        some = torch.ones(1, 8, 8, 8, device=device, dtype=getattr(torch, wanted))
        torch.nn.functional.conv2d(some, some) @ some[..., :1, :1]
    except (RuntimeError, TypeError) as error:
        raise ModelError(
            f"the device {device!r} cannot compute in {wanted}", "Leave out --dtype, or use float32."
        ) from error


def dtype(wanted: str, device: str, kind: str, torch: Any) -> Any:
    """Choose the dtype: the one asked for, else what the pipeline's class was trained in, or float32 on the CPU."""
    if wanted != "auto":
        return getattr(torch, wanted)
    halved = torch.float16 if kind.startswith(("StableDiffusionPipeline", "StableDiffusionXL")) else torch.bfloat16
    return torch.float32 if device == "cpu" else halved

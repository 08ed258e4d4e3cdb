"""Schedulers by the names that people know, to replace the one that a model comes with.

Distilled checkpoints need the scheduler that they were distilled for. The noise settings of the model's own
scheduler (betas, what is predicted, shifts) are kept.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from safegen.errors import ModelError, UsageError

Choice = tuple[str, Mapping[str, Any]]  # a class of diffusers, and its settings beside the model's own

NAMES: Mapping[str, Choice] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "dpm++ 2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "dpm++ 2m sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpm++ 2s": ("DPMSolverSinglestepScheduler", {}),
    "dpm2": ("KDPM2DiscreteScheduler", {}),
    "dpm2 a": ("KDPM2AncestralDiscreteScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "tcd": ("TCDScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}
# The same for flow-matching models, whose noise is different.
FLOWS: Mapping[str, Choice] = {
    "dpm++ 2m": ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}),
    "euler": ("FlowMatchEulerDiscreteScheduler", {}),
    "heun": ("FlowMatchHeunDiscreteScheduler", {}),
    "lcm": ("FlowMatchLCMScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}),
}
SPACINGS: Mapping[str, Mapping[str, Any]] = {
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
    "beta": {"use_beta_sigmas": True},
    "trailing": {"timestep_spacing": "trailing"},
}
# How other tools write these names.
SAME = (
    (r"[\s_-]+", " "),
    (r"\bdpm ?pp|\bdpm ?\+\+", "dpm++"),
    (r"\bdpm\+\+ ?", "dpm++ "),
    (r" ancestral\b", " a"),
    (r"\bplms\b", "pndm"),
    (r"\buni pc\b", "unipc"),
    (r"\bdpm 2\b", "dpm2"),
    (r"\b(sgm uniform|uniform trailing)\b", "trailing"),
)


def check(name: str | None) -> None:
    """Check that a scheduler is known, before a model loads.

    Raises:
        UsageError: it is not.
    """
    if name is not None:
        _parsed(name)


def exchange(pipe: Any, name: str | None, passes_sigmas: bool) -> None:
    """Give a pipeline the scheduler of that name; with None it keeps its own. **Changes `pipe`**.

    Args:
        pipe: a pipeline.
        name: one of `NAMES`, alone or followed by one of `SPACINGS`.
        passes_sigmas: whether the pipeline tells its scheduler the noise of every step.

    Raises:
        UsageError: the name is not known.
        ModelError: the model cannot be drawn with it.
    """
    if name is None:
        return
    import diffusers

    base, spacing = _parsed(name)
    own = pipe.scheduler
    if isinstance(own, diffusers.SCMScheduler):
        raise ModelError(
            f"a {type(pipe).__name__} was distilled for its own scheduler, and cannot be drawn with {name!r}",
            "Leave out --scheduler.",
        )
    known = FLOWS if _flows(own) else NAMES
    fitting = [n for n, choice in known.items() if not passes_sigmas or _takes_sigmas(getattr(diffusers, choice[0]))]
    if base not in fitting:
        raise ModelError(
            f"a {type(pipe).__name__} cannot be drawn with the scheduler {name!r}", f"One of: {', '.join(fitting)}."
        )
    kind, more = getattr(diffusers, known[base][0]), {**known[base][1], **SPACINGS.get(spacing, {})}
    takes = inspect.signature(kind.__init__).parameters
    if lacking := [key for key in SPACINGS.get(spacing, {}) if key not in takes]:
        raise ModelError(
            f"the scheduler {base!r} has no {spacing} spacing ({lacking[0]})", f"Say --scheduler '{base}'."
        )
    if more.get("use_flow_sigmas") and own.config.get("shift"):
        more["flow_shift"] = own.config["shift"]
    ours = {f"use_{other}_sigmas": False for other in ("karras", "exponential", "beta") if spacing in SPACINGS}
    pipe.scheduler = kind.from_config(own.config, **{**{k: v for k, v in ours.items() if k in takes}, **more})


def _parsed(name: str) -> tuple[str, str]:
    """Split a scheduler's name into one of `NAMES` and one of `SPACINGS`, which may be empty."""
    text = name.strip().lower()
    for pattern, replacement in SAME:
        text = re.sub(pattern, replacement, text)
    base, _, spacing = text.rpartition(" ")
    if spacing not in SPACINGS:
        base, spacing = text, ""
    base = base.strip()
    if base not in NAMES:
        raise UsageError(
            f"unknown scheduler {name!r}", f"One of: {', '.join(NAMES)}; some with {', '.join(SPACINGS)} behind it."
        )
    return base, spacing


def _flows(scheduler: Any) -> bool:
    config = scheduler.config
    flow = config.get("use_flow_sigmas") or config.get("prediction_type") == "flow_prediction"
    return bool(flow) or type(scheduler).__name__.startswith("FlowMatch")


def _takes_sigmas(kind: Any) -> bool:
    """Tell whether a scheduler takes a pipeline's sigmas unchanged; those not made for flow matching shift them."""
    return kind.__name__.startswith("FlowMatch") and "sigmas" in inspect.signature(kind.set_timesteps).parameters

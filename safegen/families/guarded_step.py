"""The block that stands in the place of a modular pipeline's text encoder while a guard is attached."""

from __future__ import annotations

import copy
from typing import Any

from safegen.errors import ModelError
from safegen.families.base import Family, Repair

FIELDS = "denoiser_input_fields"  # the kind of values that blocks hand to the denoiser
# Of guiders: how far a picture is led away from the negative prompt.
SCALES = ("guidance_scale", "guidance_scales", "adaptive_projected_guidance_scale")


class GuardedStep:
    """A block that lets another one encode the prompt, and repairs what that has written.

    To its pipeline it looks like the other. A deep copy is one of the other alone: a guard belongs to one pipeline.
    """

    def __init__(self, step: Any, family: Family, fields: set[str], repair: Repair) -> None:
        self.step, self._family, self._fields, self._repair = step, family, fields, repair
        names = {one.name for one in step.expected_components} - {"guider"}
        self._parts = {name: getattr(family.pipe, name, None) for name in sorted(names)}

    def __getattr__(self, name: str) -> Any:
        if name == "step":  # of an object that is not made yet
            raise AttributeError(name)
        return getattr(self.step, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self.step, memo)

    def __call__(self, pipe: Any, state: Any) -> Any:
        """Encode the prompt of a call, and repair its states.

        Raises:
            ModelError: the call has no text, or anything else that the guard would not see; or a tokenizer or an
                encoder is another than when the guard was attached.
        """
        if other := [name for name, part in self._parts.items() if getattr(pipe, name, None) is not part]:
            raise ModelError(
                f"the {', '.join(other)} of this {type(pipe).__name__} is not the one that the guard knows",
                "Detach the guard, and attach it anew: it belongs to the encoders that it was attached with.",
            )
        _check_guider(getattr(pipe, "guider", None), state)
        request = self._request(state)
        prompts = self._family.prompts_of(request)  # first: Z-Image's block writes its template into a list of them
        result = self.step(pipe, state)
        values = {name: state.get(name) for name in self._family.result}
        for name, value in self._family.mended(prompts, values, request, self._repair).items():
            # A mask that leaves nothing out is None to classic pipelines; blocks count on one.
            state.set(name, values[name].new_ones(state.get("prompt_embeds").shape[:2]) if value is None else value)
        return result

    def _request(self, state: Any) -> dict[str, Any]:
        """Give what a call asks for, by the names of the arguments of `encode_prompt`."""
        told = state.get_by_kwargs(FIELDS)
        if unknown := [name for name, value in told.items() if value is not None and name not in self._fields]:
            raise ModelError(
                f"a guarded pipeline cannot take {', '.join(unknown)}", "It is not known what that tells the denoiser."
            )
        asked = {one.name: state.get(one.name) for one in self.step.inputs}
        extras = asked.get("joint_attention_kwargs") or asked.get("cross_attention_kwargs") or {}
        named = {name: value for name, value in asked.items() if value is not None}
        return self._family.default_request | {"prompt": None, "lora_scale": extras.get("scale")} | named


def _check_guider(guider: Any, state: Any) -> None:
    """Check that pictures are led away from a call's negative prompt, which no guard repairs, and never to it.

    From the predictions c with the prompt and u with the negative one a guider draws u + s (c - u), of which some is u
    while the scale s is below 1; in the original formulation, c + s (c - u), while it is below 0. Whether it is on
    now says little: SDXL's blocks turn it on later.

    Raises:
        ModelError: they would be led to it.
    """
    least = 0.0 if getattr(guider, "use_original_formulation", False) else 1.0
    scales = [getattr(guider, name, None) for name in SCALES]
    flat = [one for scale in scales for one in (scale if isinstance(scale, (list, tuple)) else [scale])]
    low = [scale for scale in flat if scale is not None and not scale >= least]
    named = [name for name, value in state.values.items() if name.startswith("negative_prompt") and _says(value)]
    if low and named:
        raise ModelError(
            f"with a guidance scale of {low[0]} a guarded pipeline would draw its {', '.join(named)}",
            f"Leave it out, or give the guider a scale of at least {least:g}.",
        )


def _says(value: Any) -> bool:
    """Tell whether a negative prompt, or its embedding, says anything."""
    texts = [value] if isinstance(value, str) else value
    return value is not None and (not isinstance(texts, (list, tuple)) or any(text != "" for text in texts))


def without(block: Any, own: GuardedStep) -> Any:
    """Take the block of one guard out of those that stand around the encoder's; the others stay."""
    if block is own:
        return own.step
    if isinstance(block, GuardedStep):
        block.step = without(block.step, own)
    return block


def unguarded(block: Any) -> Any:
    """Give the block that is left when all guards are taken out."""
    return unguarded(block.step) if isinstance(block, GuardedStep) else block

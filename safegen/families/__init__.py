"""Families of models, one file each: encode a prompt, and hand conditioning to the pipeline."""

from __future__ import annotations

import contextlib
from typing import Any

from safegen.errors import ModelError
from safegen.families import modular
from safegen.families.aura_flow import AuraFlow
from safegen.families.base import Family, Repair
from safegen.families.chroma import Chroma
from safegen.families.cogview import CogView3, CogView4
from safegen.families.deepfloyd_if import DeepFloydIF
from safegen.families.ernie_image import ErnieImage
from safegen.families.flux import Flux
from safegen.families.flux2 import Flux2
from safegen.families.flux3 import Flux3
from safegen.families.hunyuan_dit import HunyuanDiT
from safegen.families.ideogram4 import Ideogram4
from safegen.families.kandinsky3 import Kandinsky3
from safegen.families.krea2 import Krea2
from safegen.families.lumina import Lumina, Lumina2
from safegen.families.nucleus import Nucleus
from safegen.families.ovis import Ovis
from safegen.families.pixart import PixArt
from safegen.families.prx import PRX
from safegen.families.qwen_image import QwenImage
from safegen.families.qwen_image_21 import QwenImage21
from safegen.families.qwen_image_edit import QwenImageEdit
from safegen.families.refused import REFUSED
from safegen.families.sana import Sana, SanaSprint
from safegen.families.stable_diffusion import StableDiffusion
from safegen.families.stable_diffusion_3 import StableDiffusion3
from safegen.families.stable_diffusion_xl import StableDiffusionXL
from safegen.families.wan import Wan
from safegen.families.z_image import ZImage

FAMILIES: tuple[type[Family], ...] = (
    *(StableDiffusion, StableDiffusionXL, StableDiffusion3, Flux),
    *(PixArt, Sana, SanaSprint, QwenImage, ZImage, Flux2),
    *(Chroma, AuraFlow, CogView3, CogView4, Lumina, Lumina2, Ovis, Krea2),
    *(QwenImageEdit, QwenImage21, Nucleus, HunyuanDiT, PRX, ErnieImage),
    *(Kandinsky3, DeepFloydIF, Ideogram4, Wan, Flux3),
)

__all__ = ["FAMILIES", "Family", "check_class", "family_of", "intercepted"]


def check_class(name: str, encoder: str | None = None) -> type[Family]:
    """Find the family of a pipeline's class, before any part of the pipeline is loaded.

    Args:
        name: the name of the class.
        encoder: the class of its text encoder, where it has one.

    Raises:
        ModelError: the class is not supported. A known text encoder does not help: no pipeline is half-guarded.
    """
    kind = modular.kind_of(name)
    for family in FAMILIES:
        if kind in family.pipelines:
            return family
    reason = f"Which states of its {encoder} reach the denoiser is not known, and what is left out leaks. "
    known = f": {REFUSED[name]}" if name in REFUSED else ""
    raise ModelError(
        f"safegen cannot guard a {name}{known}",
        f"{reason if encoder and not known else ''}safegen models classes lists what it can guard.",
    )


def family_of(pipe: Any) -> Family:
    """Find the family of a diffusers pipeline by its class; a modular one has that of its classic form.

    Raises:
        ModelError: the class is not supported, or parts of the pipeline are missing.
    """
    encoder = getattr(pipe, "text_encoder", None)
    family = check_class(type(pipe).__name__, None if encoder is None else type(encoder).__name__)
    return family(modular.classic(pipe) if modular.is_modular(pipe) else pipe)


def intercepted(pipe: Any, family: Family, repair: Repair) -> contextlib.AbstractContextManager[None]:
    """Let calls of a pipeline draw from repaired conditioning; **changes it while the context lasts**.

    Raises:
        ModelError: it is modular, and has blocks that cannot be guarded.
    """
    return modular.intercepted(pipe, family, repair) if modular.is_modular(pipe) else family.intercepted(repair)

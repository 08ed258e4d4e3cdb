"""LoRAs as other tools write them: every module at the scale of its file, or refused by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from safegen.errors import ModelError
from safegen.models import loading
from tests.helpers.additions import ATTENTION, added, lora, numbers

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries, about models as small as these


def kohya(folder: Path, alphas: dict[str, float | None], shapes: dict[str, tuple[int, ...]]) -> Path:
    """A file as most trainers write it; the ranks are 2, 3, 4, 2, …"""
    tensors = {}
    for count, (name, alpha) in enumerate(alphas.items()):
        out, *wide = shapes[name]
        rank = 2 + count % 3
        up = (out, rank, *(1 for _ in wide[1:]))
        tensors |= {f"{name}.lora_down.weight": numbers(rank, *wide), f"{name}.lora_up.weight": numbers(*up)}
        if alpha is not None:
            tensors[f"{name}.alpha"] = torch.tensor(alpha)
    save_file(tensors, folder / "resized.safetensors")
    return folder / "resized.safetensors"


BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0"
# By name in the file: the module's name here, and the widths of what goes out and in.
LAYERS: dict[str, tuple[str, tuple[int, ...]]] = {
    f"lora_unet_{BLOCK.replace('.', '_')}_attn1_to_q": (f"unet.{BLOCK}.attn1.to_q", (16, 16)),
    f"lora_unet_{BLOCK.replace('.', '_')}_attn1_to_out_0": (f"unet.{BLOCK}.attn1.to_out.0", (16, 16)),
    f"lora_unet_{BLOCK.replace('.', '_')}_ff_net_0_proj": (f"unet.{BLOCK}.ff.net.0.proj", (128, 16)),
    "lora_unet_down_blocks_1_attentions_0_proj_in": ("unet.down_blocks.1.attentions.0.proj_in", (16, 16, 1, 1)),
    "lora_te_text_model_encoder_layers_0_self_attn_q_proj": (
        "text_encoder.encoder.layers.0.self_attn.q_proj",
        (64, 64),
    ),
    "lora_te_text_model_encoder_layers_1_self_attn_out_proj": (
        *("text_encoder.encoder.layers.1.self_attn.out_proj", (64, 64)),
    ),
    "lora_te_text_model_encoder_layers_0_mlp_fc1": ("text_encoder.encoder.layers.0.mlp.fc1", (32, 64)),
}
SECOND = "lora_te2_text_model_encoder_layers_0_self_attn_out_proj"


def scales(pipe: Any) -> dict[str, float]:
    """The scale of every module with a LoRA; the former name of CLIP's inner model left out."""
    return {
        f"{part}.{name}".replace(".text_model.", "."): module.scaling["lora_0"]
        for part in ("unet", "transformer", "text_encoder", "text_encoder_2")
        if (model := getattr(pipe, part, None)) is not None
        for name, module in model.named_modules()
        if "lora_0" in getattr(module, "lora_alpha", {})
    }


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize(
    "alphas",
    [
        (8.0, 1.0, 2.0, 4.0, 0.5, 16.0, 3.0),
        (8.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0),
        (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0),
        (4.0, None, 4.0, None, None, 0.0, 4.0),
        (None,) * 7,
    ],
)
def test_every_module_is_scaled_as_its_file_says(
    tmp_path: Path, alphas: tuple[float | None, ...], scale: float
) -> None:
    path = kohya(tmp_path, dict(zip(LAYERS, alphas, strict=True)), {name: shape for name, (_, shape) in LAYERS.items()})
    wanted = {
        module: (1.0 if alpha is None else alpha / (2 + count % 3)) * scale
        for count, ((module, _), alpha) in enumerate(zip(LAYERS.values(), alphas, strict=True))
    }
    assert scales(added("sd", loras=[f"{path}:{scale}"])) == pytest.approx(wanted)


def test_both_encoders_of_sdxl_keep_their_scales(tmp_path: Path) -> None:
    """The second is 80 wide; the first goes by another name in files for SDXL."""
    alphas, shapes, wanted = {}, {}, {}
    for count, (name, (module, shape)) in enumerate(LAYERS.items()):
        other = name.replace("lora_te_", "lora_te1_")
        alphas[other], shapes[other], wanted[module] = float(count), shape, count / (2 + count % 3)
    alphas[SECOND], shapes[SECOND] = 9.0, (80, 80)
    wanted["text_encoder_2.encoder.layers.0.self_attn.out_proj"] = 9.0 / (2 + len(LAYERS) % 3)
    assert scales(added("sdxl", loras=[kohya(tmp_path, alphas, shapes)])) == pytest.approx(wanted)


@pytest.mark.parametrize("alpha", [float("nan"), float("inf")])
def test_an_alpha_that_is_no_number_is_refused_by_name(tmp_path: Path, alpha: float) -> None:
    name, (module, shape) = next(iter(LAYERS.items()))
    with pytest.raises(ModelError, match=re.escape(module.rpartition(".")[0])):
        added("sd", loras=[kohya(tmp_path, {name: alpha}, {name: shape})])


def test_an_alpha_without_weights_is_refused(tmp_path: Path) -> None:
    name, (_, shape) = next(iter(LAYERS.items()))
    path = kohya(tmp_path, {name: 1.0}, {name: shape})
    save_file({**load_file(path), "lora_unet_nowhere.alpha": torch.tensor(1.0)}, path)
    with pytest.raises(ModelError, match="lora_unet_nowhere"):
        added("sd", loras=[path])


@pytest.mark.parametrize(
    ("further", "words"),
    [
        ({"{}.dora_scale": (16, 1)}, "is a DoRA: diffusers leaves its dora_scale out"),
        ({"{}.hada_w1_a": (16, 2), "{}.hada_w1_b": (2, 16)}, "LoHa of LyCORIS, which diffusers cannot load"),
        ({"{}.lokr_w1": (4, 4), "{}.lokr_w2": (4, 4)}, "LoKr of LyCORIS, which diffusers cannot load"),
        ({"{}.oft_blocks": (4, 4, 4)}, "OFT of LyCORIS, which diffusers cannot load"),
        ({"{}.lora_mid.weight": (2, 2, 3, 3)}, "of LyCORIS, which diffusers cannot load"),
    ],
)
@pytest.mark.parametrize("beside", [True, False])
def test_what_diffusers_leaves_out_is_refused_by_name(
    tmp_path: Path, further: dict[str, tuple[int, ...]], words: str, beside: bool
) -> None:
    """Alone in a file, or beside a LoRA that could be drawn with."""
    name, (_, shape) = next(iter(LAYERS.items()))
    path = kohya(tmp_path, {name: 1.0}, {name: shape})
    some = load_file(path) if beside else {f"{name}.alpha": torch.tensor(1.0)}
    save_file({**some, **{key.format(name): numbers(*shape) for key, shape in further.items()}}, path)
    for kind in ("sd", "flux-dev"):
        with pytest.raises(ModelError, match=words):
            added(kind, loras=[path])
    if "LoKr" not in words:  # which some pipelines can load
        with pytest.raises(ModelError, match=words):
            loading.load("nowhere/at-all", offline=True, loras=[path])


def test_weight_decomposition_in_peft_s_own_layout_is_drawn_with(tmp_path: Path) -> None:
    path = lora(tmp_path, (ATTENTION, 64, 16))
    save_file({**load_file(path), f"{ATTENTION}.lora_magnitude_vector": torch.full((16,), 0.25)}, path)
    layer = added("sd", loras=[path]).unet.get_submodule(ATTENTION.removeprefix("unet."))
    assert layer.lora_magnitude_vector["lora_0"].weight.tolist() == [0.25] * 16


def test_alphas_beside_weights_in_diffusers_own_layout(tmp_path: Path) -> None:
    """Of FLUX alone; of others such a file is refused."""
    tensors, wanted = {}, {}
    for count, part in enumerate(("to_q", "to_k", "to_v")):
        name = f"transformer.transformer_blocks.0.attn.{part}"
        tensors |= {f"{name}.lora_A.weight": numbers(2 + count, 32), f"{name}.lora_B.weight": numbers(32, 2 + count)}
        tensors[f"{name}.alpha"] = torch.tensor(8.0 - count)
        wanted[name] = (8 - count) / (2 + count)
    save_file(tensors, tmp_path / "style.safetensors")
    assert scales(added("flux-dev", loras=[tmp_path / "style.safetensors"])) == pytest.approx(wanted)
    with pytest.raises(ModelError, match="cannot load the LoRA"):
        added("sd", loras=[tmp_path / "style.safetensors"])

#!/usr/bin/env bash
# diffusers 0.42.1, transformers 5.24.0, torch 2.13.0.
#
# What was expected: with `output_type="pt"` a pipeline gives the picture that "np" and "pil" give, as a tensor: values
# from 0 to 1, as Stable Diffusion and nearly all others have it.
# What happens: `Kandinsky3Pipeline` gives the decoder's own values, from about -1 to 1 and not clamped. They become the
# picture of "np" only by x / 2 + 0.5, clamped. No warning tells, and the shape is the usual one.
# Why it matters here: who hands such tensors to an image checker or a judge shows it a picture whose dark half is black
# and whose contrast is doubled. What it says is of another picture than the one that is saved.
# What to do: take "pil" or "np", and make tensors of those; so does everything of safegen that looks at pictures.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q torch==2.13.0
env/bin/pip install -q diffusers==0.42.1 transformers==5.24.0
cat >ranges.py <<'PY'
import torch
from diffusers import (
    AutoencoderKL, DDIMScheduler, DDPMScheduler, Kandinsky3Pipeline, Kandinsky3UNet, StableDiffusionPipeline,
    UNet2DConditionModel, VQModel,
)

torch.manual_seed(0)
denoiser = Kandinsky3UNet(
    time_embedding_dim=8, groups=2, attention_head_dim=4, layers_per_block=2, block_out_channels=(8, 16, 32, 64),
    cross_attention_dim=16, encoder_hid_dim=64,
)
decoder = VQModel(
    block_out_channels=(32,) * 4, down_block_types=("DownEncoderBlock2D",) * 4, latent_channels=4, norm_type="spatial",
    up_block_types=("UpDecoderBlock2D",) * 4, num_vq_embeddings=8, vq_embed_dim=4,
)
kandinsky = Kandinsky3Pipeline(None, None, denoiser, DDPMScheduler(), decoder)
stable = StableDiffusionPipeline(
    AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",), up_block_types=("UpDecoderBlock2D",), block_out_channels=(8,),
        latent_channels=4, norm_num_groups=4, sample_size=8,
    ),
    None, None,
    UNet2DConditionModel(
        sample_size=8, block_out_channels=(8,), down_block_types=("CrossAttnDownBlock2D",), layers_per_block=1,
        up_block_types=("CrossAttnUpBlock2D",), cross_attention_dim=16, norm_num_groups=4, attention_head_dim=4,
    ),
    DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1), None, None, requires_safety_checker=False,
)
size = {"height": 64, "width": 64}
given = {
    "kandinsky": (kandinsky, {"prompt_embeds": torch.randn(1, 128, 64), "attention_mask": torch.ones(1, 128), **size}),
    "stable": (stable, {"prompt_embeds": torch.randn(1, 77, 16), "height": 8, "width": 8}),
}
same = {}
for name, (pipe, options) in given.items():
    pipe.set_progress_bar_config(disable=True)

    def picture(kind):
        noise = torch.Generator().manual_seed(1)
        drawn = pipe(**options, guidance_scale=1.0, num_inference_steps=2, generator=noise, output_type=kind).images
        return drawn if kind == "pt" else torch.from_numpy(drawn).permute(0, 3, 1, 2)

    tensor, array = picture("pt"), picture("np")
    print(f"{name}: pt from {tensor.min():.2f} to {tensor.max():.2f}, np from {array.min():.2f} to {array.max():.2f}")
    same[name] = torch.allclose(tensor, array, atol=1e-5)
    if name == "kandinsky":
        assert tensor.min() < 0
        assert torch.allclose((tensor / 2 + 0.5).clamp(0, 1), array, atol=1e-5)
print("pt is np:", same)
assert same == {"kandinsky": False, "stable": True}
PY
env/bin/python ranges.py

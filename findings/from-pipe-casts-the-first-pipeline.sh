#!/usr/bin/env bash
# diffusers 0.42.1, transformers 5.24.0.
#
# What was expected: `StableDiffusionImg2ImgPipeline.from_pipe(pipe)` gives a second pipeline around the parts of the
# first one and leaves the first one as it was; a pipeline in bfloat16 has a second one in bfloat16.
# What happens: unless a dtype is asked for, every part is cast to float32. The parts are shared, so the *first* pipeline
# is in float32 from then on, needs twice the memory, and its text encoder gives other states than before.
# Why it matters here: a guard is fitted to what an encoder puts out, and making an image-to-image pipeline beside it
# changes that behind its back.
# What to do: make the class directly from `pipe.components` (safegen/families/pictured.py, `derive`).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0
"$work/venv/bin/pip" install -q diffusers==0.42.1 transformers==5.24.0
cd "$work"
venv/bin/python - <<'PY'
import diffusers
import torch
import transformers

config = transformers.CLIPTextConfig(vocab_size=4, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                                     num_attention_heads=1, bos_token_id=0, eos_token_id=1)
encoder = transformers.CLIPTextModel(config)
pieces = ["<|startoftext|>", "<|endoftext|>", "a", "a</w>"]
tokenizer = transformers.CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[])
unet = diffusers.UNet2DConditionModel(sample_size=8, block_out_channels=(4, 8), norm_num_groups=4,
                                      cross_attention_dim=8, attention_head_dim=4,
                                      down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                                      up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))
vae = diffusers.AutoencoderKL(block_out_channels=(4,), norm_num_groups=4)
parts = {"vae": vae, "text_encoder": encoder, "tokenizer": tokenizer, "unet": unet,
         "scheduler": diffusers.DDIMScheduler(), "safety_checker": None, "feature_extractor": None}
pipe = diffusers.StableDiffusionPipeline(**parts, requires_safety_checker=False)
pipe.to(torch.bfloat16)
before = pipe.text_encoder.dtype, pipe.unet.dtype
second = diffusers.StableDiffusionImg2ImgPipeline.from_pipe(pipe)
after = pipe.text_encoder.dtype, pipe.unet.dtype
print("the first pipeline's text encoder and denoiser before:", *before)
print("the same after another pipeline was made from it:     ", *after)
print("shared:", second.unet is pipe.unet)
assert before == (torch.bfloat16, torch.bfloat16)
assert after == (torch.float32, torch.float32)
assert second.unet is pipe.unet
direct = diffusers.StableDiffusionImg2ImgPipeline(**pipe.to(torch.bfloat16).components, requires_safety_checker=False)
print("made directly from the components:", direct.unet.dtype)
assert direct.unet.dtype == pipe.unet.dtype == torch.bfloat16
PY

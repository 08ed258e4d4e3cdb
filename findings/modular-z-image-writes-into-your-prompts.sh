#!/usr/bin/env bash
# diffusers 0.42.1, transformers 5.24.0.
#
# What was expected: a list of prompts that is handed to a pipeline is only read, as the classic Z-Image does.
# What happens: the modular text encoder step writes every prompt, in its chat template, back into the caller's own
# list. Whoever uses the list again draws from the template inside another template. Nothing is said.
# Why it matters here: what a record says the prompt was is not what was asked; a guard that reads the list after the
# step scores the template's words.
# What to do: hand on a copy, and read the prompt before the step (safegen/families/modular.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0
"$work/venv/bin/pip" install -q diffusers==0.42.1 transformers==5.24.0
cd "$work"
venv/bin/python - <<'PY'
import tokenizers
import torch
import transformers
from diffusers.modular_pipelines.z_image.encoders import ZImageTextEncoderStep, get_qwen_prompt_embeds

words = ["<pad>", "<unk>", "user", "says", "a", "cat", "dog"]
model = tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
backend = tokenizers.Tokenizer(model)
backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>")
tokenizer.chat_template = "{% for m in messages %}user says {{ m['content'] }}{% endfor %}"
config = transformers.Qwen3Config(vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=2,
                                  num_attention_heads=2, num_key_value_heads=1, head_dim=8)
encoder = transformers.Qwen3Model(config).eval()
mine = ["a cat", "a dog"]
for call in (1, 2):
    get_qwen_prompt_embeds(encoder, tokenizer, mine, torch.device("cpu"), 16)
    print("after call", call, "my list is", mine)
assert mine == ["user says user says a cat", "user says user says a dog"], "the caller's list is left alone now"
print("the step that calls it:", ZImageTextEncoderStep.__name__)
PY

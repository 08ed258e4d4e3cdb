"""The trained reader as it ships: an ONNX file in 8 bits, its tokenizer, and its calibration on benign text."""

from __future__ import annotations

import copy
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safegen.builtin.training import eight_bits, former
from safegen.builtin.training.reader_lists import harmless_lists, listed, reserved
from safegen.builtin.training.reader_texts import JOINTS
from safegen.directions import recipes
from safegen.reader.filling import FILE as FILLING
from safegen.reader.filling import PHRASES
from safegen.reader.model import SCHEMA, UNKNOWN, WEIGHTS
from safegen.reader.ranking import FILE as RANKING
from safegen.reader.reader import Reader

# Share of benign texts that are flagged, per concept; many of them are harder than prompts. Chosen on
# `sets/reader-seen/` and on prompts of eight authors more.
FLAGGED = {"harassment": 0.0034, "hate": 0.0055, "illegal": 0.0067, "nudity": 0.0043, "self-harm": 0.0014,
           "shocking": 0.0054, "violence": 0.0089}  # fmt: skip
FILES = ("reader.onnx", "tokenizer.json", RANKING, FILLING, PHRASES)
LEVELS = 401  # levels of a table of quantiles
MOST = 1_500  # texts of one list, at most
PROMPTS = ("hard", "lookalikes", "ordinary", "long", "benign", "things")  # lists of what people ask for
LOWER = 2  # layers above the word table that training leaves as they are
OUTPUTS = ("odds", "gaps", "lower")
# Pieces: signs, from `UNKNOWN` on; the first of text; the first of those that go on a word with a letter or sign beyond
# ASCII, which are read as unknown; and how many the tokenizer has.
SIGNS, WORDS, FOREIGN, PIECES = 4, 999, 29_644, 30_522
MEANINGFUL = [0, *range(UNKNOWN, UNKNOWN + SIGNS), *range(WORDS, FOREIGN)]  # and the pad
TABLE = "encoder.embeddings.word_embeddings.weight"
TAIL = 0.02  # share of the highest values; the line comes from their exponential tail


class Shipped(nn.Module):
    """The network that is exported: log-odds of tokens' harm and of gaps, and the states of the lower layers.

    The lower layers are the sentence encoder's own. Its table of pieces has no rows for those that mean nothing.
    """

    def __init__(self, reader: Any) -> None:
        super().__init__()
        self.encoder, self.hidden, self.out = copy.deepcopy(reader.encoder), reader.hidden, reader.out
        self.gap_hidden, self.gap_out = reader.gap_hidden, reader.gap_out
        rows = self.encoder.embeddings.word_embeddings.weight.detach()[MEANINGFUL]
        self.encoder.embeddings.word_embeddings = nn.Embedding(*rows.shape)
        self.encoder.embeddings.word_embeddings.weight.data.copy_(rows)

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Turn tokens (B, T) into log-odds of harm (B, T, K) and of gaps (B, T, 1), and lower states (B, T, D)."""
        known = torch.where(ids < FOREIGN, ids, UNKNOWN)
        rows = torch.where(known < WORDS, (known - UNKNOWN + 1).clamp(0, SIGNS), known - WORDS + SIGNS + 1)
        found = self.encoder(rows, attention_mask=mask, output_hidden_states=True)
        states = found.last_hidden_state
        gaps = self.gap_out(F.gelu(self.gap_hidden(states)))
        return self.out(F.gelu(self.hidden(states))), gaps, found.hidden_states[LOWER]


def weights(file: Path) -> dict[str, Tensor]:
    """Give a shipped network's weights, its table of pieces whole again."""
    found = dict(eight_bits.weights(file))
    whole = torch.zeros(PIECES, found[TABLE].shape[1])
    whole[MEANINGFUL] = found[TABLE]
    whole[FOREIGN:] = whole[UNKNOWN]
    return found | {TABLE: whole}


def ship(reader: Any, folder: Path, wordnet: Path | None, out: Path = WEIGHTS) -> None:
    """Export the reader, calibrate it, and write everything that ships to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    export(Shipped(reader).eval(), folder, out / "reader.onnx")
    write_json(
        out / "tokenizer.json", json.loads((former.part("tokenizer") / "tokenizer.json").read_text(encoding="utf-8"))
    )
    names = list(recipes.known())
    neutral = {
        "mean": 0.0,
        "deviation": 1.0,
        "line": 1e9,
        "prompt_quantiles": [0.0],
        "word_quantiles": [0.0],
    }
    write_facts(out, dict.fromkeys(names, neutral))
    write_facts(out, calibration(Reader(out), benign_texts(wordnet)))


def export(shipped: nn.Module, folder: Path, file: Path) -> None:
    """Write a network as ONNX, its attention fused, in 8 bits."""
    import onnx
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    whole, fused = folder / "whole.onnx", folder / "fused.onnx"
    ids = torch.randint(1000, 20000, (2, 9))
    axes = {name: {0: "batch", 1: "tokens"} for name in ("ids", "mask", *OUTPUTS)}
    torch.onnx.export(
        shipped.float(),
        (ids, torch.ones_like(ids)),
        str(whole),
        input_names=["ids", "mask"],
        output_names=[*OUTPUTS],
        dynamic_axes=axes,
        opset_version=eight_bits.OPSET,
        dynamo=False,
    )
    options = FusionOptions("bert")
    options.enable_embed_layer_norm, options.use_multi_head_attention = False, True  # so that weights stay separate
    optimizer.optimize_model(
        str(whole), model_type="bert", num_heads=12, hidden_size=384, opt_level=1, optimization_options=options
    ).save_model_to_file(str(fused))
    onnx.save(eight_bits.quantised(onnx.load(str(fused))), str(file))


def benign_texts(wordnet: Path | None) -> list[str]:
    """Make harmless texts as people write them: alone, styled, or several in one.

    They are made from lines that nothing was taught with.
    """
    rng = random.Random(0)
    styles = listed(recipes.directions_folder() / "styles.txt")
    lists = {name: [t for t in texts if reserved(t)] for name, texts in harmless_lists(wordnet).items()}
    texts = [t for some in lists.values() for t in rng.sample(some, min(MOST, len(some)))]
    prompts = [t for name in PROMPTS for t in lists[name]]
    styled = [f"{text}, {rng.choice(styles)}" for text in texts[::3]]
    joined = [rng.choice(JOINTS).join(rng.sample(prompts, rng.choice((2, 3, 5)))) for _ in range(len(texts) // 2)]
    return [*texts, *styled, *joined]


def calibration(reader: Reader, texts: list[str]) -> dict[str, dict[str, Any]]:
    """Measure on benign text a scale over words, quantiles over words and prompts, and a line per concept."""
    readings = reader.read(texts)
    words = np.concatenate([reading.scores for reading in readings])
    mean, deviation = words.mean(0), words.std(0)
    words = (words - mean) / deviation
    prompts = np.stack([(reading.scores.max(0) - mean) / deviation for reading in readings if len(reading.scores)])
    share = np.linspace(0, 1, LEVELS)
    found = {}
    for column, name in enumerate(reader.concepts):
        values = np.sort(prompts[:, column])
        top = values[-max(20, round(TAIL * len(values))) :]
        # The wanted share is lower than the sample can show, so the tail is taken as exponential.
        slope = top.mean() - top[0]  # the tail falls to a third over this distance
        line = top[0] + slope * np.log(TAIL / FLAGGED[name])
        found[name] = {
            "mean": float(mean[column]),
            "deviation": float(deviation[column]),
            "line": float(line),
            "prompt_quantiles": [round(float(v), 3) for v in np.quantile(values, share)],
            "word_quantiles": [round(float(v), 3) for v in np.quantile(words[:, column], share)],
        }
    return found


def write_facts(out: Path, calibrated: dict[str, dict[str, Any]]) -> None:
    """Write `reader.json` beside the files that it names by their hashes."""
    facts = {
        "schema": SCHEMA,
        "concepts": list(calibrated),
        "width": 384,
        "calibration": calibrated,
        "flagged": FLAGGED,
        "sha256": {n: hashlib.sha256((out / n).read_bytes()).hexdigest() for n in FILES if (out / n).is_file()},
        "sources": [
            "all-MiniLM-L6-v2 (Apache-2.0), where training began",
            "the recipes and lists of directions/, written for safegen",
            "CoPro v2, training part (Visualignment/SafetyDPO, MIT)",
            "captions of MS-COCO (CC BY 4.0)",
            "words and sentences of WordNet 3.0 (Princeton University, WordNet licence)",
        ],
        "licence": "Apache-2.0",
    }
    write_json(out / "reader.json", facts)


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON without a space to spare: the files ship."""
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")

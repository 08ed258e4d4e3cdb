"""Parts of miniatures: the real classes of encoders, tokenizers and denoisers, tiny and with random weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import diffusers
import tokenizers
import torch
import transformers

CORPUS = "a cat and a kitchen knife , a dog with a red apple on a blue background next to the big house"
VISION = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>")
SPECIALS = ("<|startoftext|>", "<|endoftext|>")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,:;!?'\"-()*>&_|[]{}<=/+#%@\\^~`$"
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for part in m['content'] %}{{ part['text'] }}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def seeded(build: Callable[[], Any]) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = build()
    return module.eval().requires_grad_(False) if isinstance(module, torch.nn.Module) else module


def clip_tokenizer() -> Any:
    """Whole words of the corpus, and single letters for all others."""
    pieces = [*SPECIALS, *LETTERS, *(f"{c}</w>" for c in LETTERS)]
    merges = []
    for word in sorted(set(CORPUS.split())):
        left = word[0] if len(word) > 1 else ""
        for i, letter in enumerate(word[1:], 2):
            right = f"{letter}</w>" if i == len(word) else letter
            merges.append((left, right))
            left += right
            pieces.append(left)
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    return transformers.CLIPTokenizer(vocab=vocab, merges=list(dict.fromkeys(merges)), model_max_length=24)


def t5_tokenizer() -> Any:
    pieces = ["<pad>", "</s>", "<unk>", "\u2581", *(f"\u2581{word}" for word in sorted(set(CORPUS.split()))), *LETTERS]
    scores = [
        (piece, 0.0 if i < 3 else -2.0 if i < 4 or len(piece) == 1 else -1.0)
        for i, piece in enumerate(dict.fromkeys(pieces))
    ]
    return transformers.T5TokenizerFast(vocab=scores, extra_ids=0, model_max_length=512)


def qwen_tokenizer(pictures: bool = False) -> Any:
    """Bytes, and nothing merged: the template alone has hundreds of tokens."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: i for i, letter in enumerate(alphabet)}
    for special in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
        vocab[special] = len(vocab)
    tokenizer = transformers.Qwen2TokenizerFast(vocab=vocab, merges=[], model_max_length=4096)
    specials = ["<|im_start|>", "<|im_end|>", *(VISION if pictures else ())]
    tokenizer.add_special_tokens({"additional_special_tokens": specials})
    tokenizer.chat_template = CHAT
    return tokenizer


class PictureProcessor(transformers.Qwen2_5_VLProcessor):
    """Qwen's processor of text and pictures, without the part for video, which wants another library."""

    def __init__(self, image_processor: Any, tokenizer: Any, chat_template: str | None = None) -> None:
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id, self.video_token_id = map(
            tokenizer.convert_tokens_to_ids, (self.image_token, self.video_token)
        )
        transformers.ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)


def processor() -> Any:
    pictures = transformers.Qwen2VLImageProcessorPil(patch_size=14, merge_size=2, min_pixels=784, max_pixels=3136)
    return PictureProcessor(pictures, qwen_tokenizer(pictures=True), chat_template=CHAT)


def gemma_tokenizer() -> Any:
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "\u2581", "\n", *LETTERS, *LETTERS.upper()]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = transformers.GemmaTokenizerFast(vocab=vocab, merges=[], model_max_length=2048)
    # The long words of Sana's instruction are whole, or it would have thousands of tokens.
    instruction = inspect.signature(diffusers.SanaPipeline.__call__).parameters["complex_human_instruction"].default
    tokenizer.add_tokens(sorted({word for word in " ".join(instruction).split() if len(word) > 5}))
    return tokenizer


def clip(projected: bool = False, width: int = 64, projection: int = 48) -> Any:
    tokenizer = clip_tokenizer()
    config = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=32,
        projection_dim=projection,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=24,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    kind = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
    return seeded(lambda: kind(config))


def t5(width: int = 64) -> Any:
    config = transformers.T5Config(
        vocab_size=len(t5_tokenizer()), d_model=width, d_kv=8, d_ff=32, num_layers=2, num_heads=2
    )
    return seeded(lambda: transformers.T5EncoderModel(config))


def autoencoder(channels: int = 4, blocks: int = 3, **more: Any) -> Any:
    """Halves pictures once less than it has blocks."""
    return seeded(
        lambda: diffusers.AutoencoderKL(
            block_out_channels=(8,) * blocks,
            down_block_types=("DownEncoderBlock2D",) * blocks,
            up_block_types=("UpDecoderBlock2D",) * blocks,
            latent_channels=channels,
            norm_num_groups=4,
            **more,
        )
    )


def unet(width: int, **more: Any) -> Any:
    return seeded(
        lambda: diffusers.UNet2DConditionModel(
            sample_size=16,
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=width,
            attention_head_dim=4,
            **more,
        )
    )


def qwen3(causal: bool, layers: int = 3) -> Any:
    config = transformers.Qwen3Config(
        vocab_size=len(qwen_tokenizer()),
        hidden_size=48,
        intermediate_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=2048,
    )
    return seeded(lambda: (transformers.Qwen3ForCausalLM if causal else transformers.Qwen3Model)(config))


def qwen_autoencoder() -> Any:
    return seeded(
        lambda: diffusers.AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 2, 2],
            num_res_blocks=1,
            temperal_downsample=[False, True],
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        )
    )


def flux2_autoencoder() -> Any:
    return seeded(
        lambda: diffusers.AutoencoderKLFlux2(
            block_out_channels=(8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            latent_channels=4,
            norm_num_groups=4,
        )
    )

"""Every supported pipeline in miniature: the real classes with tiny random weights and real tokenizer types."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import diffusers
import torch
import transformers

from safegen.models import catalog, loading

CORPUS = "a cat and a kitchen knife , a dog with a red apple on a blue background next to the big house"
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


def qwen_tokenizer() -> Any:
    """Bytes, and nothing merged: the template alone has hundreds of tokens."""
    alphabet = sorted(__import__("tokenizers").pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: i for i, letter in enumerate(alphabet)}
    for special in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
        vocab[special] = len(vocab)
    tokenizer = transformers.Qwen2TokenizerFast(vocab=vocab, merges=[], model_max_length=4096)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHAT
    return tokenizer


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


def autoencoder(channels: int = 4, **more: Any) -> Any:
    """Halves pictures twice."""
    blocks = 3
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


def stable_diffusion() -> Any:
    return diffusers.StableDiffusionPipeline(
        autoencoder(),
        clip(),
        clip_tokenizer(),
        unet(64),
        diffusers.DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def checked(line: float, special: float = 2.0) -> Any:
    """A miniature with the real checker, whose concepts fire from a cosine of `line` on."""
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker

    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        vision_config={**vision, "image_size": 32, "patch_size": 16}, projection_dim=8, text_config=dict(vision)
    )
    checker = seeded(lambda: StableDiffusionSafetyChecker(config))
    checker.concept_embeds_weights.fill_(line)
    checker.special_care_embeds_weights.fill_(special)
    parts = stable_diffusion().components
    size = {"shortest_edge": 32}
    parts |= {"safety_checker": checker}
    parts["feature_extractor"] = transformers.CLIPImageProcessor(size=size, crop_size={"height": 32, "width": 32})
    pipe = diffusers.StableDiffusionPipeline(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def causal() -> Any:
    """The causal encoder that comes with safegen, in front of a denoiser with random weights."""
    encoder = loading.load(catalog.EMBEDDED_CLIP, device="cpu", offline=True)
    return diffusers.StableDiffusionPipeline(
        autoencoder(),
        encoder.text_encoder,
        encoder.tokenizer,
        unet(encoder.text_encoder.config.hidden_size),
        diffusers.DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion_xl() -> Any:
    return diffusers.StableDiffusionXLPipeline(
        autoencoder(),
        clip(),
        clip(projected=True, width=80),
        clip_tokenizer(),
        clip_tokenizer(),
        unet(
            144,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=48 + 6 * 4,
        ),
        diffusers.DDIMScheduler(clip_sample=False, steps_offset=1),
        add_watermarker=False,
    )


def stable_diffusion_3(with_t5: bool = True) -> Any:
    transformer = seeded(
        lambda: diffusers.SD3Transformer2DModel(
            sample_size=16,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=160,
            caption_projection_dim=16,
            pooled_projection_dim=96,
            pos_embed_max_size=16,
        )
    )
    return diffusers.StableDiffusion3Pipeline(
        transformer,
        diffusers.FlowMatchEulerDiscreteScheduler(),
        autoencoder(shift_factor=0.0),
        clip(projected=True),
        clip_tokenizer(),
        clip(projected=True, width=80),
        clip_tokenizer(),
        t5(160) if with_t5 else None,
        t5_tokenizer() if with_t5 else None,
    )


def flux(distilled: bool = False) -> Any:
    transformer = seeded(
        lambda: diffusers.FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=64,
            pooled_projection_dim=64,
            guidance_embeds=not distilled,
            axes_dims_rope=(4, 4, 8),
        )
    )
    return diffusers.FluxPipeline(
        diffusers.FlowMatchEulerDiscreteScheduler(),
        autoencoder(shift_factor=0.0),
        clip(),
        clip_tokenizer(),
        t5(),
        t5_tokenizer(),
        transformer,
    )


def pixart() -> Any:
    transformer = seeded(
        lambda: diffusers.PixArtTransformer2DModel(
            sample_size=32,
            num_layers=1,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=2,
            in_channels=4,
            out_channels=8,
            cross_attention_dim=16,
            caption_channels=64,
            use_additional_conditions=False,
        )
    )
    return diffusers.PixArtSigmaPipeline(
        t5_tokenizer(), t5(), autoencoder(), transformer, diffusers.DDIMScheduler(clip_sample=False, steps_offset=1)
    )


def sana(distilled: bool = False) -> Any:
    transformer = seeded(
        lambda: diffusers.SanaTransformer2DModel(
            sample_size=32 if distilled else 16,
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_attention_heads=2,
            attention_head_dim=8,
            num_cross_attention_heads=2,
            cross_attention_head_dim=8,
            cross_attention_dim=16,
            caption_channels=48,
            guidance_embeds=distilled,
        )
    )
    vae = seeded(
        lambda: diffusers.AutoencoderDC(
            in_channels=3,
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_types=("ResBlock", "ResBlock", "ResBlock"),
            decoder_block_types=("ResBlock", "ResBlock", "ResBlock"),
            encoder_block_out_channels=(8, 8, 8),
            decoder_block_out_channels=(8, 8, 8),
            encoder_qkv_multiscales=((), (), ()),
            decoder_qkv_multiscales=((), (), ()),
            encoder_layers_per_block=(1, 1, 1),
            decoder_layers_per_block=(1, 1, 1),
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            decoder_norm_types="rms_norm",
            decoder_act_fns="silu",
        )
    )
    tokenizer = gemma_tokenizer()
    config = transformers.Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=4096,
    )
    encoder = seeded(lambda: transformers.Gemma2Model(config))
    if distilled:
        return diffusers.SanaSprintPipeline(tokenizer, encoder, vae, transformer, diffusers.SCMScheduler())
    return diffusers.SanaPipeline(tokenizer, encoder, vae, transformer, diffusers.FlowMatchEulerDiscreteScheduler())


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


def qwen_image() -> Any:
    transformer = seeded(
        lambda: diffusers.QwenImageTransformer2DModel(
            patch_size=2,
            in_channels=16,
            out_channels=4,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=48,
            axes_dims_rope=(4, 4, 8),
        )
    )
    vae = seeded(
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
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(qwen_tokenizer()),
            "hidden_size": 48,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 4096,
            "rope_scaling": {"type": "mrope", "mrope_section": [4, 4, 4], "rope_type": "default"},
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 48,
        },
    )
    encoder = seeded(lambda: transformers.Qwen2_5_VLForConditionalGeneration(config))
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    return diffusers.QwenImagePipeline(scheduler, vae, encoder, qwen_tokenizer(), transformer)


def z_image() -> Any:
    transformer = seeded(
        lambda: diffusers.ZImageTransformer2DModel(
            all_patch_size=(2,),
            all_f_patch_size=(1,),
            in_channels=4,
            dim=16,
            n_layers=1,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=48,
            axes_dims=[2, 2, 4],
            axes_lens=[512, 32, 32],
        )
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    return diffusers.ZImagePipeline(
        scheduler, autoencoder(shift_factor=0.0), qwen3(causal=False), qwen_tokenizer(), transformer
    )


def flux2_parts() -> tuple[Any, Any]:
    transformer = seeded(
        lambda: diffusers.Flux2Transformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=144,
            timestep_guidance_channels=16,
            axes_dims_rope=[4, 4, 4, 4],
        )
    )
    vae = seeded(
        lambda: diffusers.AutoencoderKLFlux2(
            block_out_channels=(8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            latent_channels=4,
            norm_num_groups=4,
        )
    )
    return vae, transformer


def flux2_klein() -> Any:
    vae, transformer = flux2_parts()
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    encoder = qwen3(causal=True, layers=28)
    return diffusers.Flux2KleinPipeline(scheduler, vae, encoder, qwen_tokenizer(), transformer)


class TextProcessor(transformers.ProcessorMixin):
    """The text half of Pixtral's processor; the other half wants a library for images."""

    attributes = ("tokenizer",)
    tokenizer_class = "AutoTokenizer"

    def __init__(self, tokenizer: Any, chat_template: str) -> None:
        super().__init__(tokenizer, chat_template=chat_template)


def flux2() -> Any:
    vae, transformer = flux2_parts()
    tokenizer = qwen_tokenizer()
    processor = TextProcessor(tokenizer, chat_template=CHAT)
    config = transformers.Mistral3Config(
        text_config={
            "model_type": "mistral",
            "vocab_size": len(tokenizer),
            "hidden_size": 48,
            "intermediate_size": 32,
            "num_hidden_layers": 31,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 8,
            "max_position_embeddings": 2048,
        },
        vision_config={
            "model_type": "pixtral",
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "head_dim": 8,
            "image_size": 32,
            "patch_size": 16,
        },
    )
    encoder = seeded(lambda: transformers.Mistral3ForConditionalGeneration(config))
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    return diffusers.Flux2Pipeline(scheduler, vae, encoder, processor, transformer)


BUILDERS: dict[str, Callable[[], Any]] = {
    "sd": stable_diffusion,
    "sdxl": stable_diffusion_xl,
    "sd3": stable_diffusion_3,
    "sd3-without-t5": lambda: stable_diffusion_3(with_t5=False),
    "flux-dev": flux,
    "flux-schnell": lambda: flux(distilled=True),
    "pixart": pixart,
    "sana": sana,
    "sana-sprint": lambda: sana(distilled=True),
    "qwen-image": qwen_image,
    "z-image": z_image,
    "flux2-klein": flux2_klein,
    "flux2": flux2,
}

"""The miniatures of the newer families, as `miniatures` has those of the older ones."""

from __future__ import annotations

import importlib.util
from typing import Any

import diffusers
import tokenizers
import torch
import transformers
from diffusers.pipelines.hunyuandit import pipeline_hunyuandit

from tests.helpers.parts import (
    CORPUS,
    LETTERS,
    VISION,
    autoencoder,
    flux2_autoencoder,
    gemma_tokenizer,
    processor,
    qwen3,
    qwen_autoencoder,
    qwen_tokenizer,
    seeded,
    t5,
    t5_tokenizer,
    unet,
)


def begun(tokenizer: Any, special: str) -> Any:
    """Put a special token before every text, as the real tokenizer does."""
    pair = (special, tokenizer.convert_tokens_to_ids(special))
    tokenizer.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{special} $A", special_tokens=[pair]
    )
    return tokenizer


def stirred(module: Any) -> Any:
    """Fill the weights that begin as zeros: with them, a new denoiser draws the same whatever it is told."""
    for weight in module.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.2)
    return module


def chroma() -> Any:
    transformer = seeded(
        lambda: diffusers.ChromaTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=64,
            axes_dims_rope=(4, 4, 8),
            approximator_num_channels=8,
            approximator_hidden_dim=16,
            approximator_layers=1,
        )
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    return diffusers.ChromaPipeline(scheduler, autoencoder(shift_factor=0.0), t5(), t5_tokenizer(), transformer)


def aura_flow() -> Any:
    transformer = seeded(
        lambda: diffusers.AuraFlowTransformer2DModel(
            sample_size=16,
            num_mmdit_layers=1,
            num_single_dit_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=64,
            caption_projection_dim=16,
            pos_embed_max_size=256,
        )
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    return diffusers.AuraFlowPipeline(t5_tokenizer(), t5(), autoencoder(), transformer, scheduler)


def cogview3() -> Any:
    transformer = seeded(
        lambda: diffusers.CogView3PlusTransformer2DModel(
            in_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            out_channels=4,
            text_embed_dim=64,
            time_embed_dim=8,
            condition_dim=2,
            pos_embed_max_size=16,
            sample_size=16,
        )
    )
    scheduler = diffusers.CogVideoXDDIMScheduler()
    return diffusers.CogView3PlusPipeline(t5_tokenizer(), t5(), autoencoder(), transformer, scheduler)


def cogview4() -> Any:
    transformer = seeded(
        lambda: diffusers.CogView4Transformer2DModel(
            in_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            out_channels=4,
            text_embed_dim=48,
            time_embed_dim=8,
            condition_dim=2,
            sample_size=16,
            rope_axes_dim=(16, 16),
        )
    )
    tokenizer = begun(qwen_tokenizer(), "<|endoftext|>")
    tokenizer.padding_side = "left"
    config = transformers.GlmConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        pad_token_id=0,
        max_position_embeddings=2048,
    )
    encoder = seeded(lambda: transformers.GlmModel(config))
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.25, max_shift=0.75)
    return diffusers.CogView4Pipeline(tokenizer, encoder, autoencoder(shift_factor=0.0), transformer, scheduler)


def gemma(tokenizer: Any) -> Any:
    config = transformers.Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=1024,
    )
    return seeded(lambda: transformers.Gemma2Model(config))


def lumina() -> Any:
    transformer = seeded(
        lambda: diffusers.LuminaNextDiT2DModel(
            sample_size=16,
            hidden_size=32,
            num_layers=1,
            num_attention_heads=2,
            num_kv_heads=1,
            multiple_of=8,
            cross_attention_dim=48,
        )
    )
    tokenizer = begun(gemma_tokenizer(), "<bos>")
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    return diffusers.LuminaPipeline(transformer, scheduler, autoencoder(blocks=4), gemma(tokenizer), tokenizer)


def lumina2() -> Any:
    transformer = seeded(
        lambda: diffusers.Lumina2Transformer2DModel(
            sample_size=16,
            in_channels=4,
            hidden_size=24,
            num_layers=1,
            num_refiner_layers=1,
            num_attention_heads=2,
            num_kv_heads=1,
            multiple_of=8,
            axes_dim_rope=(4, 4, 4),
            axes_lens=(512, 64, 64),
            cap_feat_dim=48,
        )
    )
    tokenizer = begun(gemma_tokenizer(), "<bos>")
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    vae = autoencoder(blocks=4, shift_factor=0.0)
    return diffusers.Lumina2Pipeline(transformer, scheduler, vae, gemma(tokenizer), tokenizer)


def ovis() -> Any:
    transformer = seeded(
        lambda: diffusers.OvisImageTransformer2DModel(
            in_channels=16,
            out_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=48,
            axes_dims_rope=(4, 4, 8),
        )
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    vae = autoencoder(shift_factor=0.0)
    return diffusers.OvisImagePipeline(scheduler, vae, qwen3(causal=False), qwen_tokenizer(), transformer)


def krea2() -> Any:
    transformer = seeded(
        lambda: diffusers.Krea2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            num_key_value_heads=1,
            intermediate_size=16,
            timestep_embed_dim=16,
            text_hidden_dim=48,
            num_text_layers=3,
            text_num_attention_heads=2,
            text_num_key_value_heads=1,
            text_intermediate_size=16,
            num_layerwise_text_blocks=1,
            num_refiner_text_blocks=1,
            axes_dims_rope=(4, 4, 8),
        )
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    pipe = diffusers.Krea2Pipeline(
        scheduler, qwen_autoencoder(), qwen3_vl(), qwen_tokenizer(), transformer, text_encoder_select_layers=(1, 2, 3)
    )
    return pipe


def qwen3_vl(generating: bool = False, layers: int = 3) -> Any:
    config = transformers.Qwen3VLConfig(
        text_config={
            "vocab_size": len(qwen_tokenizer(pictures=True)),
            "hidden_size": 48,
            "intermediate_size": 32,
            "num_hidden_layers": layers,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "max_position_embeddings": 4096,
            "rope_scaling": {"type": "mrope", "mrope_section": [4, 2, 2], "rope_type": "default"},
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 48,
            "deepstack_visual_indexes": [0],
        },
    )
    kind = transformers.Qwen3VLForConditionalGeneration if generating else transformers.Qwen3VLModel
    return seeded(lambda: kind(config))


def qwen_image_21() -> Any:
    transformer = seeded(
        lambda: diffusers.QwenImage21Transformer2DModel(
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            context_in_dim=48,
            mlp_ratio=1,
            axes_dims_rope=(4, 4, 8),
        )
    )
    vae = seeded(
        lambda: diffusers.AutoencoderKLQwenImage21(
            base_dim=8,
            decoder_base_dim=8,
            z_dim=4,
            dim_mult=[1, 1, 1, 1, 1],
            num_res_blocks=1,
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        )
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    return diffusers.QwenImage21Pipeline(scheduler, vae, qwen3_vl(generating=True), processor(), transformer)


def nucleus() -> Any:
    transformer = seeded(
        lambda: diffusers.NucleusMoEImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=48,
            axes_dims_rope=(4, 4, 8),
            moe_enabled=False,
        )
    )
    encoder = qwen3_vl(generating=True, layers=8)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    return diffusers.NucleusMoEImagePipeline(transformer, scheduler, qwen_autoencoder(), encoder, processor())


def qwen_image(kind: str = "QwenImagePipeline") -> Any:
    """Qwen-Image, or one of its relatives that see pictures."""
    sees = kind != "QwenImagePipeline"
    tokenizer = qwen_tokenizer(pictures=sees)
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
    vae = qwen_autoencoder()
    marks = dict(zip(("vision_start", "image", "vision_end", "video"), VISION, strict=True)) if sees else {}
    config = transformers.Qwen2_5_VLConfig(
        **{f"{name}_token_id": tokenizer.convert_tokens_to_ids(mark) for name, mark in marks.items()},
        text_config={
            "vocab_size": len(tokenizer),
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
    parts = {"scheduler": scheduler, "vae": vae, "text_encoder": encoder, "tokenizer": tokenizer}
    parts |= {"transformer": transformer, **({"processor": processor()} if sees else {})}
    return getattr(diffusers, kind)(**parts)


def hunyuan_dit() -> Any:
    transformer = seeded(
        lambda: diffusers.HunyuanDiT2DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            in_channels=4,
            patch_size=2,
            sample_size=8,
            hidden_size=16,
            num_layers=2,
            cross_attention_dim=32,
            cross_attention_dim_t5=64,
            pooled_projection_dim=16,
        )
    )
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted(set(CORPUS.split())), *LETTERS, *(f"##{c}" for c in LETTERS)]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    # It takes the nearest of the sizes that it was trained on, and all of them are large.
    if (64, 64) not in pipeline_hunyuandit.SUPPORTED_SHAPE:
        pipeline_hunyuandit.SUPPORTED_SHAPE.append((64, 64))
    vae = autoencoder(blocks=4)
    return diffusers.HunyuanDiTPipeline(
        vae,
        seeded(lambda: transformers.BertModel(config, add_pooling_layer=False)),
        transformers.BertTokenizerFast(vocab=vocabulary, model_max_length=77),
        transformer,
        diffusers.DDIMScheduler(clip_sample=False, steps_offset=1),
        None,
        None,
        requires_safety_checker=False,
        text_encoder_2=t5(),
        tokenizer_2=t5_tokenizer(),
    )


def kandinsky3() -> Any:
    unet = seeded(
        lambda: diffusers.Kandinsky3UNet(
            time_embedding_dim=8,
            groups=2,
            attention_head_dim=4,
            layers_per_block=2,
            block_out_channels=(8, 16, 32, 64),
            cross_attention_dim=16,
            encoder_hid_dim=64,
        )
    )
    movq = seeded(
        lambda: diffusers.VQModel(
            block_out_channels=(32,) * 4,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            norm_type="spatial",
            num_vq_embeddings=8,
            vq_embed_dim=4,
        )
    )
    return diffusers.Kandinsky3Pipeline(t5_tokenizer(), t5(), unet, diffusers.DDPMScheduler(), movq)


def deepfloyd_if() -> Any:
    denoiser = unet(64, in_channels=3, out_channels=6)
    scheduler = diffusers.DDPMScheduler(variance_type="learned_range")
    return diffusers.IFPipeline(
        t5_tokenizer(), t5(), denoiser, scheduler, None, None, None, requires_safety_checker=False
    )


def ideogram4() -> Any:
    def transformer() -> Any:
        return diffusers.Ideogram4Transformer2DModel(
            in_channels=16,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            intermediate_size=16,
            adaln_dim=8,
            llm_features_dim=13 * 48,
            mrope_section=(4, 2, 2),
        )

    return diffusers.Ideogram4Pipeline(
        diffusers.FlowMatchEulerDiscreteScheduler(),
        flux2_autoencoder(),
        qwen3_vl(layers=36),
        qwen_tokenizer(),
        seeded(transformer),
        seeded(transformer),
    )


def ernie_image() -> Any:
    transformer = seeded(
        lambda: stirred(
            diffusers.ErnieImageTransformer2DModel(
                hidden_size=32,
                num_attention_heads=2,
                num_layers=1,
                ffn_hidden_size=16,
                in_channels=16,
                out_channels=16,
                text_in_dim=48,
                rope_axes_dim=(4, 4, 8),
            )
        )
    )
    tokenizer = begun(qwen_tokenizer(), "<|endoftext|>")
    config = transformers.MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=4096,
    )
    encoder = seeded(lambda: transformers.MistralModel(config))
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    return diffusers.ErnieImagePipeline(transformer, flux2_autoencoder(), encoder, tokenizer, scheduler)


def wan() -> Any:
    transformer = seeded(
        lambda: diffusers.WanTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=4,
            out_channels=4,
            text_dim=64,
            freq_dim=8,
            ffn_dim=16,
            num_layers=1,
            rope_max_seq_len=32,
        )
    )
    vae = seeded(
        lambda: diffusers.AutoencoderKLWan(
            base_dim=4,
            z_dim=4,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        )
    )
    config = transformers.UMT5Config(
        vocab_size=len(t5_tokenizer()), d_model=64, d_kv=8, d_ff=32, num_layers=2, num_heads=2
    )
    encoder = seeded(lambda: transformers.UMT5EncoderModel(config))
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    return diffusers.WanPipeline(t5_tokenizer(), encoder, vae, scheduler, transformer)


def helios() -> Any:
    transformer = seeded(
        lambda: diffusers.HeliosTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=4,
            out_channels=4,
            text_dim=64,
            freq_dim=8,
            ffn_dim=16,
            num_layers=1,
            rope_dim=(4, 4, 4),
        )
    )
    parts = wan().components
    names = ("tokenizer", "text_encoder", "vae", "scheduler")
    return diffusers.HeliosPipeline(transformer=transformer, **{name: parts[name] for name in names})


def prx() -> Any:
    from transformers.models.t5gemma import modeling_t5gemma

    transformer = seeded(
        lambda: stirred(
            diffusers.PRXTransformer2DModel(
                in_channels=4, context_in_dim=48, hidden_size=16, num_heads=2, depth=1, axes_dim=[4, 4]
            )
        )
    )
    tokenizer = begun(gemma_tokenizer(), "<bos>")
    tokenizer.model_max_length = 256
    config = transformers.T5GemmaConfig(
        encoder={
            "vocab_size": len(tokenizer),
            "hidden_size": 48,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 8,
        },
        is_encoder_decoder=False,
    )
    encoder = seeded(lambda: modeling_t5gemma.T5GemmaEncoder(config.encoder))
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    vae = autoencoder(shift_factor=0.0)
    return diffusers.PRXPipeline(transformer, scheduler, encoder, tokenizer, vae, default_sample_size=256)


BUILDERS = {
    "chroma": chroma,
    "aura-flow": aura_flow,
    "cogview3": cogview3,
    "cogview4": cogview4,
    "lumina": lumina,
    "lumina2": lumina2,
    "ovis": ovis,
    "krea2": krea2,
    "qwen-image-21": qwen_image_21,
    "nucleus": nucleus,
    "hunyuan-dit": hunyuan_dit,
    "kandinsky3": kandinsky3,
    "if": deepfloyd_if,
    "ideogram4": ideogram4,
    "wan": wan,
    "ernie-image": ernie_image,
}
if importlib.util.find_spec("ftfy"):  # without it, these pipelines fail at the first prompt
    BUILDERS |= {"helios": helios, "prx": prx}

"""Classes of diffusers that no family guards, by the reason; whoever adds a family takes its classes out of here."""

from __future__ import annotations

from collections.abc import Mapping

_REFUSED: Mapping[str, str] = {
    "it is modular, and nobody has followed its text through its blocks yet": """
        AnimaModular Cosmos3DistilledModular Cosmos3OmniModular EchoModular HeliosModular HeliosPyramidDistilledModular
        HeliosPyramidModular HunyuanVideo15Modular Ideogram4Modular Krea2Modular Krea2TurboModular LTX25Modular
        LTX2Modular LTXModular MiniMaxH3Modular MiniMaxMusic3Modular QwenImage21Modular QwenImage21TurboModular
        QwenImageEditModular QwenImageEditPlusModular QwenImageLayeredModular Wan22Image2VideoModular Wan22Modular
        Wan22VaceModular WanAnimate2DistilledModular WanAnimate2Modular WanImage2VideoModular WanModular
    """,
    "its prompt goes through a prior, a second pipeline with an encoder of its own": """
        Kandinsky KandinskyCombined KandinskyImg2Img KandinskyImg2ImgCombined KandinskyInpaint
        KandinskyInpaintCombined KandinskyPrior KandinskyV22 KandinskyV22Combined KandinskyV22Controlnet
        KandinskyV22ControlnetImg2Img KandinskyV22Img2Img KandinskyV22Img2ImgCombined KandinskyV22Inpaint
        KandinskyV22InpaintCombined KandinskyV22Prior KandinskyV22PriorEmb2Emb StableCascadeCombined
        StableCascadeDecoder StableCascadePrior WuerstchenCombined WuerstchenDecoder WuerstchenPrior UnCLIP
        UnCLIPImageVariation StableUnCLIP StableUnCLIPImg2Img FluxPriorRedux
    """,
    "its tokenizer says of no token which letters it stands for": "Kolors KolorsImg2Img KolorsPAG HunyuanImage",
    "a language model makes picture tokens of the prompt, and its embeddings hold quoted words alone": "GlmImage",
    "an encoder of pictures tells its denoiser of the prompt's pictures, between parts of the text": "ZImageOmni",
    "it encodes a second text beside the prompt": """
        CycleDiffusion StableDiffusionGLIGEN StableDiffusionGLIGENTextImage StableDiffusionDiffEdit
        StableDiffusionPix2PixZero StableDiffusionLatentUpscale SemanticStableDiffusion VisualCloze
        VisualClozeGeneration
    """,
    "it encodes its prompt out of reach, without `encode_prompt`": """
        Amused AmusedImg2Img AmusedInpaint LDMTextToImage OmniGen PaintByExample StableDiffusionInstructPix2Pix
        Cosmos3Omni JoyImageEditPlus VQDiffusion VersatileDiffusion VersatileDiffusionDualGuided
        VersatileDiffusionTextToImage OnnxStableDiffusion OnnxStableDiffusionImg2Img OnnxStableDiffusionInpaint
        OnnxStableDiffusionUpscale StableDiffusionOnnx
    """,
    "nobody has followed all its text to the denoiser yet": """
        Bria BriaFibo BriaFibo2 BriaFiboEdit BlipDiffusion BlipDiffusionControlNet Cosmos2TextToImage DreamLite
        DreamLiteMobile HiDreamImage HunyuanDiTControlNet HunyuanImageRefiner IFImg2ImgSuperResolution
        IFInpaintingSuperResolution IFSuperResolution JoyImageEdit Kandinsky5I2I Kandinsky5T2I LongCatImage
        LongCatImageEdit PRXPixel UniDiffuser
    """,
    "diffusers has deprecated it": """
        AltDiffusion AltDiffusionImg2Img StableDiffusionAttendAndExcite StableDiffusionControlNetXS
        StableDiffusionLDM3D StableDiffusionModelEditing StableDiffusionPanorama StableDiffusionParadigms
        StableDiffusionSAG StableDiffusionXLControlNetXS
    """,
    "it makes video": """
        Allegro AnimateDiff AnimateDiffControlNet AnimateDiffPAG AnimateDiffSDXL AnimateDiffSparseControlNet
        AnimateDiffVideoToVideo AnimateDiffVideoToVideoControlNet AnyFlow AnyFlowFAR ChronoEdit CogVideoX
        CogVideoXFunControl CogVideoXImageToVideo CogVideoXVideoToVideo ConsisID Cosmos2VideoToWorld
        Cosmos2_5_PredictBase Cosmos2_5_Transfer CosmosTextToWorld CosmosVideoToWorld EasyAnimate
        EasyAnimateControl EasyAnimateInpaint HunyuanSkyreelsImageToVideo HunyuanVideo HunyuanVideo15
        HunyuanVideo15ImageToVideo HunyuanVideoFramepack HunyuanVideoImageToVideo I2VGenXL Kandinsky5I2V
        Kandinsky5T2V Kandinsky6SR Kandinsky6TI2VA LTX LTX2 LTX2Condition LTX2DFR LTX2DFRTemporalRefine LTX2HDR
        LTX2ImageToVideo LTX2InContext LTX2LatentUpsample LTX2VideoDiffusionDecode LTXCondition
        LTXI2VLongMultiPrompt LTXImageToVideo LTXLatentUpsample Latte LucyEdit Mochi MotifVideo
        MotifVideoImage2Video PIA SanaImageToVideo SanaVideo SanaWM SkyReelsV2 SkyReelsV2DiffusionForcing
        SkyReelsV2DiffusionForcingImageToVideo SkyReelsV2DiffusionForcingVideoToVideo SkyReelsV2ImageToVideo
        StableVideoDiffusion TextToVideoSD TextToVideoZero TextToVideoZeroSDXL VideoToVideoSD WanAnimate
    """,
    "it makes sound": """
        AceStep AudioDiffusion AudioLDM AudioLDM2 DanceDiffusion LongCatAudioDiT MusicLDM SpectrogramDiffusion
        StableAudio StableAudio3 StableAudio3AudioToAudio StableAudio3Inpaint
    """,
    "it reads no prompt, or draws no picture": """
        ConsistencyModel DDIM DDPM DiT DiffusionGemma KarrasVe LDM LDMSuperResolution LLaDA2 MarigoldDepth
        MarigoldIntrinsics MarigoldNormals PNDM RFD4Proteina RePaint ScoreSdeVe ShapE ShapEImg2Img
        StableDiffusionImageVariation VersatileDiffusionImageVariation
    """,
}

REFUSED: Mapping[str, str] = {f"{name}Pipeline": why for why, names in _REFUSED.items() for name in names.split()}

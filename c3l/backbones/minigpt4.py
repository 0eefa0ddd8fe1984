"""MiniGPT-4 with Llama-2: EVA ViT's patches, four joined to one, one linear layer, a Llama.

The kind without a Q-Former (Zhu et al. 2023; METHOD's "Backbones"), which transformers lacks. It is
LLaVA with another encoder and another projector, so it is built from LLaVA's classes.
"""

from typing import ClassVar

from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    Blip2VisionConfig,
    Blip2VisionModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
)
from transformers.configuration_utils import SubConfigSpec
from transformers.models.llava.modeling_llava import LlavaModel, LlavaPreTrainedModel

from c3l.backbones.llava import Llava

JOINED = 4
"""The number of neighbouring patches in one image token."""


class MiniGPT4Config(LlavaConfig):
    """As LLaVA's, with an EVA ViT."""

    model_type = "minigpt4"
    sub_configs_defaults: ClassVar = {
        "vision_config": SubConfigSpec(config_class=Blip2VisionConfig),
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama"),
    }
    image_seq_length: int = 64
    vision_feature_layer: int = -1
    vision_norm_eps: float | None = None
    """The epsilon of the layer norm behind the encoder: 1e-5 in the published models, whose norm
    has neither weights nor biases. None: no such norm, as in the pocket's models."""


class PatchJoiner(nn.Module):
    """Patches [b, n, d] to image tokens [b, n / 4, the language model's width]."""

    def __init__(self, config: MiniGPT4Config):
        super().__init__()
        width = JOINED * config.vision_config.hidden_size
        self.linear = nn.Linear(width, config.text_config.hidden_size)

    def forward(self, patches: Tensor) -> Tensor:
        return self.linear(patches.reshape(len(patches), -1, self.linear.in_features))


class MiniGPT4Model(LlavaModel):
    """The encoder, the projector and the language model without its head."""

    config: MiniGPT4Config

    def __init__(self, config: MiniGPT4Config):
        # Not LlavaModel's own: it would make LLaVA's parts first.
        LlavaPreTrainedModel.__init__(self, config)
        self.vision_tower = Blip2VisionModel._from_config(config.vision_config)
        if config.vision_norm_eps is not None:
            self.vision_tower.post_layernorm.eps = config.vision_norm_eps
            # Then the last layer's states are read behind the norm.
            self.vision_tower.config.tie_last_hidden_states = True
        self.multi_modal_projector = PatchJoiner(config)
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()


class MiniGPT4ForConditionalGeneration(LlavaForConditionalGeneration):
    """MiniGPT-4 with its head; everything but its parts is LLaVA's."""

    config: MiniGPT4Config

    def __init__(self, config: MiniGPT4Config):
        LlavaPreTrainedModel.__init__(self, config)
        self.model = MiniGPT4Model(config)
        text = config.text_config
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.post_init()


AutoConfig.register(MiniGPT4Config.model_type, MiniGPT4Config)


class MiniGPT4(Llava):
    model_class = MiniGPT4ForConditionalGeneration
    joined = JOINED

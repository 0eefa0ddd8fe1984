"""LLaVA: CLIP's patches, a two-layer projector, a Llama."""

from math import isqrt
from typing import ClassVar

from transformers import LlavaForConditionalGeneration

from c3l.backbones.base import Backbone


class Llava(Backbone):
    model_class = LlavaForConditionalGeneration
    projector = "model.multi_modal_projector"
    language = ("model.language_model", "lm_head")
    decoder = "model.language_model"
    speaker = ""
    frozen_features = True
    features_from = "vision_feature_select_strategy and vision_config's image_size and patch_size"
    joined: ClassVar[int] = 1
    """The number of neighbouring patches in one image token."""

    def processor_settings(self, features: int) -> dict[str, object]:
        config = self.model.config
        patch = config.vision_config.patch_size * isqrt(self.joined)
        strategy = config.vision_feature_select_strategy
        # The processor counts the tokens before the strategy drops the first.
        squares = (config.vision_config.image_size // patch) ** 2
        additional = features - squares + (strategy == "default")
        return {
            "patch_size": patch,
            "vision_feature_select_strategy": strategy,
            "num_additional_image_tokens": additional,
        }

"""LLaVA: CLIP's patches, a two-layer projector, a Llama."""

from transformers import LlavaForConditionalGeneration

from c3l.backbones.base import Backbone


class Llava(Backbone):
    model_class = LlavaForConditionalGeneration
    projector = "model.multi_modal_projector"
    language = ("model.language_model", "lm_head")
    decoder = "model.language_model"
    speaker = ""

"""The families with a Q-Former: EVA ViT, learnt queries that look at its patches, one linear layer.

BLIP-2, MiniGPT-4 with Vicuna (the same parts after renaming) and VisualGLM are one transformers
class with different language models; in InstructBLIP the queries read the question as well.
"""

from collections.abc import Mapping, Sequence

import torch
from PIL import Image
from torch import Tensor
from transformers import Blip2ForConditionalGeneration, InstructBlipForConditionalGeneration

from c3l.backbones.base import Backbone
from c3l.packing import STATES


class Blip2(Backbone):
    model_class = Blip2ForConditionalGeneration
    projector = "language_projection"
    language = ("language_model",)
    decoder = "language_model.model"
    speaker = "language_model"
    frozen_features = True
    features_from = "num_query_tokens"

    def __init__(self, model: Blip2ForConditionalGeneration, processor, **named):
        super().__init__(model, processor, **named)
        # In LAVIS the norm behind the encoder has another epsilon than those in it; transformers
        # has one for both, so the value that the converters write is set here.
        vision = model.config.vision_config
        eps = getattr(vision, "post_layernorm_eps", vision.layer_norm_eps)
        model.vision_model.post_layernorm.eps = eps

    def vision_states(self, pixels: Tensor) -> Tensor:
        """The encoder's output: the Q-Former may have dropout, or read the question."""
        return self._whole.vision_model(pixel_values=pixels).last_hidden_state

    def image_features(self, batch: Mapping[str, Tensor]) -> Tensor:
        if STATES not in batch:
            return super().image_features(batch)
        states = batch[STATES]
        queries = self._whole.query_tokens.expand(len(states), -1, -1)
        output = self._whole.qformer(
            query_embeds=queries,
            encoder_hidden_states=states,
            encoder_attention_mask=torch.ones_like(states[..., 0], dtype=torch.long),
            **self._question(batch, queries),
        ).last_hidden_state
        return self._whole.language_projection(output[:, : queries.shape[1]].to(states.dtype))

    def _question(self, batch: Mapping[str, Tensor], queries: Tensor) -> dict[str, Tensor]:
        """The Q-Former's inputs besides the picture and the queries [b, q, d]."""
        return {}

    def count_features(self, pixels: Tensor) -> int:
        return self.model.config.num_query_tokens

    def processor_settings(self, features: int) -> dict[str, object]:
        return {"num_query_tokens": features}

    def _pictures(self, pictures: list[Image.Image]) -> tuple[Tensor, Tensor]:
        # The processor itself would put the queries' tokens before the whole prompt.
        pixels = self.processor.image_processor(pictures, return_tensors="pt")["pixel_values"]
        return pixels, torch.full((len(pictures),), self.processor.num_query_tokens)


class InstructBlip(Blip2):
    model_class = InstructBlipForConditionalGeneration
    image_inputs = ("pixel_values", "qformer_input_ids", "qformer_attention_mask")

    def _question(self, batch: Mapping[str, Tensor], queries: Tensor) -> dict[str, Tensor]:
        mask = batch["qformer_attention_mask"]
        mask = torch.cat([mask.new_ones(queries.shape[:2]), mask], 1)
        return {"input_ids": batch["qformer_input_ids"], "attention_mask": mask}

    def encode(self, questions: Sequence[str], images=None, *args, **settings) -> dict[str, Tensor]:
        batch = super().encode(questions, images, *args, **settings)
        return batch if images is None else batch | self.qformer_inputs(questions)

    def encode_texts(self, texts: Sequence[str], images=None) -> dict[str, Tensor]:
        batch = super().encode_texts(texts, images)
        return batch if images is None else batch | self.qformer_inputs(texts)

    def qformer_inputs(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """The inputs of the Q-Former besides the picture."""
        inputs = self.processor.qformer_tokenizer(
            [self._format.plain(text) for text in texts],
            padding=True,
            truncation=True,
            max_length=self.model.config.qformer_config.max_position_embeddings,
            return_tensors="pt",
        )
        names = ("input_ids", "attention_mask")
        return {f"qformer_{name}": inputs[name].to(self.device) for name in names}

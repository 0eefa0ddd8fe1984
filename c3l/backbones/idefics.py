"""IDEFICS, the first generation: a Llama whose layers look at the picture by cross-attention.

The picture is a single token in the text, so there is no prefix to share, and packed rows are read
one by one.
"""

from collections.abc import Mapping

import torch
from PIL import Image
from torch import Tensor
from transformers import IdeficsForVisionText2Text

from c3l.backbones.base import Backbone
from c3l.packing import PIXELS, STATES


class Idefics(Backbone):
    model_class = IdeficsForVisionText2Text
    projector = "model.gated_cross_attn_layers"
    language = ("model.layers", "model.norm", "model.embed_tokens", "lm_head")
    decoder = "model"
    speaker = ""
    frozen_features = True
    no_prefix_sharing_reason = "its picture is no part of the row"

    def hidden_states(
        self,
        batch: Mapping[str, Tensor],
        positions: Tensor,
        group_sizes: object = None,
        in_pairs: object = False,
    ) -> Tensor:
        inputs = self._model_inputs(batch)
        return self.model_part(self.decoder)(**inputs, use_cache=False).last_hidden_state[positions]

    def vision_states(self, pixels: Tensor) -> Tensor:
        """The states [b, p, e] that the cross-attention reads."""
        decoder = self.model_part(self.decoder)
        states = decoder.vision_model(pixel_values=pixels).last_hidden_state
        return decoder.perceiver_resampler(states) if decoder.config.use_resampler else states

    def count_features(self, pixels: Tensor) -> int:
        return 1

    def _pictures(self, pictures: list[Image.Image]) -> tuple[Tensor, Tensor]:
        pixels = self.processor.image_processor(pictures, return_tensors="pt")
        pixels = pixels if isinstance(pixels, Tensor) else pixels["pixel_values"]
        return pixels, torch.ones(len(pictures), dtype=torch.long)

    def _model_inputs(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The model's inputs: tokens from the image token on see the picture, if there is one."""
        ids = batch["input_ids"]
        sees = (ids == self._format.image_token_id).long().cumsum(1).clamp(max=1)
        name, picture = "pixel_values", batch.get(PIXELS)
        if STATES in batch:
            resampled = self.model.config.use_resampler
            name = "perceiver_embeddings" if resampled else "image_encoder_embeddings"
            picture = batch[STATES]
        elif picture is None:  # the model wants one all the same; no token sees it
            side = self.model.config.vision_config.image_size
            picture = torch.zeros(len(ids), 3, side, side, dtype=self.dtype, device=ids.device)
        return {
            "input_ids": ids,
            "attention_mask": batch["attention_mask"],
            name: picture[:, None],
            "image_attention_mask": sees[..., None],
        }

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


class Idefics(Backbone):
    model_class = IdeficsForVisionText2Text
    projector = "model.gated_cross_attn_layers"
    language = ("model.layers", "model.norm", "model.embed_tokens", "lm_head")
    decoder = "model"
    speaker = ""
    no_prefix_sharing_reason = "its picture is no part of the row"

    def hidden_states(
        self, batch: Mapping[str, Tensor], positions: Tensor, group_sizes: object = None
    ) -> Tensor:
        inputs = self._model_inputs(batch)
        return self.model_part(self.decoder)(**inputs, use_cache=False).last_hidden_state[positions]

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
        pixels = batch.get("pixel_values")
        if pixels is None:  # the model wants one all the same; no token sees it
            side = self.model.config.vision_config.image_size
            pixels = torch.zeros(len(ids), 3, side, side, dtype=self.dtype, device=ids.device)
        return {
            "input_ids": ids,
            "attention_mask": batch["attention_mask"],
            "pixel_values": pixels[:, None],
            "image_attention_mask": sees[..., None],
        }

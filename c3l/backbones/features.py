"""Pictures as a frozen vision encoder reads them, computed once per training."""

import torch
from cachetools import LRUCache, cached
from PIL import Image
from torch import Tensor

from c3l.backbones.base import Backbone
from c3l.readings import Tuning
from c3l.samples import ImageFolder

MEMORY = 2**32
"""Bytes of features in the machine's memory, for each process; beyond them those not used for the
longest time are dropped. LLaVA-1.5's are 1.2 MB a picture in half precision, 2.4 MB in float32."""


class FrozenFeatures:
    """Like an ImageFolder, but with a picture's vision states [p, e] in its place.

    `Backbone.encode` and `encode_texts` take them for the picture. Only where `are_frozen`.
    """

    def __init__(self, backbone: Backbone, images: ImageFolder, memory: int = MEMORY):
        self._backbone, self._images = backbone, images
        cache: LRUCache = LRUCache(memory, getsizeof=lambda states: states.nbytes)
        self._cached_states = cached(cache)(lambda name: self._states(images[name]))

    def __getitem__(self, name: str) -> Tensor:
        return self._cached_states(name)

    @torch.no_grad()
    def _states(self, picture: Image.Image) -> Tensor:
        # By itself: in a batch its last bits would depend on its neighbours, which are others in a
        # training that resumes.
        backbone = self._backbone
        pixels = backbone._pictures([picture])[0].to(backbone.device, backbone.dtype)
        with backbone.autocast():
            return backbone.vision_states(pixels)[0].cpu()


def are_frozen(backbone: Backbone, tuning: Tuning) -> bool:
    """Return whether a picture's vision states are the same in every step: without dropout, too."""
    vision = backbone.model_part("").config.vision_config.to_dict()
    dropout = any(vision[name] for name in vision if "drop" in name)
    return backbone.frozen_features and tuning != "full" and not dropout

"""Pictures as a frozen vision encoder reads them, computed once per training."""

from collections.abc import Iterable

import torch
from cachetools import LRUCache, cached
from torch import Tensor

from c3l.backbones.base import Backbone
from c3l.readings import Tuning
from c3l.samples import ImageFolder

MEMORY = 2**32
"""Bytes of features in the machine's memory, for each process; beyond them those not used for the
longest time are dropped. LLaVA-1.5's are 1.2 MB a picture in half precision, 2.4 MB in float32."""
_TOGETHER = 16


class FrozenFeatures:
    """Like an ImageFolder, but with a picture's vision states [p, e] in its place.

    `Backbone.encode` and `encode_texts` take them for the picture. Only where `are_frozen`.
    """

    def __init__(
        self,
        backbone: Backbone,
        images: ImageFolder,
        names: Iterable[str],
        memory: int = MEMORY,
    ):
        """`names` are those of all pictures, in an order that is the same in a run that resumes.

        The last bits of a picture's states depend on which are computed with it: always the same.
        """
        self._backbone, self._images = backbone, images
        self._names = list(dict.fromkeys(names))
        self._places = {name: place for place, name in enumerate(self._names)}
        together = min(_TOGETHER, len(self._names))
        if together and self._states(0, 1).nbytes * len(self._names) > memory:
            together = 1
        self._together = together
        cache: LRUCache = LRUCache(memory, getsizeof=lambda states: states.nbytes)
        self._cached_states = cached(cache)(self._states)

    def __getitem__(self, name: str) -> Tensor:
        part, row = divmod(self._places[name], self._together)
        return self._cached_states(part * self._together, self._together)[row]

    @torch.no_grad()
    def _states(self, start: int, count: int) -> Tensor:
        """The vision states [n, p, e] of neighbouring pictures."""
        backbone = self._backbone
        pictures = [self._images[name] for name in self._names[start : start + count]]
        pixels = backbone._pictures(pictures)[0].to(backbone.device, backbone.dtype)
        with backbone.autocast():
            return backbone.vision_states(pixels).cpu()


def are_frozen(backbone: Backbone, tuning: Tuning) -> bool:
    """Return whether a picture's vision states are the same in every step: without dropout, too."""
    vision = backbone.model_part("").config.vision_config.to_dict()
    dropout = any(vision[name] for name in vision if "drop" in name)
    return backbone.frozen_features and tuning != "full" and not dropout

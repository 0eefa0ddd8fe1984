"""The generator's two losses as one module: L_r (section 3.2) and L_c (section 3.3)."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from c3l.backbones.base import Backbone
from c3l.contrastive import Projection, contrastive_loss
from c3l.instructions import format_pair
from c3l.readings import Readings
from c3l.relevance import answer_logits
from c3l.selection import Group

# An anchor with the group it belongs to and the group's image.
Drawn = tuple[str, Group, Image.Image]


class Losses(nn.Module):
    """L_r and L_c of a batch, as sums. The module is everything that trains: the model and ξ."""

    def __init__(self, backbone: Backbone, projection: Projection | None, readings: Readings):
        super().__init__()
        self.model, self.projection = backbone.model, projection
        self.backbone, self.readings = backbone, readings

    def forward(
        self, encoded: Mapping[str, Tensor] | None, drawn: Sequence[Drawn]
    ) -> tuple[Tensor, Tensor]:
        """The cross entropy summed over the answers' tokens, and eq. 3 summed over the groups.

        `encoded` is a batch of `Backbone.encode` or None; `drawn` holds anchor, group and image.
        """
        # A leaf with a gradient: a step in which every anchor came out empty is one that moves
        # nothing, not an error.
        zero = torch.zeros((), device=self.backbone.device, requires_grad=True)
        l_r, l_c = zero, zero
        if encoded is not None:
            logits, tokens = answer_logits(self.model, encoded, encoded["labels"] != -100)
            l_r = F.cross_entropy(logits.float(), tokens, reduction="sum")
        if drawn:
            l_c = self._contrast(drawn)
        return l_r, l_c

    def _contrast(self, drawn: Sequence[Drawn]) -> Tensor:
        """Eq. 2 for anchors, positives and negatives in one batch, then eq. 3."""
        anchors, groups, pictures = zip(*drawn, strict=True)
        counts = [len(group.negatives) for group in groups]
        samples = [group.positive for group in groups]
        samples += [sample for group in groups for sample in group.negatives]
        texts = [*anchors, *(format_pair(s.question, s.answer) for s in samples)]
        behind = None
        if self.readings.contrastive_image:
            repeated = zip(pictures, counts, strict=True)
            behind = [*pictures, *pictures, *(p for p, k in repeated for _ in range(k))]
        states, mask = self.backbone.hidden_states(texts, behind)
        h = self.projection(states.float(), mask)
        anchor, positive, negatives = h.split([len(drawn), len(drawn), sum(counts)])
        present = [torch.ones(k, dtype=torch.bool, device=h.device) for k in counts]
        return contrastive_loss(
            anchor,
            positive,
            pad_sequence(negatives.split(counts), batch_first=True),
            temperature=self.readings.temperature,
            form=self.readings.contrastive_form,
            mask=pad_sequence(present, batch_first=True),
        ).sum()

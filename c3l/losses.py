"""The generator's two losses as one module: L_r (section 3.2) and L_c (section 3.3)."""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from c3l.backbones.base import Backbone
from c3l.backbones.encoding import Picture
from c3l.contrastive import Projection, contrastive_loss
from c3l.instructions import format_pair, pair_prompt
from c3l.packing import padded
from c3l.readings import Readings
from c3l.relevance import answer_states
from c3l.selection import Group

Anchor = tuple[str | None, Group, Picture]
"""An anchor's text, its group, the group's image; None where the prompt itself is the anchor."""


class Losses(nn.Module):
    """L_r and L_c of a batch, as sums. The module holds everything that trains: the model and ξ."""

    def __init__(self, backbone: Backbone, projection: Projection | None, readings: Readings):
        super().__init__()
        self.model, self.projection = backbone.model, projection
        self.backbone, self.readings = backbone, readings
        # The layers that sharding must not split, as far as the model has them.
        no_split = set(backbone.model_part("")._no_split_modules or ())
        present = {type(module).__name__ for module in self.model.modules()}
        self._no_split_modules = sorted(no_split & present)

    def forward(
        self,
        encoded: Mapping[str, Tensor] | None = None,
        anchors: Sequence[Anchor] = (),
        write: Callable[[], list[str]] | None = None,
    ) -> tuple[Tensor, Tensor] | list[str]:
        """The cross entropy summed over the answers' tokens, and eq. 3 summed over the groups.

        `encoded` is a batch of `Backbone.encode` or None. With `write`, its result: something else
        that needs the weights.
        """
        if write is not None:
            return write()
        # A leaf with a gradient: a step in which every anchor came out empty moves nothing, and is
        # no error.
        zero = torch.zeros((), device=self.backbone.device, requires_grad=True)
        l_r, l_c = zero, zero
        if encoded is not None:
            answers = encoded["labels"] != -100
            # Adapters have dropout, whose draws depend on the shape of the rows.
            in_pairs = self.readings.tuning not in ("lora", "qlora")
            states, tokens = answer_states(self.backbone, encoded, answers, in_pairs=in_pairs)
            l_r = F.cross_entropy(self.backbone.head(states).float(), tokens, reduction="sum")
        if anchors:
            l_c = self._contrast(anchors)
        return l_r, l_c

    def _contrast(self, anchors: Sequence[Anchor]) -> Tensor:
        """Eq. 2 for anchors, positives and negatives, then eq. 3, summed over the groups.

        A group's eq. 3 is the mean over its positives, each against all of its negatives. All texts
        of a group stand in one packed row, behind the image if they see it.
        """
        texts, pictures, group_sizes = [], [], []
        for anchor, group, picture in anchors:
            samples = (*group.positives, *group.negatives)
            pairs = [format_pair(s.question, s.answer) for s in samples]
            pairs = pairs if anchor is None else [anchor, *pairs]
            texts += pairs
            pictures += [picture] * len(pairs)
            group_sizes.append(len(pairs))
        batch = self.backbone.encode_texts(
            texts, pictures if self.readings.contrastive_image else None
        )
        h = self._latent(batch, group_sizes).split(group_sizes)
        if self.readings.anchor == "prompt":
            h_anchors = self._latent(self._encode_prompts(anchors))
        else:
            h_anchors, h = torch.stack([rows[0] for rows in h]), [rows[1:] for rows in h]
        counts = [len(group.positives) for _, group, _ in anchors]
        positives = torch.cat([rows[:n] for rows, n in zip(h, counts, strict=True)])
        negatives, mask = padded([rows[n:] for rows, n in zip(h, counts, strict=True)])
        number = torch.tensor(counts, device=positives.device)
        group_of = torch.arange(len(counts), device=positives.device).repeat_interleave(number)
        losses = contrastive_loss(
            h_anchors[group_of],
            positives,
            negatives[group_of],
            temperature=self.readings.temperature,
            form=self.readings.contrastive_form,
            mask=mask[group_of],
        )
        return (losses / number[group_of]).sum()

    def _latent(
        self, batch: Mapping[str, Tensor], group_sizes: Sequence[int] | None = None
    ) -> Tensor:
        """h of eq. 2 for each text of a batch [b, d], in float32 even under autocast."""
        states, mask = self.backbone.text_states(batch, self.readings.embedding, group_sizes)
        assert self.projection is not None  # there is one wherever L_c is on
        with torch.autocast(states.device.type, enabled=False):
            return self.projection(states.float(), mask)

    def _encode_prompts(self, anchors: Sequence[Anchor]) -> dict[str, Tensor]:
        """Each group's instruction behind its image, as the model is prompted to write."""
        prompts = [pair_prompt(group.instruction, 1) for _, group, _ in anchors]
        return self.backbone.encode(prompts, [picture for _, _, picture in anchors])

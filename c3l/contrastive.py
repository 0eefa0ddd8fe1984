"""The contrastive learning module's latent space and loss (section 3.3, eq. 2 and 3)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from c3l.readings import ContrastiveForm

# The least norm a cosine divides by: a latent vector may be all zero after ReLU.
EPS = 1e-8


class Projection(nn.Module):
    """ξ of eq. 2: an affine map d → d, ReLU, and the average over the positions of the text.

    With `affine=False` the map is the identity, and the module has no parameters.
    """

    def __init__(self, width: int, *, affine: bool = True):
        super().__init__()
        self.map = nn.Linear(width, width) if affine else nn.Identity()

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """h [batch, d] of the states [batch, positions, d]; padding has mask 0 [batch, positions].

        Raises ValueError when a text has no position.
        """
        if not mask.bool().any(dim=1).all():
            raise ValueError("A text without a single token has no latent vector.")
        weights = mask.to(states.dtype).unsqueeze(-1)
        return (F.relu(self.map(states)) * weights).sum(dim=1) / weights.sum(dim=1)


def contrastive_loss(
    anchor: Tensor,
    positive: Tensor,
    negatives: Tensor,
    *,
    temperature: float = 0.1,
    form: ContrastiveForm = "literal",
    mask: Tensor | None = None,
) -> Tensor:
    """L_c of eq. 3, one value for each anchor: [batch].

    anchor, positive [batch, d]; negatives [batch, k, d]; mask [batch, k] is true at negatives,
    false at padding. Similarities are cosines, divided by `temperature`.

    "literal" is eq. 3 as printed: its denominator sums over the negatives only, so it may be
    negative, never saturates, and is undefined without negatives (ValueError). "infonce" has the
    positive in the denominator as well: softplus of the literal form, and 0 without negatives.
    """
    if mask is None:
        mask = torch.ones(negatives.shape[:2], dtype=torch.bool, device=negatives.device)
    mask = mask.bool()
    sim_pos = F.cosine_similarity(anchor, positive, dim=-1, eps=EPS) / temperature
    sim_neg = F.cosine_similarity(anchor.unsqueeze(1), negatives, dim=-1, eps=EPS) / temperature
    sim_neg = sim_neg.masked_fill(~mask, -torch.inf)
    if form == "infonce":
        logits = torch.cat([sim_pos.unsqueeze(1), sim_neg], dim=1)
        return logits.logsumexp(dim=1) - sim_pos
    if form == "literal":
        if not mask.any(dim=1).all():
            raise ValueError("Eq. 3 as printed is undefined for a group without negatives.")
        return sim_neg.logsumexp(dim=1) - sim_pos
    raise ValueError(f"Unknown contrastive form {form!r}.")

"""Every open point of the paper that this package can read in more than one way."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ScoreForm = Literal[
    "literal_sum",
    "literal_mean",
    "full_vocab_sum",
    "full_vocab_mean",
    "renormalised",
    "generalised",
    "bernoulli",
    "logratio",
    "logratio_mean",
]
ContrastiveForm = Literal["literal", "infonce"]


class Readings(BaseModel):
    """One choice for every open point. The defaults are the literal reading of the paper."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    score_form: ScoreForm = "literal_sum"
    """Eq. 1: as printed and summed, or one of the forms of `c3l.relevance.i2c`."""

    score_eos: bool = False
    """Whether eq. 1 counts the end-of-sequence token as a token of the answer."""

    contrastive_form: ContrastiveForm = "literal"
    """Eq. 3's denominator: the negatives only, as printed, or the positive as well (InfoNCE)."""

    projection: Literal["affine", "none"] = "affine"
    """ξ in eq. 2: a learnt affine map, ReLU and average, or ReLU and average alone."""

    contrastive_image: bool = False
    """Whether e in eq. 2 is embedded behind the image, or from the text alone."""

    temperature: float = Field(default=0.1, gt=0)
    """τ in eq. 3. The paper is silent; 0.1 is that of Lee et al. (2020), which it follows."""

    target: Literal["pair", "answer"] = "pair"
    """What L_r teaches: image and instruction → question and answer, or image and question →
    answer."""

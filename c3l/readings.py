"""Every open point of the paper that this package can read in more than one way.

The paper is silent on these. A field that a stage reads is part of that stage's key, and named in
its manifest.
"""

from typing import Literal

from pydantic import Field

from c3l.record import Record

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
Embedding = Literal["last_hidden", "input"]
Tuning = Literal["language+projector", "projector", "lora", "qlora", "full"]


class Readings(Record):
    """One choice for every open point. The defaults are the literal reading of the paper."""

    # ── Scores (section 3.2) ─────────────────────────────────────────────────────────────────────

    score_form: ScoreForm = "literal_sum"
    """Eq. 1: as printed and summed, or one of the forms of `c3l.relevance.i2c`."""

    score_eos: bool = False
    """Whether eq. 1 counts the end-of-sequence token as a token of the answer."""

    without_image: Literal["removed", "blank", "noise", "mean"] = "removed"
    """What p^d is conditioned on: the image tokens and their wrapper leave the prompt, or they show
    a white image, one noise image for all, or the colour that the image processor subtracts."""

    share_within: Literal["pool", "class"] = "pool"
    """What L_r's best tenth is a tenth of: the whole pool, or each instruction class."""

    turns: Literal["in_conversation", "alone"] = "in_conversation"
    """What a later turn of a conversation is scored behind: the turns before it as well, with the
    image in the first of them, or its own question alone. Training reads every turn alone."""

    # ── Contrastive learning (section 3.3) ───────────────────────────────────────────────────────

    contrastive_form: ContrastiveForm = "literal"
    """Eq. 3's denominator: the negatives only, as printed, or the positive as well (InfoNCE)."""

    projection: Literal["affine", "none"] = "affine"
    """ξ in eq. 2: a learnt affine map, ReLU and average, or ReLU and average alone."""

    embedding: Embedding = "last_hidden"
    """e in eq. 2, by the "text encoder in the LVLM": the language model's last hidden states, or
    its input embeddings."""

    anchor: Literal["sampled", "prompt"] = "sampled"
    """y in eq. 3: what the model writes about the image, sampled without a gradient and then
    embedded with it like the samples, or the states of the instruction behind the image."""

    contrastive_image: bool = False
    """Whether e in eq. 2 is embedded behind the image, or from the text alone."""

    temperature: float = Field(default=0.1, gt=0)
    """τ in eq. 3. The paper is silent; 0.1 is that of Lee et al. (2020), which it follows."""

    group: Literal["image", "image_and_class"] = "image"
    """Whose samples eq. 3 compares: one image's, or those of one image and instruction class."""

    positive_without_crm: Literal["i2c", "random"] = "i2c"
    """Table 4's second row has no CRM, yet eq. 3 needs a positive: the best by I²C still, or one
    drawn at random."""

    contrastive_weight: float = Field(default=1.0, gt=0)
    """λ in L_r + λ L_c."""

    joining: Literal["joint", "sequential"] = "joint"
    """How L_r and L_c meet: in every step, or first all steps of L_r and then those of L_c."""

    # ── Training ─────────────────────────────────────────────────────────────────────────────────

    target: Literal["pair", "answer"] = "pair"
    """What L_r teaches: image and instruction → question and answer, or image and question →
    answer."""

    tuning: Tuning = "lora"
    """What is trained, of generators and in VLIT: see `Backbone.trainable`."""

    epochs: int | None = Field(default=None, ge=1)
    """Passes over the data in every training; None: as many as the settings of each say."""

    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"

    # ── Data (sections 3.1 and 3.4) ──────────────────────────────────────────────────────────────

    caption_temperature: float = Field(default=0.0, ge=0)
    """0: greedy."""
    pair_temperature: float = Field(default=0.7, ge=0)
    pair_top_p: float = Field(default=0.9, gt=0, le=1)

    pairs_from: Literal["caption", "caption_and_image"] = "caption"
    """What the second step of generation sees."""

    blacklist: bool = False
    """Whether the filter drops questions with a word of Self-Instruct's list (image, picture,
    graph …), as published. It would reject every C³L question that the paper's figure 4 shows."""

    final_selection: Literal["random", "i2c"] = "random"
    """Which of the enhanced generator's samples become the final data: a seeded draw, or the best
    by I²C, scored by the backbone as the initial ones are."""

    vlit_start: Literal["backbone", "generator"] = "backbone"
    """What VLIT starts from: the original backbone, or the generator that wrote the data."""

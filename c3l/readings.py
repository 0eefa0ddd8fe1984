"""Every open point of the paper that this package can read in more than one way.

The paper is silent on these. Each field says by `ReadBy` which steps read it, and nothing else has
to: those steps have it in their key and their manifest, and a step that reads another one stops.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import Field, PlainSerializer, WrapValidator

from c3l.runtime.record import Record, later_field
from c3l.score_forms import FORMS

__all__ = ["ReadBy", "Readings", "later_field", "read_by"]

Step = Literal[
    "captions",
    "initial",
    "filtered",
    "scores",
    "selection",
    "rival_selection",  # every rival to I²C
    "self_instruct",  # that rival alone
    "vigc",
    "generator",  # every generator
    "generator_crm",  # one trained with L_r
    "generator_clm",  # one trained with L_c
    "final",
    "best",
    "vlit",
    "relevance",
    "plan",  # decides which stages there are, and on what inputs
]
"""The stages of `c3l.stages` and `repro.stages.evaluation`, and parts of some of them."""


class ReadBy:
    """The steps whose result depends on a reading: `Annotated[bool, ReadBy("scores")]`.

    Raises TypeError for an unknown step, and for none.
    """

    def __init__(self, *steps: Step):
        if not steps or {*steps} - {*get_args(Step)}:
            raise TypeError(f"ReadBy takes one or more of {', '.join(get_args(Step))}: {steps}")
        self.steps = frozenset(steps)


class _Declared(Record):
    """A record whose every field names by `ReadBy` the steps that read it; TypeError otherwise.

    A field without steps would be in no stage's key: changed, it would print the same number.
    """

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        for name, field in cls.model_fields.items():
            if sum(isinstance(extra, ReadBy) for extra in field.metadata) != 1:
                raise TypeError(
                    f"{cls.__name__}.{name} does not say which steps read it; write its type as "
                    f"Annotated[..., ReadBy(...)] with some of {', '.join(get_args(Step))}"
                )


if TYPE_CHECKING:
    ScoreForm = str
else:
    ScoreForm = Literal[*FORMS.shipped]
ContrastiveForm = Literal["literal", "infonce"]
Embedding = Literal["last_hidden", "input"]
Schedule = Literal["cosine", "linear", "constant_with_warmup"]
Unit = Literal["question", "sample"]
Tuning = Literal["language+projector", "projector", "lora", "qlora", "full"]


def _validate_form(value: Any, validate: Callable[[Any], Any]) -> Any:
    """Accept a form that was added to FORMS after this module was loaded."""
    return value if isinstance(value, str) and value in FORMS else validate(value)


class Readings(_Declared):
    """One choice for every open point. The defaults are the literal reading of the paper."""

    # ── Scores (section 3.2) ─────────────────────────────────────────────────────────────────────

    score_form: Annotated[
        ScoreForm, WrapValidator(_validate_form), PlainSerializer(str), ReadBy("selection", "best")
    ] = "literal_sum"
    """Eq. 1: as printed and summed, or one of the forms of `c3l.relevance.i2c`."""

    score_eos: Annotated[bool, ReadBy("scores", "relevance")] = False
    """Whether eq. 1 counts the end-of-sequence token as a token of the answer."""

    without_image: Annotated[Literal["removed", "blank", "noise", "mean"], ReadBy("scores")] = (
        "removed"
    )
    """What p^d is conditioned on: the image tokens and their wrapper leave the prompt, or they show
    a white image, one noise image for all, or the colour that the image processor subtracts."""

    share_within: Annotated[Literal["pool", "class"], ReadBy("selection", "rival_selection")] = (
        "pool"
    )
    """What L_r's best tenth is a tenth of: the whole pool, or each instruction class."""

    turns: Annotated[Literal["in_conversation", "alone"], ReadBy("scores")] = later_field(
        "in_conversation"
    )
    """What a later turn of a conversation is scored behind: the turns before it as well, with the
    image in the first of them, or its own question alone. Training reads every turn alone."""

    # ── Contrastive learning (section 3.3) ───────────────────────────────────────────────────────

    contrastive_form: Annotated[ContrastiveForm, ReadBy("generator_clm")] = "literal"
    """Eq. 3's denominator: the negatives only, as printed, or the positive as well (InfoNCE)."""

    projection: Annotated[Literal["affine", "none"], ReadBy("generator_clm")] = "affine"
    """ξ in eq. 2: a learnt affine map, ReLU and average, or ReLU and average alone."""

    embedding: Annotated[Embedding, ReadBy("generator_clm")] = "last_hidden"
    """e in eq. 2, by the "text encoder in the LVLM": the language model's last hidden states, or
    its input embeddings."""

    anchor: Annotated[Literal["sampled", "prompt"], ReadBy("generator_clm")] = "sampled"
    """y in eq. 3: what the model writes about the image, sampled without a gradient and then
    embedded with it like the samples, or the states of the instruction behind the image."""

    contrastive_image: Annotated[bool, ReadBy("generator_clm")] = False
    """Whether e in eq. 2 is embedded behind the image, or from the text alone."""

    temperature: Annotated[float, ReadBy("generator_clm")] = Field(default=0.1, gt=0)
    """τ in eq. 3. The paper is silent; 0.1 is that of Lee et al. (2020), which it follows."""

    group: Annotated[
        Literal["image", "image_and_class"], ReadBy("selection", "rival_selection")
    ] = "image"
    """Whose samples eq. 3 compares: one image's, or those of one image and instruction class."""

    positive_without_crm: Annotated[Literal["i2c", "random"], ReadBy("plan")] = "i2c"
    """Table 4's second row has no CRM, yet eq. 3 needs a positive: the best by I²C still, or one
    drawn at random."""

    contrastive_weight: Annotated[float, ReadBy("generator_clm")] = Field(default=1.0, gt=0)
    """λ in L_r + λ L_c."""

    joining: Annotated[Literal["joint", "sequential"], ReadBy("generator_clm")] = "joint"
    """How L_r and L_c meet: in every step, or first all steps of L_r and then those of L_c."""

    # ── Training ─────────────────────────────────────────────────────────────────────────────────

    target: Annotated[Literal["pair", "answer"], ReadBy("generator_crm")] = "pair"
    """What L_r teaches: image and instruction → question and answer, or image and question →
    answer."""

    tuning: Annotated[Tuning, ReadBy("generator", "vlit")] = "lora"
    """What is trained, of generators and in VLIT: see `Backbone.trainable`."""

    epochs: Annotated[int | None, ReadBy("generator", "vlit")] = Field(default=None, ge=1)
    """Passes over the data in every training; None: as many as the settings of each say."""

    warmup_ratio: Annotated[float, ReadBy("generator", "vlit")] = Field(default=0.03, ge=0, lt=1)
    schedule: Annotated[Schedule, ReadBy("generator", "vlit")] = "cosine"

    # ── Data (sections 3.1 and 3.4) ──────────────────────────────────────────────────────────────

    caption_temperature: Annotated[float, ReadBy("captions", "final")] = Field(default=0.0, ge=0)
    """0: greedy."""
    pair_temperature: Annotated[float, ReadBy("initial", "final", "vigc")] = Field(
        default=0.7, ge=0
    )
    pair_top_p: Annotated[float, ReadBy("initial", "final", "vigc")] = Field(
        default=0.9, gt=0, le=1
    )

    pairs_from: Annotated[Literal["caption", "caption_and_image"], ReadBy("initial", "final")] = (
        "caption"
    )
    """What the second step of generation sees."""

    blacklist: Annotated[bool, ReadBy("filtered", "final", "vigc")] = False
    """Whether the filter of every row's pool drops questions with a word of Self-Instruct's list
    (image, graph …). It would reject every C³L question that the paper's figure 4 shows."""

    # ── The rivals in table 5 (section 4.4) ──────────────────────────────────────────────────────

    self_instruct_unit: Annotated[Unit, ReadBy("self_instruct")] = later_field("question")
    """What Self-Instruct's "instruction" is: a question, with each image it is asked of as an
    instance, or each sample, so that a question asked again is similar to itself and rejected."""

    self_instruct_instances: Annotated[int | None, ReadBy("self_instruct")] = later_field(
        None, ge=1
    )
    """The most instances kept of an instruction, a seeded draw; None: all. As published: 5."""

    self_instruct_contradiction: Annotated[
        Literal["image", "instruction"], ReadBy("self_instruct")
    ] = later_field("image")
    """What goes where an image has two answers to a question: that image's samples of it, or, as
    published, all instances of the instruction."""

    self_instruct_blacklist: Annotated[bool, ReadBy("self_instruct")] = later_field(False)
    """Whether Self-Instruct's filter has its list of words, as published, in its own row alone;
    `blacklist` is for the pool of every row."""

    vigc_asks: Annotated[Literal["question", "instruction_and_question"], ReadBy("vigc")] = (
        later_field("question")
    )
    """What each round of VIGC's iterative generation asks: the question, or, as published, what
    the pair was asked for with (`vig`), the reply begun with the question."""

    vigc_sentence: Annotated[Literal["any_mark", "full_stop"], ReadBy("vigc")] = later_field(
        "any_mark"
    )
    """Where VIGC's sentences end: at . ! or ? before white space, or the end of a finished answer;
    or, as published, at every "." and nowhere else, so that an answer without one is nothing."""

    # ── What the tables' models are made from ────────────────────────────────────────────────────

    final_selection: Annotated[Literal["random", "i2c"], ReadBy("plan")] = "random"
    """Which of the enhanced generator's samples become the final data: a seeded draw, or the best
    by I²C, scored by the backbone as the initial ones are."""

    vlit_start: Annotated[Literal["backbone", "generator"], ReadBy("plan")] = "backbone"
    """What VLIT starts from: the original backbone, or the generator that wrote the data."""

    def of(self, *steps: Step) -> dict[str, Any]:
        """Dump what these steps read: their part of a stage's key, and nothing else."""
        return self.model_dump(include=read_by(*steps, among=type(self)))

    @classmethod
    def within(cls, values: Mapping[str, Any], *steps: Step, **fixed: Any) -> "Readings":
        """Return the readings of a running stage, from the dump of `of` for the same steps.

        Reading any other field raises LookupError, since the stage's key does not hold it. `fixed`
        are readings that the stage sets itself. Raises LookupError for a missing value.
        """
        declared = read_by(*steps, among=cls)
        # A field that is left out at its default is not missing.
        required = {name for name in declared if cls.model_fields[name].exclude_if is None}
        if missing := sorted(required - values.keys()):
            raise LookupError(f"{', '.join(steps)}: the stage's key holds no {', '.join(missing)}")
        values = {name: value for name, value in values.items() if name in declared}
        readings = cls(**values, **fixed)
        for name in cls.model_fields.keys() - declared - fixed.keys():
            del readings.__dict__[name]
        return readings

    def __getattr__(self, name: str) -> Any:
        if name in type(self).model_fields:
            raise LookupError(
                f"The key of this stage does not hold the reading {name}: name the step in the "
                "field's ReadBy (c3l/readings.py)."
            )
        return super().__getattr__(name)  # type: ignore[misc]  # of pydantic, at run time


def read_by(*steps: Step, among: type[Readings] = Readings) -> set[str]:
    """Return the names of the readings that any of these steps reads. TypeError for another."""
    reading = ReadBy(*steps).steps
    return {
        name
        for name, field in among.model_fields.items()
        for extra in field.metadata
        if isinstance(extra, ReadBy) and extra.steps & reading
    }

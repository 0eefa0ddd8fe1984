"""Settings of the stages: sizes of decoding and optimisation, as validated records.

The open points of the paper are in `c3l.readings`. Light to import: settings are
validated before any model is loaded.
"""

from pydantic import Field, model_validator

from c3l.readings import Readings
from c3l.runtime.overrides import apply_overrides
from c3l.runtime.record import Record, later_field


class GenerationSettings(Record):
    """Two-step generation (section 3.1). Its sampling is a reading."""

    caption_tokens: int = Field(ge=1)
    """The maximum length of a caption."""
    pair_tokens: int = Field(ge=1)
    """The maximum length of the pairs written for one image and class."""
    pairs_per_class: int = Field(ge=1, le=10)
    """The number of pairs an instruction requests; each image gets every class."""
    batch_size: int = Field(ge=1)


class TrainingSettings(Record):
    """Optimisation. The defaults are the paper's where it gives a number (section 4.1)."""

    learning_rate: float = Field(default=2e-5, gt=0)
    weight_decay: float = Field(default=1e-5, ge=0)
    batch_size: int = Field(default=2, ge=1)
    """Samples (and as many image groups) behind one step of the optimizer."""
    accumulation: int = Field(default=1, ge=1)
    """The number of parts a step's batch is computed in, to save memory; divides `batch_size`."""
    epochs: int = Field(default=1, ge=1)
    """Unless `Readings.epochs` says otherwise."""
    save_steps: int = Field(default=100, ge=1)
    anchor_tokens: int = Field(default=128, ge=1)
    """The maximum length of a sampled anchor."""
    anchor_steps: int = later_field(1, ge=1)
    """The number of steps whose anchors are sampled at a time, by the model as it is before the
    first of them: a larger batch takes hardly longer. Divides `save_steps`."""
    max_negatives: int | None = Field(default=None, ge=1)
    """The maximum number of negatives in a group, a seeded draw, to save memory; None: all."""
    gradient_checkpointing: bool = later_field(False)
    """Compute the layers once more for the gradient instead of keeping them, to save memory."""

    @model_validator(mode="after")
    def _parts_are_equal(self) -> "TrainingSettings":
        if self.batch_size % self.accumulation:
            raise ValueError("accumulation must divide batch_size")
        if self.save_steps % self.anchor_steps:
            raise ValueError("anchor_steps must divide save_steps")
        return self


class MethodSettings(Record):
    """The settings of `python -m c3l generate` and `train`."""

    readings: Readings = Readings()
    # The paper's five pairs of each class for an image; room for a LLaVA's words.
    generation: GenerationSettings = GenerationSettings(
        caption_tokens=256, pair_tokens=768, pairs_per_class=5, batch_size=16
    )
    # Its other sizes; with all fourteen negatives of an image L_c would not fit on one GPU.
    training: TrainingSettings = TrainingSettings(max_negatives=7)
    share: float = Field(default=0.10, gt=0, le=1)
    """The share of the initial samples, the best by I²C, that become L_r's targets."""

    def changed(self, changes: list[str]) -> "MethodSettings":
        """Return a copy with changes such as "training.learning_rate=1e-4".

        A reading needs no "readings." before it. Raises UserError for an invalid change.
        """
        return apply_overrides(self, changes, "the method")

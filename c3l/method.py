"""The augmented pipeline of section 3.4 as one graph of stages.

Nothing runs here: each step is a `Stage`, which names its inputs. Whoever wants a result has a
store make it, with all that it comes from; `python -m repro plan` shows the same graph.
"""

from dataclasses import dataclass

from c3l.artifacts.stage import Source, Stage
from c3l.readings import Readings
from c3l.selection import selector
from c3l.settings import GenerationSettings, MethodSettings
from c3l.stages import scoring, selecting, training, writing
from c3l.stages.common import Weights


@dataclass(frozen=True)
class Images:
    """The first `count` images of a folder."""

    source: Source
    count: int


@dataclass(frozen=True)
class WrittenData:
    """Pairs that a model writes about images, step by step (section 3.1)."""

    captions: Stage
    pairs: Stage
    samples: Stage
    """The pairs without duplicates and invalid ones."""


@dataclass(frozen=True)
class Pipeline:
    """The steps of `augmented_pipeline`."""

    initial: WrittenData
    scores: Stage
    candidates: Stage
    """The samples that `selection` chooses among: the initial ones, but for VIGC."""
    selection: Stage
    generator: Weights
    final: Stage | None
    """The final data D*, on which a model is fine-tuned (`c3l.stages.training.vlit`)."""


def augmented_pipeline(
    backbone: Weights,
    initial_images: Images,
    final_images: Images | None,
    settings: MethodSettings,
    seed: int,
    *,
    size: int | None = None,
    crm: bool = True,
    clm: bool = True,
    selection: str = "i2c",
    score_batch_size: int | None = None,
) -> Pipeline:
    """Return the steps from images to the final data (section 3.4).

    Args:
        backbone: writes the initial data and becomes the generator by training.
        initial_images: what the generator learns to write about.
        final_images: what the final data are about; None ends with the generator.
        size: samples of the final data; None keeps all that are valid.
        crm: whether L_r, the cross entropy on the best samples, is part of the training.
        clm: whether L_c, the contrastive loss over an image's samples, is. With neither the
            generator is the backbone itself.
        selection: "i2c", or a method of `c3l.selection` in its place (table 5).
        score_batch_size: answers scored at a time; default: the generation's batch size.

    Raises UserError where L_c would reach no weight that is trained.
    """
    readings, generation = settings.readings, settings.generation
    batch_size = score_batch_size or generation.batch_size
    images = initial_images.source

    # Section 3.1: initial data D0, pairs of the three instruction classes about each image.
    initial = write_data(backbone, initial_images, generation, readings, seed)

    # Section 3.2, eq. 1: how much the image changes the probability of each answer.
    scores = scoring.scores(backbone, initial.samples, images, readings, batch_size)

    # Sections 3.2 and 3.3: the best tenth are L_r's targets. Of each image the best sample is
    # L_c's positive, the others are its negatives.
    candidates = initial.samples
    if selection == "i2c":
        labels = selecting.selection(candidates, scores, readings, settings.share, seed, crm=crm)
    else:
        inputs = {}
        if selection == "vigc":  # labels pairs that it writes itself
            count = initial_images.count
            candidates = writing.vigc(backbone, images, count, generation, readings, seed)
        needs = selector(selection).needs
        if "scores" in needs:
            inputs["scores"] = scores
        if "answer_logprobs" in needs:
            inputs["alone"] = scoring.answer_logprobs(backbone, candidates, batch_size)
        labels = selecting.rival_selection(
            selection, candidates, readings, settings.share, seed, **inputs
        )

    # Sections 3.2 and 3.3, eq. 3: the backbone learns from them, by L_r + λ·L_c.
    generator = backbone
    if crm or clm:
        training_settings, losses = settings.training, {"crm": crm, "clm": clm}
        generator = training.generator(
            backbone, candidates, labels, images, training_settings, readings, seed, **losses
        )

    # Final data D*: what the generator writes about other images, drawn or the best by I²C.
    final = None
    if final_images:
        best = readings.final_selection == "i2c"
        images, count, draw = final_images.source, final_images.count, None if best else size
        final = writing.final(generator, images, count, draw, generation, readings, seed)
        if best and size:
            final_scores = scoring.scores(backbone, final, images, readings, batch_size)
            final = selecting.best(final, final_scores, readings, size)
    return Pipeline(initial, scores, candidates, labels, generator, final)


def write_data(
    writer: Weights, images: Images, settings: GenerationSettings, readings: Readings, seed: int
) -> WrittenData:
    """Return the steps that write pairs about images: captions, pairs from them, the filter."""
    captions = writing.captions(writer, images.source, images.count, settings, readings, seed)
    pairs = writing.initial(writer, captions, images.source, settings, readings, seed)
    return WrittenData(captions, pairs, writing.filtered(pairs, readings))

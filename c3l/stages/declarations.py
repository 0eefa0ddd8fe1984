"""The augmented pipeline of section 3.4 as stages of the store.

    captions → initial → filtered → scores → selection → generator → final → vlit

(and between the last two, if the final data are to be the best ones, scores → best).

Table 5's rivals to I²C put other stages in the place of some: `vigc` makes filtered pairs of its
own, `rival_selection` selects, for one of them with the help of `alone`.

Each function below makes one Stage; what it does when it runs is the function of the same name in
`c3l.stages.common` or `c3l.stages.rivals`. The readings in its key are those whose field says so
(`c3l.readings.ReadBy`). Making stages does not import torch. Weights are a Stage or a Source: "no
enhancement" is the backbone itself as the generator. Raise a stage's version (its second field)
when the same inputs would give another result.
"""

from pathlib import Path

from c3l.artifacts.store import Source, Stage
from c3l.backbones.reach import contrast_unreached, model_type
from c3l.readings import Readings
from c3l.runtime.errors import UserError
from c3l.runtime.hub import check_seal, weight_names, weights_folder
from c3l.selection import LABELS, Method, code_of
from c3l.settings import GenerationSettings, TrainingSettings
from c3l.stages import common, rivals

Weights = Stage | Source


def backbone_source(path_or_id: str | Path, *, fetch: bool = True) -> Source:
    """A folder of weights, or a Hub id, as an input: what a model is loaded from, not its card.

    With `fetch`, what the Hub's cache lacks is fetched.

    Raises UserError for a folder without weights, and for one that its seal does not match
    (`c3l.runtime.hub.seal_weights`): what was damaged, or edited, is another backbone.
    """
    folder = weights_folder(path_or_id, fetch=fetch)
    names = weight_names(folder)
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        raise UserError(
            f"There is no backbone in {folder}: a folder with config.json and safetensors files is "
            "needed."
        )
    check_seal(folder)
    return Source.of(folder, names)


def image_source(folder: Path, count: int) -> Source:
    """The first `count` images of a folder as an input; the others do not count."""
    return Source.of(folder, common.image_names(folder, count))


def captions(
    backbone: Weights,
    images: Source,
    count: int,
    settings: GenerationSettings,
    readings: Readings,
    seed: int,
) -> Stage:
    """First step of generation: one caption for each of the first `count` images."""
    config = settings.model_dump(include={"caption_tokens", "batch_size"})
    config |= {"images": count, "readings": readings.of("captions")}
    inputs = {"backbone": backbone, "images": images}
    # Greedy captions are the same whatever the seed: all seeds share them.
    seeded = seed if readings.caption_temperature > 0 else None
    return Stage("captions", 1, common.captions, config, inputs, seeded)


def initial(
    backbone: Weights,
    captions: Stage,
    images: Source,
    settings: GenerationSettings,
    readings: Readings,
    seed: int,
) -> Stage:
    """Second step: question-answer pairs of the three classes, from the captions."""
    config = settings.model_dump(exclude={"caption_tokens"})
    config |= {"readings": readings.of("initial")}
    inputs = {"backbone": backbone, "captions": captions}
    if readings.pairs_from == "caption_and_image":
        inputs["images"] = images
    return Stage("initial", 1, common.initial, config, inputs, seed)


def filtered(initial: Stage, readings: Readings) -> Stage:
    """The samples without duplicates and invalid pairs."""
    config = {"readings": readings.of("filtered")}
    return Stage("filtered", 1, common.filtered, config, {"samples": initial})


def scores(
    backbone: Weights, samples: Stage, images: Weights, readings: Readings, batch_size: int
) -> Stage:
    """Per-token log-probabilities with and without the image, from which every form is made."""
    config = {"readings": readings.of("scores"), "batch_size": batch_size}
    inputs = {"backbone": backbone, "samples": samples, "images": images}
    return Stage("scores", 2, common.scores, config, inputs)


def selection(
    samples: Stage, scores: Stage, readings: Readings, share: float, seed: int, *, crm: bool
) -> Stage:
    """The ids of L_r's targets (best `share` by I²C) and of each group's positive and negatives."""
    positive = "i2c" if crm else readings.positive_without_crm
    config = {"readings": readings.of("selection"), "share": share, "positive": positive}
    inputs = {"samples": samples, "scores": scores}
    return Stage(
        "selection", 1, common.selection, config, inputs, seed if positive == "random" else None
    )


def vigc(
    backbone: Weights,
    images: Source,
    count: int,
    settings: GenerationSettings,
    readings: Readings,
    seed: int,
) -> Stage:
    """VIGC's pairs about the first `count` images, filtered: direct answers and corrected ones."""
    config = settings.model_dump(exclude={"caption_tokens"}) | {"images": count}
    config |= {"readings": readings.of("vigc")}
    inputs = {"backbone": backbone, "images": images}
    return Stage("vigc", 1, rivals.vigc, config, inputs, seed)


def alone(backbone: Weights, samples: Stage, batch_size: int) -> Stage:
    """The likelihood of each answer by itself, which instruction-following difficulty needs."""
    inputs = {"backbone": backbone, "samples": samples}
    return Stage("alone", 1, rivals.alone, {"batch_size": batch_size}, inputs)


def rival_selection(
    by: Method | str,
    samples: Stage,
    readings: Readings,
    share: float,
    seed: int,
    **known: Stage,
) -> Stage:
    """The same ids as of `selection`, chosen by another method (`c3l.selection.select`).

    `known` are the `scores` of the samples and the likelihood of their answers `alone`, where the
    method needs them.
    """
    config = {"by": by, "share": share, "readings": readings.of(*rivals.rival_steps(by))}
    config |= code_of(by)
    seeded = seed if by in ("random", *LABELS) else None
    inputs = {"samples": samples, **known}
    return Stage("selection", 1, rivals.rival_selection, config, inputs, seeded)


def generator(
    backbone: Weights,
    samples: Stage,
    selection: Stage,
    images: Source,
    settings: TrainingSettings,
    readings: Readings,
    seed: int,
    *,
    crm: bool,
    clm: bool,
) -> Stage:
    """The enhanced generator, trained with L_r if `crm` and with L_c if `clm`.

    Raises UserError where L_c would reach no weight that is trained.
    """
    if clm and (reason := contrast_unreached(readings, model_type(backbone))):
        raise UserError(f"{reason}.")
    config = {
        "settings": settings.model_dump(),
        "readings": readings.of(*common.generator_steps(crm, clm)),
        "crm": crm,
        "clm": clm,
    }
    inputs = {"backbone": backbone, "samples": samples, "selection": selection, "images": images}
    return Stage("generator", 2, common.generator, config, inputs, seed)


def final(
    generator: Weights,
    images: Source,
    count: int,
    size: int | None,
    settings: GenerationSettings,
    readings: Readings,
    seed: int,
) -> Stage:
    """Final data: captions and pairs by the generator, filtered, and `size` of them drawn.

    Without a size all are kept, for `best` to choose from.
    """
    config = settings.model_dump() | {"images": count, "size": size}
    config |= {"readings": readings.of("final")}
    return Stage("final", 1, common.final, config, {"generator": generator, "images": images}, seed)


def drawn(parts: list[Stage], size: int | None, seed: int) -> Stage:
    """`size` samples of several parts, by a seeded draw; without a size all of them."""
    inputs = {f"part-{number:06d}": part for number, part in enumerate(parts)}
    return Stage("drawn", 1, common.drawn, {"size": size}, inputs, seed)


def best(samples: Stage, scores: Stage, readings: Readings, size: int) -> Stage:
    """The `size` best samples by I²C."""
    config = {"readings": readings.of("best"), "size": size}
    return Stage("best", 1, common.best, config, {"samples": samples, "scores": scores})


def vlit(
    weights: Weights,
    samples: Stage,
    images: Source,
    settings: TrainingSettings,
    readings: Readings,
    seed: int,
) -> Stage:
    """A fresh copy of the weights, fine-tuned on the final data."""
    inputs = {"backbone": weights, "samples": samples, "images": images}
    config = {"settings": settings.model_dump(), "readings": readings.of("vlit")}
    return Stage("vlit", 1, common.vlit, config, inputs, seed)

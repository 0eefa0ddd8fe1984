"""The augmented pipeline of section 3.4 as stages of the store.

    captions → initial → filtered → scores → selection → generator → final → vlit

Each function below makes one Stage; what it does when it runs is the function of the same name in
`c3l.stages`. Making stages does not import torch. Weights are a Stage or a Source: "no enhancement"
is the backbone itself as the generator. Raise a stage's version (its second field) when the same
inputs would give another result.
"""

from pathlib import Path

from c3l import stages
from c3l.errors import UserError
from c3l.files import digest_files
from c3l.readings import Readings
from c3l.settings import GenerationSettings, TrainingSettings
from c3l.store import Source, Stage

Weights = Stage | Source

WEIGHT_FILES = {".safetensors", ".json", ".jinja", ".model", ".txt"}


def backbone_source(path: Path) -> Source:
    """A folder of weights as an input: the files a model is loaded from, not its card."""
    names = [p.name for p in sorted(path.glob("*")) if p.suffix in WEIGHT_FILES]
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        raise UserError(
            f"There is no backbone in {path}: a folder with config.json and safetensors files is "
            "needed."
        )
    return Source(path, digest_files(path, names))


def image_source(folder: Path, count: int) -> Source:
    """The first `count` images of a folder as an input; the others do not count."""
    return Source(folder, digest_files(folder, stages.image_names(folder, count)))


def captions(backbone: Weights, images: Source, count: int, settings: GenerationSettings) -> Stage:
    """First step of generation: one greedy caption for each of the first `count` images."""
    config = settings.model_dump(include={"caption_tokens", "batch_size"}) | {"images": count}
    return Stage("captions", 1, stages.captions, config, {"backbone": backbone, "images": images})


def initial(backbone: Weights, captions: Stage, settings: GenerationSettings, seed: int) -> Stage:
    """Second step: question-answer pairs of the three classes, from the captions."""
    config = settings.model_dump(exclude={"caption_tokens"})
    return Stage(
        "initial", 1, stages.initial, config, {"backbone": backbone, "captions": captions}, seed
    )


def filtered(initial: Stage) -> Stage:
    """The samples without duplicates and invalid pairs."""
    return Stage("filtered", 1, stages.filtered, {}, {"samples": initial})


def scores(
    backbone: Weights, samples: Stage, images: Source, readings: Readings, batch_size: int
) -> Stage:
    """Per-token log-probabilities with and without the image, from which every form is made."""
    config = {"readings": readings.model_dump(include={"score_eos"}), "batch_size": batch_size}
    inputs = {"backbone": backbone, "samples": samples, "images": images}
    return Stage("scores", 1, stages.scores, config, inputs)


def selection(samples: Stage, scores: Stage, readings: Readings, share: float) -> Stage:
    """The ids of L_r's targets (best `share` by I²C) and of each image's positive and negatives."""
    config = {"readings": readings.model_dump(include={"score_form"}), "share": share}
    return Stage("selection", 1, stages.selection, config, {"samples": samples, "scores": scores})


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
    """The enhanced generator, trained with L_r if `crm` and with L_c if `clm`."""
    config = {
        "settings": settings.model_dump(),
        "readings": readings.model_dump(exclude={"score_form", "score_eos"}),
        "crm": crm,
        "clm": clm,
    }
    inputs = {"backbone": backbone, "samples": samples, "selection": selection, "images": images}
    return Stage("generator", 1, stages.generator, config, inputs, seed)


def final(
    generator: Weights,
    images: Source,
    count: int,
    size: int,
    settings: GenerationSettings,
    seed: int,
) -> Stage:
    """Final data: captions and pairs by the generator, filtered, and `size` of them drawn."""
    config = settings.model_dump() | {"images": count, "size": size}
    return Stage("final", 1, stages.final, config, {"generator": generator, "images": images}, seed)


def vlit(
    backbone: Weights, samples: Stage, images: Source, settings: TrainingSettings, seed: int
) -> Stage:
    """A fresh copy of the backbone, fine-tuned on the final data."""
    inputs = {"backbone": backbone, "samples": samples, "images": images}
    return Stage("vlit", 1, stages.vlit, {"settings": settings.model_dump()}, inputs, seed)

"""Helpers of all stages: their sources, the files they pass on, and how they read a job."""

from pathlib import Path
from typing import Any

from c3l.artifacts.stage import Job, Source, Stage
from c3l.readings import Readings, Step
from c3l.runtime.errors import UserError, printable
from c3l.runtime.hub import check_seal, weight_names, weights_folder
from c3l.samples import ImageFolder, Sample, read_samples, write_samples

Weights = Stage | Source
"""Weights that a stage makes, or a backbone as it is."""

SAMPLES, SCORES = "samples.jsonl", "scores.parquet"


def backbone_source(path_or_id: str | Path, *, fetch: bool = True) -> Source:
    """Return a folder of weights, or a Hub id, as an input: the files a model is loaded from.

    With `fetch`, what the Hub's cache lacks is fetched.

    Raises UserError for a folder without weights, and for one that does not match its seal
    (`c3l.runtime.hub.seal_weights`): damaged or edited weights are another backbone.
    """
    folder = weights_folder(path_or_id, fetch=fetch, check=_check_family)
    names = weight_names(folder)
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        raise UserError(
            f"There is no backbone in {folder}: a folder with config.json and safetensors files is "
            "needed."
        )
    check_seal(folder)
    return Source.from_path(folder, names)


def _check_family(folder: Path) -> None:
    """Raise UserError for a backbone of an unknown family. To fetch one takes longer than torch."""
    from c3l.backbones.loading import model_type

    model_type(folder)


def image_source(folder: Path, count: int) -> Source:
    """Return the first `count` images of a folder as an input; the others do not count."""
    return Source.from_path(folder, image_names(folder, count))


def image_names(folder: Path, count: int) -> list[str]:
    """Return the first `count` images of a folder by name. Raises UserError if it has fewer."""
    names = ImageFolder(folder).names()
    if len(names) < count:
        raise UserError(
            f"{printable(str(folder))} has {len(names)} images, but {count} are asked for."
        )
    return names[:count]


def samples_of(job: Job, name: str = "samples") -> list[Sample]:
    """Return the samples of an input stage."""
    return read_samples(job.inputs[name] / SAMPLES)


def readings_of(job: Job, *steps: Step, **fixed: Any) -> Readings:
    """Return the readings that the job's key holds; no other one is within reach."""
    return Readings.within(job.config["readings"], *steps, **fixed)


def save_samples(job: Job, samples: list[Sample], size: int | None = None, **facts: Any) -> dict:
    """Write the samples and return the facts for the manifest.

    Without any sample, or with one pair over and over, the stage is unscored. `size` is the number
    that was requested, which tables name where there are fewer.
    """
    write_samples(job.out / SAMPLES, samples)
    if not samples:
        facts["unscored"] = "the generator wrote no valid pair"
    elif len({(sample.question, sample.answer) for sample in samples}) == 1 < len(samples):
        facts["unscored"] = f"the generator repeats itself: one pair, {len(samples)} times"
    if size is not None:
        facts["asked"] = size
    return {"samples": len(samples), **facts}

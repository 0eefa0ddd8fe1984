"""Stages that train (sections 3.2 and 3.3, and VLIT): the enhanced generator, a tuned model."""

import json
from collections.abc import Callable

from c3l.artifacts.files import without_infinities
from c3l.artifacts.stage import Job, Source, Stage
from c3l.reach import contrast_unreached, model_type
from c3l.readings import Readings, Step
from c3l.runtime import distributed
from c3l.runtime.errors import UserError
from c3l.samples import ImageFolder
from c3l.settings import TrainingSettings
from c3l.stages.common import Weights, readings_of, samples_of
from c3l.stages.launcher import trains
from c3l.stages.models import load_model
from c3l.stages.selecting import read_selection


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
        "readings": readings.of(*generator_steps(crm, clm)),
        "crm": crm,
        "clm": clm,
    }
    inputs = {"backbone": backbone, "samples": samples, "selection": selection, "images": images}
    return Stage("generator", 3, run_generator, config, inputs, seed)


@trains
def run_generator(job: Job) -> dict:
    from c3l.training import train_generator

    labels, crm, clm = read_selection(job), job.config["crm"], job.config["clm"]
    data = (labels.targets if crm else [], labels.groups if clm else [])
    return _train(job, train_generator, data, generator_steps(crm, clm))


def generator_steps(crm: bool, clm: bool) -> tuple[Step, ...]:
    """Return the steps whose readings a generator with these losses depends on."""
    return "generator", *(["generator_crm"] if crm else ()), *(["generator_clm"] if clm else ())


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
    return Stage("vlit", 2, run_vlit, config, inputs, seed)


@trains
def run_vlit(job: Job) -> dict:
    from c3l.training import tune

    return _train(job, tune, (samples_of(job),), ("vlit",))


def _train(job: Job, train: Callable[..., dict], data: tuple, steps: tuple[Step, ...]) -> dict:
    """Write the weights trained on the data with the history of the losses; return the metrics."""
    backbone = load_model(job, "backbone", to_train=True)
    metrics = train(
        backbone,
        *data,
        ImageFolder(job.inputs["images"]),
        TrainingSettings(**job.config["settings"]),
        readings_of(job, *steps),
        job.seed,
        job.partial,
    )
    # Sorted: a record that comes back from a checkpoint has its keys in another order.
    history = json.dumps(without_infinities(metrics.pop("history")), indent=1, sort_keys=True)
    if distributed.is_main_process():
        backbone.save(job.out)
        (job.out / "history.json").write_text(history)
    return metrics

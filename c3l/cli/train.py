"""`python -m c3l train`: a backbone tuned on data, or a generator trained on scored data.

The one place that trains from files: checkpoints beside the result until it is there, whole.
"""

import json
import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from c3l import training
from c3l.artifacts import provenance
from c3l.artifacts.files import digest, fsync, read_checked, without_infinities, write_checked
from c3l.backbones import Backbone, load_backbone
from c3l.backbones.loading import usual_dtype
from c3l.data.left_out import write_left_out
from c3l.runtime import distributed
from c3l.runtime.errors import UserError, printable
from c3l.runtime.locks import exclusive_output
from c3l.samples import to_fields
from c3l.selection import groups, top_share
from c3l.settings import MethodSettings
from c3l.training_data import TrainingData, read_training_data

MANIFEST = "c3l.json"


def train(
    backbone: str | Path,
    data: str | Path,
    images: Path | None,
    out: Path,
    *,
    generator: bool = False,
    scores: Path | None = None,
    settings: MethodSettings | None = None,
    seed: int = 0,
    device: str | None = None,
    dtype: str | None = None,
    strict: bool = False,
) -> dict[str, Any]:
    """Train a copy of the backbone and save it in the folder `out`, with a manifest (MANIFEST).

    On image and question → answer (VLIT, section 4.1), or as a `generator` by L_r + λ·L_c (sections
    3.2 and 3.3), which needs scores: those in the data (its `i2c`), or a file of `c3l score`.
    `images` is the folder of data that do not hold their images themselves. A training that was
    stopped goes on from its last checkpoint, which lies beside `out` meanwhile; it is the same one
    if weights, samples, images, settings and seed are. What is there finished is not done again.
    Under `accelerate launch` each process calls this with the same, and the first writes.

    What cannot be trained on is left out before the first step, counted in the manifest
    (`left_out`) and named in `out` (`c3l.data.left_out`); with `strict` it is an error. Returns the
    manifest. Raises UserError for what the caller can mend.
    """
    settings = settings or MethodSettings()
    place = out.resolve()
    with distributed.process_group(device) as own, ExitStack() as stack:

        def begin() -> TrainingData:
            _check_parent(place)
            if distributed.is_main_process():
                stack.enter_context(exclusive_output(place))
            _check_free(place)
            readings = settings.readings if generator else None
            return read_training_data(data, images, scores=scores, readings=readings, strict=strict)

        def load() -> Backbone:
            return load_backbone(backbone, device=own, dtype=dtype or usual_dtype(own))

        training_data = distributed.run_on_all(begin)
        training_data.check_images(strict=strict)
        model = distributed.run_on_all(load)
        training_data.check_lengths(model, strict=strict)
        named = {"from": str(backbone), "data": Path(data).name}
        return _train(model, training_data, place, settings, seed, named)


def _train(
    model: Backbone,
    training_data: TrainingData,
    out: Path,
    settings: MethodSettings,
    seed: int,
    named: dict,
) -> dict[str, Any]:
    generator = training_data.values is not None
    task = {
        "trained": "generator" if generator else "vlit",
        "backbone": model.digest,
        "samples": digest(
            without_infinities([to_fields(sample) for sample in training_data.data.samples])
        ),
        "images": training_data.digest_images(),
        "scores": digest(training_data.values) if generator else None,
        "readings": settings.readings.model_dump(mode="json"),
        "training": settings.training.model_dump(mode="json"),
        "share": settings.share if generator else None,
        "seed": seed,
        "dtype": str(model.dtype).removeprefix("torch."),
    }
    if training_data.reasons:  # an image that is mended makes another training
        task["left_out"] = digest(sorted(training_data.reasons.items()))
    done = read_checked(out / MANIFEST)
    if done and done["task"] == task:
        return done
    if done:
        raise UserError(f"{printable(str(out))} holds another training; give another --out")
    checkpoints = out.with_name(f".{out.name}.training-{digest(task)[:16]}")
    checkpoints.mkdir(exist_ok=True)
    how = (training_data.images, settings.training, settings.readings, seed, checkpoints)
    if generator:
        samples, values = (
            training_data.samples,
            [training_data.values[i] for i in training_data.indices],
        )
        targets = top_share(samples, values, settings.share, settings.readings.share_within)
        image_groups = groups(samples, values, settings.readings.group)
        metrics = training.train_generator(model, targets, image_groups, *how, checked=True)
    else:
        metrics = training.tune(model, training_data.samples, *how, checked=True)

    def write() -> None:
        if distributed.is_main_process():
            manifest = {"task": task, **named, "left_out": training_data.counts}
            manifest |= {"versions": provenance.versions(), "commit": provenance.commit()}
            _save(model, out, manifest, metrics, training_data)
            shutil.rmtree(checkpoints)

    distributed.run_on_all(write)
    return read_checked(out / MANIFEST)


def _check_parent(out: Path) -> None:
    if not out.parent.is_dir():
        raise UserError(
            f"{printable(str(out.parent))} is no folder; make it, or give another --out"
        )


def _check_free(out: Path) -> None:
    empty = out.is_dir() and not any(out.iterdir())
    if out.exists() and not empty and read_checked(out / MANIFEST) is None:
        raise UserError(
            f"{printable(str(out))} holds something else; give a new or an empty folder as --out"
        )


def _save(
    model: Backbone, out: Path, manifest: dict, metrics: dict, training_data: TrainingData
) -> None:
    """The trained backbone as a whole folder, or none."""
    work = out.with_name(f".tmp-{out.name}")
    try:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        model.save(work)
        history = json.dumps(without_infinities(metrics.pop("history")), indent=1, sort_keys=True)
        (work / "history.json").write_text(history)
        write_left_out(work, training_data.left_out)
        write_checked(work / MANIFEST, manifest | {"metrics": metrics})
        for file in work.iterdir():
            fsync(file)
        os.replace(work, out)
        fsync(out.parent)
    except OSError as error:
        raise UserError(
            f"{printable(str(out))} cannot be written ({error.strerror or error})"
        ) from error

"""`python -m c3l train`: a backbone tuned on data, or a generator trained on scored data.

The one place that trains from files: checkpoints beside the result until it is there, whole.
"""

import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from c3l import processes, provenance, training
from c3l.backbones import Backbone, load_backbone
from c3l.backbones.loading import usual_dtype
from c3l.errors import UserError
from c3l.files import digest, fsync, read_sealed, write_sealed
from c3l.readings import Readings
from c3l.samples import ImageFolder, Sample, read_samples
from c3l.scores import read_scores
from c3l.selection import groups, top_share
from c3l.settings import MethodSettings

MANIFEST = "c3l.json"


def train(
    backbone: str | Path,
    data: Path,
    images: Path,
    out: Path,
    *,
    generator: bool = False,
    scores: Path | None = None,
    settings: MethodSettings | None = None,
    seed: int = 0,
    device: str | None = None,
    dtype: str | None = None,
) -> dict[str, Any]:
    """Train a copy of the backbone and save it in the folder `out`, with a manifest (MANIFEST).

    On image and question → answer (VLIT, section 4.1), or as a `generator` by L_r + λ·L_c (sections
    3.2 and 3.3), which needs scores: those in the data (its `i2c`), or a file of `c3l score`. A
    training that was stopped goes on from its last checkpoint, which lies beside `out` meanwhile;
    it is the same one if weights, samples, settings and seed are (images are taken to be). What is
    there finished is not done again. Under `accelerate launch` each process calls this with the
    same, and the first writes. Returns the manifest. Raises UserError for what the caller can mend.
    """
    with processes.together(device) as own:
        return _train(
            backbone,
            data,
            images,
            out,
            generator=generator,
            scores=scores,
            settings=settings or MethodSettings(),
            seed=seed,
            device=own,
            dtype=dtype,
        )


def _train(
    backbone: str | Path,
    data: Path,
    images: Path,
    out: Path,
    *,
    generator: bool,
    scores: Path | None,
    settings: MethodSettings,
    seed: int,
    device: str | None,
    dtype: str | None,
) -> dict[str, Any]:
    def read() -> tuple[list[Sample], list[float] | None, Backbone]:
        samples = read_samples(data)
        if not samples:
            raise UserError(f"there is no sample in {data}; give another --data")
        values = _values(samples, data, scores, settings.readings) if generator else None
        _check_free(out)
        model = load_backbone(backbone, device=device, dtype=dtype or usual_dtype(device))
        return samples, values, model

    folder = ImageFolder(images)
    samples, values, model = processes.agreed(read)
    task = {
        "trained": "generator" if generator else "vlit",
        "backbone": model.digest,
        "samples": digest([asdict(sample) for sample in samples]),
        "scores": None if values is None else digest(values),
        "readings": settings.readings.model_dump(mode="json"),
        "training": settings.training.model_dump(mode="json"),
        "share": settings.share if generator else None,
        "seed": seed,
        "dtype": str(model.dtype).removeprefix("torch."),
    }
    done = read_sealed(out / MANIFEST)
    if done and done["task"] == task:
        return done
    if done:
        raise UserError(f"{out} holds another training; give another --out")
    checkpoints = out.with_name(f".{out.name}.training-{digest(task)[:16]}")
    checkpoints.mkdir(exist_ok=True)
    how = (folder, settings.training, settings.readings, seed, checkpoints)
    if values is None:
        metrics = training.tune(model, samples, *how)
    else:
        chosen = _chosen(samples, values, settings)
        metrics = training.train_generator(model, *chosen, *how)

    def write() -> None:
        if processes.first():
            manifest = {"task": task, "from": str(backbone), "data": data.name}
            manifest |= {"versions": provenance.versions(), "commit": provenance.commit()}
            _save(model, out, manifest, metrics)
            shutil.rmtree(checkpoints)

    processes.agreed(write)
    return read_sealed(out / MANIFEST)


def _check_free(out: Path) -> None:
    if not out.absolute().parent.is_dir():
        raise UserError(f"{out.absolute().parent} is no folder; make it, or give another --out")
    empty = out.is_dir() and not any(out.iterdir())
    if out.exists() and not empty and read_sealed(out / MANIFEST) is None:
        raise UserError(f"{out} holds something else; give a new or an empty folder as --out")


def _values(
    samples: Sequence[Sample], data: Path, scores: Path | None, readings: Readings
) -> list[float]:
    """Each sample's I²C; NaN for one without."""
    if scores is None:
        values = [sample.meta.get("i2c", math.nan) for sample in samples]
        if all(map(_missing, values)):
            raise UserError(
                f"no sample of {data} has a score; add them by `python -m c3l score --out "
                "scored.jsonl`, or give a file of scores as --scores"
            )
        return [math.nan if _missing(value) else float(value) for value in values]
    from c3l.relevance import in_form

    found = read_scores(scores)
    by_id = dict(zip((s.id for s in found), in_form(found, readings.score_form), strict=True))
    if lost := [sample.id for sample in samples if sample.id not in by_id]:
        raise UserError(
            f"{scores} has no score of {len(lost)} samples of {data}, {lost[0]} among them; score "
            "these data again"
        )
    return [by_id[sample.id] for sample in samples]


def _missing(value: Any) -> bool:
    return not isinstance(value, int | float) or math.isnan(value)


def _chosen(samples: Sequence[Sample], values: Sequence[float], settings: MethodSettings):
    """L_r's targets and L_c's groups, of the samples that have a score."""
    both = [pair for pair in zip(samples, values, strict=True) if not math.isnan(pair[1])]
    some, known = [sample for sample, _ in both], [value for _, value in both]
    within, group = settings.readings.share_within, settings.readings.group
    return top_share(some, known, settings.share, within), groups(some, known, group)


def _save(model: Backbone, out: Path, manifest: dict, metrics: dict) -> None:
    """The trained backbone as a whole folder, or none."""
    work = out.with_name(f".tmp-{out.name}")
    try:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        model.save(work)
        history = json.dumps(metrics.pop("history"), indent=1, sort_keys=True)
        (work / "history.json").write_text(history)
        write_sealed(work / MANIFEST, manifest | {"metrics": metrics})
        for file in work.iterdir():
            fsync(file)
        os.replace(work, out)
        fsync(out.absolute().parent)
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror or error})") from error

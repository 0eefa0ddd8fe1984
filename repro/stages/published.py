"""Published data sets, with which tables 2 and 3 compare our final data.

    published files → comparison → cut (to our size) → c3l.stages.training.vlit, truth, lengths

They lie in `comparison/<name>/` of a profile's data: `data/` holds the files as published (any
number of them, in layouts that c3l.data.layouts knows), `images/` the images, and graphs.jsonl the
scene graphs, where the world is synthetic.
"""

import random
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from c3l.artifacts.store import Job, Source, Stage
from c3l.data.left_out import LeftOut, write_left_out
from c3l.runtime.errors import UserError
from c3l.samples import ImageFolder, Sample, read_records, write_samples
from c3l.stages import common
from c3l.stages.common import Weights

RECORD = "record"
"""The field of a sample's meta that names the published record it comes from."""


@dataclass(frozen=True)
class Published:
    """A data set on the disk; `data` is None where it is missing."""

    name: str
    data: Source | None
    images: Source
    graphs: Source | None


def find_data_set(folder: Path, name: str) -> Published:
    """Return the data set in `folder/name`, whether it exists or not; its files are inputs."""
    folder = folder / name
    data, images, graphs = (folder / part for part in ("data", "images", "graphs.jsonl"))
    return Published(
        name,
        Source.from_path(data) if any(data.glob("*")) else None,
        Source.from_path(images),
        Source.from_path(graphs) if graphs.is_file() else None,
    )


def comparison(published: Published) -> Stage:
    """The set's turns whose images exist, as samples. A missing set is unscored."""
    inputs = {"data": published.data, "images": published.images} if published.data else {}
    return Stage("comparison", 1, run_comparison, {"name": published.name}, inputs)


def run_comparison(job: Job) -> dict:
    name = job.config["name"]
    if not job.inputs:
        return {"unscored": f"there is no data of {name}: no file in comparison/{name}/data"}
    names = ImageFolder(job.inputs["images"]).names()
    # LRV names images without their suffix. Where two share a stem, only the full name will do.
    stems = Counter(Path(image).stem for image in names)
    images = {Path(image).stem: image for image in names if stems[Path(image).stem] == 1}
    images |= {image: image for image in names}
    samples, left_out, records = [], [], 0
    for path in sorted(job.inputs["data"].iterdir()):
        for number, record in enumerate(read_records(path), start=1):
            records += 1
            for sample in record:
                if reason := _unusable(sample, images):
                    left_out.append(LeftOut(sample.id, f"{path.name}, record {number}", reason))
                    continue
                meta = sample.meta | {RECORD: str(records)}
                # Without its history: training reads each turn by itself.
                image = images[sample.image]
                samples.append(replace(sample, image=image, meta=meta, history=()))
    dropped = dict(Counter(item.reason for item in left_out))
    if not samples:
        raise UserError(
            f"no sample of {name} can be used ({dropped}): are its images those that the "
            f"files in comparison/{name}/data name?"
        )
    write_samples(job.out / common.SAMPLES, samples)
    write_left_out(job.out, left_out)
    read = len(samples) + len(left_out)
    return {"samples": len(samples), "read": read, "records": records, "dropped": dropped}


def _unusable(sample: Sample, images: dict[str, str]) -> str | None:
    """Return the reason why a sample cannot be tuned on, to count by, or None."""
    if sample.image not in images:
        return "image_missing"
    if not sample.question.strip():
        return "empty_question"
    return None if sample.answer.strip() else "empty_answer"


def cut(samples: Stage, size: int, seed: int) -> Stage:
    """A seeded draw of `size` samples, in their order; all of them where there are fewer."""
    return Stage("cut", 1, run_cut, {"size": size}, {"samples": samples}, seed)


def run_cut(job: Job) -> dict:
    samples = common.samples_of(job)
    size = min(job.config["size"], len(samples))
    indices = sorted(random.Random(job.seed).sample(range(len(samples)), size))
    write_samples(job.out / common.SAMPLES, [samples[k] for k in indices])
    return {"samples": size, "not_drawn": len(samples) - size}


def lengths(samples: Stage, backbone: Weights) -> Stage:
    """Lengths of each sample's question and answer, in words and in the backbone's tokens."""
    return Stage("lengths", 1, run_lengths, {}, {"samples": samples, "backbone": backbone})


def run_lengths(job: Job) -> dict:
    import pandas as pd
    from transformers import AutoTokenizer  # the backbone's own, without its weights

    samples = common.samples_of(job)
    tokenizer = AutoTokenizer.from_pretrained(
        job.inputs["backbone"], local_files_only=True, trust_remote_code=False
    )
    columns = {
        "question_id": [sample.id for sample in samples],
        "image_id": [sample.image for sample in samples],
        RECORD: [sample.meta.get(RECORD, sample.id) for sample in samples],
    }
    for side in ("question", "answer"):
        texts = [getattr(sample, side) for sample in samples]
        columns[f"{side}_words"] = [len(text.split()) for text in texts]
        encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
        columns[f"{side}_tokens"] = [len(tokens) for tokens in encoded]
    pd.DataFrame(columns).to_parquet(job.out / "samples.parquet", index=False)
    return {"n": len(samples)}

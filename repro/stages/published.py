"""Data sets that others made: what tables 2 and 3 set our final data beside.

    published files → comparison → cut (to our size) → c3l.stages.training.vlit, truth, lengths

They lie in `comparison/<name>/` of a profile's data: `data/` holds the files as published (any
number of them, in layouts that c3l.data.layouts knows), `images/` the images, and graphs.jsonl, where
the world is made, the scenes' graphs.
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
"""The field of a sample's meta that names the published record which it is a turn of."""


@dataclass(frozen=True)
class Published:
    """A data set as it lies on the disk; `data` is None where there is none."""

    name: str
    data: Source | None
    images: Source
    graphs: Source | None


def find(folder: Path, name: str) -> Published:
    """The data set in `folder/name`, whether it is there or not. Files that are there count."""
    folder = folder / name
    data, images, graphs = (folder / part for part in ("data", "images", "graphs.jsonl"))
    return Published(
        name,
        Source.from_path(data) if any(data.glob("*")) else None,
        Source.from_path(images),
        Source.from_path(graphs) if graphs.is_file() else None,
    )


def comparison(published: Published) -> Stage:
    """The set's turns as samples whose images are there. A set that is not there is unscored."""
    if published.data is None:
        return Stage("comparison", 1, run_comparison, {"name": published.name})
    inputs = {"data": published.data, "images": published.images}
    return Stage("comparison", 1, run_comparison, {"name": published.name}, inputs)


def run_comparison(job: Job) -> dict:
    name = job.config["name"]
    if not job.inputs:
        return {"unscored": f"there is no data of {name}: no file in comparison/{name}/data"}
    names = ImageFolder(job.inputs["images"]).names()
    # LRV names images without their suffix. Where two share a stem, only the whole name will do.
    stems = Counter(Path(image).stem for image in names)
    whole = {Path(image).stem: image for image in names if stems[Path(image).stem] == 1}
    whole |= {image: image for image in names}
    kept, left_out, records = [], [], 0
    for path in sorted(job.inputs["data"].iterdir()):
        for place, record in enumerate(read_records(path), start=1):
            records += 1
            for sample in record:
                if reason := _unusable(sample, whole):
                    left_out.append(LeftOut(sample.id, f"{path.name}, record {place}", reason))
                    continue
                meta = sample.meta | {RECORD: str(records)}
                # Without its history: training reads each turn alone.
                image = whole[sample.image]
                kept.append(replace(sample, image=image, meta=meta, history=()))
    dropped = dict(Counter(item.reason for item in left_out))
    if not kept:
        raise UserError(
            f"no sample of {name} can be used ({dropped}): are its images those that the "
            f"files in comparison/{name}/data name?"
        )
    write_samples(job.out / common.SAMPLES, kept)
    write_left_out(job.out, left_out)
    read = len(kept) + len(left_out)
    return {"samples": len(kept), "read": read, "records": records, "dropped": dropped}


def _unusable(sample: Sample, images: dict[str, str]) -> str | None:
    """Why nothing can be tuned on a sample, as a word to count by; else None."""
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
    drawn = sorted(random.Random(job.seed).sample(range(len(samples)), size))
    write_samples(job.out / common.SAMPLES, [samples[k] for k in drawn])
    return {"samples": size, "not_drawn": len(samples) - size}


def lengths(samples: Stage, backbone: Weights) -> Stage:
    """How long each sample's question and answer are, in words and in the backbone's tokens."""
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

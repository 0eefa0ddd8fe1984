"""Stages that score samples (section 3.2): token log-probabilities with and without the image."""

import json
import logging
from typing import TYPE_CHECKING

from c3l.artifacts.shards import in_shards
from c3l.artifacts.stage import Job, Stage
from c3l.readings import Readings
from c3l.samples import ImageFolder, Sample
from c3l.stages.common import SCORES, Weights, readings_of, samples_of
from c3l.stages.models import load_model

if TYPE_CHECKING:
    from c3l.scores import Score

ALONE = "alone.json"

log = logging.getLogger(__name__)


def scores(
    backbone: Weights, samples: Stage, images: Weights, readings: Readings, batch_size: int
) -> Stage:
    """Per-token log-probabilities with and without the image, from which every form is made."""
    config = {"readings": readings.of("scores"), "batch_size": batch_size}
    inputs = {"backbone": backbone, "samples": samples, "images": images}
    return Stage("scores", 2, run_scores, config, inputs)


def run_scores(job: Job) -> dict:
    from c3l.relevance import score
    from c3l.scores import from_record, to_record, unscored, write_scores

    backbone, samples = load_model(job, "backbone"), samples_of(job)
    images = ImageFolder(job.inputs["images"])
    # The stage stores what every form is computed from; the form here is eq. 1 as printed.
    readings = readings_of(job, "scores", score_form="literal_sum")

    def work(shard: list[Sample]) -> list[dict]:
        scores = score(backbone, shard, images, readings, batch_size=job.config["batch_size"])
        return [to_record(one) for one in scores]

    shards = in_shards(job, "scores", samples, work, "samples")
    scores = [from_record(record) for shard in shards for record in shard]
    write_scores(job.out / SCORES, scores)
    without = unscored(scores)
    total = sum(without.values())
    if without:
        log.warning("%s of %s samples have no score: %s.", total, len(scores), without)
    facts = {"samples": len(scores), "without_score": without}
    if total == len(scores):
        facts["unscored"] = f"no sample could be scored: {without}"
    return facts


def answer_logprobs(backbone: Weights, samples: Stage, batch_size: int) -> Stage:
    """Log-probability of each answer without its prompt, for instruction-following difficulty."""
    inputs = {"backbone": backbone, "samples": samples}
    return Stage("alone", 1, run_answer_logprobs, {"batch_size": batch_size}, inputs)


def run_answer_logprobs(job: Job) -> dict:
    from c3l.rivals.ifd import answer_logprob_without_prompt

    backbone, batch_size = load_model(job, "backbone"), job.config["batch_size"]
    answers = sorted({sample.answer for sample in samples_of(job)})

    def work(shard: list[str]) -> dict[str, float]:
        return answer_logprob_without_prompt(backbone, shard, batch_size=batch_size)

    shards = in_shards(job, "alone", answers, work, "answers")
    values = {answer: value for shard in shards for answer, value in shard.items()}
    text = json.dumps(values, ensure_ascii=False, indent=1)
    (job.out / ALONE).write_text(text, encoding="utf-8")
    return {"answers": len(answers), "without_token": len(answers) - len(values)}


def read_answer_logprobs(job: Job) -> dict[str, float] | None:
    """Return the values of the stage `alone`, or None where it is no input."""
    if "alone" not in job.inputs:
        return None
    return json.loads((job.inputs["alone"] / ALONE).read_text(encoding="utf-8"))


def scored(job: Job) -> "tuple[list[Sample], list[Score]]":
    """Return the samples that have a score, and their scores, in order: published data repeat ids.

    Only samples whose answer `alone` holds, if it is an input; all samples, where no score is one.
    """
    samples = samples_of(job)
    if "scores" not in job.inputs:
        return samples, []
    from c3l.scores import read_scores

    answer_logprobs = read_answer_logprobs(job)
    pairs = [
        (sample, score)
        for sample, score in zip(samples, read_scores(job.inputs["scores"] / SCORES), strict=True)
        if not score.unscored and (answer_logprobs is None or sample.answer in answer_logprobs)
    ]
    return [sample for sample, _ in pairs], [score for _, score in pairs]

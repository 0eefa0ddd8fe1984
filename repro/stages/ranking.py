"""The stages of the project's own table 6: a pool of pairs ranked by a score, and the controls.

    samples → shuffled or constant → c3l.stages.scoring.scores → ranking

A control scores the same pairs behind a wrong image. A score that still separates true pairs from
false ones then has learnt it from the text.
"""

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from c3l.artifacts.store import Job, Source, Stage
from c3l.samples import Sample, write_samples
from c3l.score_forms import FORMS
from c3l.selection import METHODS, code_of, selector
from c3l.stages import common
from c3l.stages.scoring import read_answer_logprobs, scored
from repro.stages.evaluation import read_graphs

if TYPE_CHECKING:
    from c3l.scores import Score

# VIGC values only what it wrote itself.
RANKERS: tuple[str, ...] = tuple(name for name in METHODS.shipped if name != "vigc")

GREY = "images/grey.png"


def shuffled(samples: Stage, seed: int) -> Stage:
    """The samples, each about another image of the pool: one seeded cycle of all images."""
    return Stage("shuffled", 1, run_shuffled, {}, {"samples": samples}, seed)


def run_shuffled(job: Job) -> dict:
    samples = common.samples_of(job)
    images = sorted({sample.image for sample in samples})
    if len(images) < 2:
        return {"unscored": "the samples have no second image to be shown with"}
    random.Random(job.seed).shuffle(images)
    following = dict(zip(images, images[1:] + images[:1], strict=True))
    shuffled = (replace(sample, image=following[sample.image]) for sample in samples)
    write_samples(job.out / common.SAMPLES, shuffled)
    return {"samples": len(samples), "images": len(images)}


def constant(samples: Stage) -> Stage:
    """The samples, all about one grey image.

    The artefact holds it too: it is both samples and image folder of `c3l.stages.scoring.scores`.
    """
    return Stage("constant", 1, run_constant, {}, {"samples": samples})


def run_constant(job: Job) -> dict:
    from PIL import Image

    samples = common.samples_of(job)
    (job.out / GREY).parent.mkdir()
    Image.new("RGB", (224, 224), (128, 128, 128)).save(job.out / GREY)
    write_samples(job.out / common.SAMPLES, (replace(sample, image=GREY) for sample in samples))
    return {"samples": len(samples)}


def ranking(
    samples: Stage,
    scores: Stage,
    graphs: Source | None,
    *,
    ranker: str,
    share: float,
    seed: int | None = None,
    answer_logprobs: Stage | None = None,
) -> Stage:
    """The pairs with their verdicts, a value each, and the best `share` by it.

    Args:
        scores: may be a control's; verdicts are about the images of `samples`.
        ranker: one of `c3l.selection.METHODS` but VIGC. "random" needs the seed, "ifd"
            `answer_logprobs`; "self_instruct" selects its survivors in place of a share.

    Without scene graphs the truth is not known, and nothing is scored. Raises ValueError for
    another ranker, or a random order without a seed.
    """
    if ranker == "vigc" or ranker not in {*METHODS, *FORMS}:
        raise ValueError(f"{ranker!r} is none of {', '.join(RANKERS)}.")
    if ranker == "random" and seed is None:
        raise ValueError("A random order needs a seed.")
    config = {"by": ranker, "share": share} | code_of(ranker)
    if graphs is None:
        return Stage("ranking", 2, run_ranking, config)
    inputs = {"samples": samples, "scores": scores, "graphs": graphs}
    inputs |= {"alone": answer_logprobs} if answer_logprobs else {}
    return Stage("ranking", 2, run_ranking, config, inputs, seed if ranker == "random" else None)


def run_ranking(job: Job) -> dict:
    import numpy as np
    import pandas as pd

    from benchmarks.pocket.truth import VERDICTS, judge

    if not job.inputs:
        return {"unscored": "the truth of these pairs is not known: it needs scene graphs"}
    pool, scores = scored(job)
    facts = {
        "metric": f"pairs ranked by {job.config['by']}",
        "n": len(pool),
        "without_score": len(common.samples_of(job)) - len(pool),
    }
    if not pool:
        return facts | {"unscored": "no sample of the pool has a score"}
    values, selected = _rank(job, pool, scores)
    graphs = read_graphs(job)
    frame = pd.DataFrame(
        {
            "id": [sample.id for sample in pool],
            "image_id": [sample.image for sample in pool],
            "class": [sample.instruction for sample in pool],
            "verdict": [judge(s.question, s.answer, graphs[s.image]) for s in pool],
            "tokens": [len(score.kl) for score in scores],
            "value": np.asarray(values, dtype=float),
            "chosen": [sample.id in selected for sample in pool],
        }
    )
    frame.to_parquet(job.out / "samples.parquet", index=False)
    finite = frame[np.isfinite(frame["value"])]
    by_verdict = {
        "verdicts": 100 * frame["verdict"].value_counts(normalize=True),
        "chosen": 100 * frame.loc[frame["chosen"], "verdict"].value_counts(normalize=True),
        "mean_value": finite.groupby("verdict")["value"].mean(),
    }
    extra = {
        name: {verdict: float(series[verdict]) for verdict in VERDICTS if verdict in series}
        for name, series in by_verdict.items()
    }
    return facts | {"extra": extra}


def _rank(job: Job, pool: list[Sample], scores: "list[Score]") -> tuple[list[float], set[str]]:
    """Return the pool's values, higher being better, and the ids of the selected pairs."""
    from c3l.selection import top_share, values

    ranker = job.config["by"]
    ranks = values(ranker, pool, scores, answer_logprobs=read_answer_logprobs(job), seed=job.seed)
    if selector(ranker).labels:
        return ranks, {sample.id for sample, value in zip(pool, ranks, strict=True) if value}
    return ranks, {sample.id for sample in top_share(pool, ranks, job.config["share"])}

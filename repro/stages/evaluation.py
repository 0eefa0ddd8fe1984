"""The pocket world, benchmarks, and the truth and relevance of the final data, as stages."""

import json
from pathlib import Path

from benchmarks import BENCHMARKS
from benchmarks.judge.judge import Judge
from benchmarks.served import Served
from c3l.artifacts.files import digest_files
from c3l.artifacts.store import Job, Source, Stage
from c3l.readings import Readings
from c3l.samples import Sample
from c3l.stages.common import Weights
from repro.profile import Scoring

# lmms-eval takes ten seconds to import: only stages' functions import what imports it.


def pocket_world() -> Stage:
    """The synthetic world. Its code is an input: nobody has to raise a version number."""
    return Stage("pocket-world", 1, run_pocket_world, {"code": _pocket_code()}, seed=0)


def run_pocket_world(job: Job) -> dict:
    import datasets

    from benchmarks import pocket

    datasets.disable_progress_bars()
    pocket.build(job.out, seed=job.seed)
    return {}


def pocket_comparison() -> Stage:
    """The synthetic world's comparison sets, with its code as an input too."""
    return Stage("pocket-comparison", 1, run_pocket_comparison, {"code": _pocket_code()}, seed=0)


def run_pocket_comparison(job: Job) -> dict:
    from benchmarks.pocket.comparison import build_comparison

    build_comparison(job.out, seed=job.seed)
    return {}


def _pocket_code() -> str:
    folder = Path(__file__).parents[2] / "benchmarks" / "pocket"
    return digest_files(folder, [path.name for path in folder.glob("*.py")])


def evaluation(weights: Weights | Served, task: str, data: Source, scoring: Scoring) -> Stage:
    """One model's score on a benchmark, with all its answers, through lmms-eval."""
    config, inputs = evaluation_settings(task, scoring), {"data": data}
    if not isinstance(weights, Served):
        inputs["weights"] = weights
    elif BENCHMARKS[task].options:
        return unscored(
            f"{weights.model} is served at an address, which tells no likelihoods: "
            f"{BENCHMARKS[task].served_hint}"
        )
    else:
        config["served"] = weights.model_dump()
    return Stage("evaluation", 1, run_evaluation, config, inputs)


def run_evaluation(job: Job) -> dict:
    from benchmarks.evaluate import REPLIES, evaluate
    from c3l.stages.models import load_model

    served, judge = job.config.get("served"), job.config.get("judge")
    backbone = Served(**served) if served else load_model(job, "weights")
    return evaluate(
        backbone,
        job.config["task"],
        job.inputs["data"],
        job.out,
        job.config["batch_size"],
        max_new_tokens=job.config["answer_tokens"],
        judge=Judge(**judge) if judge else None,
        replies=job.partial / REPLIES,
    )


def evaluation_settings(task: str, scoring: Scoring) -> dict:
    """Return the settings of the profile that a benchmark's score depends on."""
    config = {"task": task} | scoring.model_dump(include={"batch_size", "answer_tokens"})
    if BENCHMARKS[task].needs_judge:
        judge = configured_judge(scoring)
        config["judge"] = judge.configuration() if judge else None
    return config


def configured_judge(scoring: Scoring) -> Judge | None:
    """Return the judge of LLaVA^W, or None where the profile has none."""
    if scoring.judge in (None, "pocket"):
        return Judge() if scoring.judge else None
    return Judge(
        scoring.judge_model, scoring.judge, scoring.judge_key, scoring.judge_strip_thinking
    )


def truth(samples: Stage, graphs: Source | None) -> Stage:
    """The share of claims in final samples that are true of their scene and need its image.

    A claim is a sentence of an answer. A pair is true only if all its claims are.
    """
    inputs = {"samples": samples} | ({"graphs": graphs} if graphs else {})
    return Stage("truth", 2, run_truth, {}, inputs)


def run_truth(job: Job) -> dict:
    import pandas as pd

    from benchmarks.pocket.truth import judge
    from c3l.stages.common import samples_of

    if "graphs" not in job.inputs:
        return {"unscored": "the truth of these samples is not known: it needs scene graphs"}
    graphs, samples = read_graphs(job), samples_of(job)
    pairs = [judge(s.question, s.answer, graphs[s.image]) for s in samples]
    claims = [judge_claims(s.question, s.answer, graphs[s.image]) for s in samples]
    columns = identifying_columns(samples) | {
        "verdict": pairs,
        "correct": [float(verdict == "true_image") for verdict in pairs],
        "claims": claims,
    }
    frame = pd.DataFrame(columns)
    frame.to_parquet(job.out / "samples.parquet", index=False)
    each = frame.explode("claims")
    by_class = (each["claims"] == "true_image").groupby(each["category"]).mean()
    shares = _shares(each["claims"].tolist())
    return {
        "metric": "share of the final samples' claims (sentences of answers) that are true and "
        "need the image",
        "value": shares["true_image"],
        "n": len(each),
        "extra": {
            "claims": shares,
            "classes": (100 * by_class).to_dict(),
            "verdicts": _shares(pairs),
            "samples": len(samples),
        },
    }


def judge_claims(question: str, answer: str, graph: dict) -> list[str]:
    """Return the verdict of each claim of an answer (`benchmarks.pocket.truth.VERDICTS`).

    An answer without a sentence is one malformed claim.
    """
    from benchmarks.pocket.truth import judge, split_sentences

    return [judge(question, claim, graph) for claim in split_sentences(answer) or [answer]]


def _shares(verdicts: list[str]) -> dict[str, float]:
    """Return the percentage of each verdict."""
    from benchmarks.pocket.truth import VERDICTS

    return {name: 100 * verdicts.count(name) / len(verdicts) for name in VERDICTS}


def read_graphs(job: Job) -> dict[str, dict]:
    """Read the scene graphs among a job's inputs, by image."""
    lines = job.inputs["graphs"].read_text(encoding="utf-8").splitlines()
    return {graph["image"]: graph for graph in map(json.loads, lines)}


def identifying_columns(samples: list[Sample]) -> dict[str, list[str]]:
    """Return the columns that every table of samples begins with."""
    return {
        "question_id": [sample.id for sample in samples],
        "image_id": [sample.image for sample in samples],
        "category": [sample.instruction for sample in samples],
    }


def relevance(backbone: Weights, samples: Stage, scores: Stage, readings: Readings) -> Stage:
    """The final samples with their I²C, eq. 1 as printed, token by token."""
    config = readings.of("relevance")
    inputs = {"backbone": backbone, "samples": samples, "scores": scores}
    return Stage("relevance", 1, run_relevance, config, inputs)


def run_relevance(job: Job) -> dict:
    import pandas as pd

    from c3l.relevance import contributions
    from c3l.scores import read_scores
    from c3l.stages.common import SCORES, samples_of
    from c3l.stages.models import load_model

    backbone, samples = load_model(job, "backbone"), samples_of(job)
    scores = read_scores(job.inputs["scores"] / SCORES)
    rows = []
    for sample, score in zip(samples, scores, strict=True):
        if score.unscored:
            continue
        pieces = backbone.answer_pieces(sample.question, sample.answer, job.config["score_eos"])
        parts = contributions(score).tolist()
        if len(pieces) != len(parts):
            raise RuntimeError(f"The answer of {sample.id} has other tokens than were scored.")
        rows.append(
            {
                "question_id": sample.id,
                "image_id": sample.image,
                "category": sample.instruction,
                "question": sample.question,
                "answer": sample.answer,
                "i2c": score.i2c,
                "tokens": len(pieces),
                "pieces": pieces,
                "contributions": parts,
            }
        )
    pd.DataFrame(rows).to_parquet(job.out / "samples.parquet", index=False)
    return {"n": len(rows), "extra": {"without_score": len(samples) - len(rows)}}


def unscored(reason: str) -> Stage:
    """The reason why a cell cannot be measured here."""
    return Stage("unscored", 1, run_unscored, {"reason": reason})


def run_unscored(job: Job) -> dict:
    return {"unscored": job.config["reason"]}

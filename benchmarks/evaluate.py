"""One benchmark, one backbone: run lmms-eval in this process, keep every answer, return a cell.

Importing this module imports lmms-eval (seconds): import it only where something is scored.
"""

import contextlib
import json
import math
import os
import shutil
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from importlib.metadata import version
from numbers import Number
from pathlib import Path

import pandas as pd
from lmms_eval.api.metrics import mean
from lmms_eval.api.task import ConfigurableTask
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.tasks import TaskManager
from loguru import logger

from benchmarks import pope, scoring
from benchmarks.judge import judging
from benchmarks.judge.judge import Judge
from benchmarks.served import Served
from benchmarks.served_model import ServedModel, Unanswered
from benchmarks.sources import TASKS
from benchmarks.tasks import load_task
from c3l.artifacts.files import without_infinities
from c3l.backbones import Backbone
from c3l.lmms import C3LModel
from c3l.runtime.errors import NotFiniteError, UserError, short_repr

REPLIES = "replies.jsonl"
NO_JUDGE = "no judge configured: the answers are kept, their score needs one"


def evaluate(
    backbone: Backbone | Served,
    task: str,
    data_dir: Path,
    output_dir: Path,
    batch_size: int = 64,
    *,
    max_new_tokens: int | None = None,
    judge: Judge | None = None,
    replies: Path | None = None,
) -> dict:
    """Score a backbone, or a model at an address, on a benchmark through lmms-eval.

    Writes `samples.parquet` (benchmarks.scoring's columns, in the order of the data set),
    `results.json` (the cell and lmms-eval's own numbers) and `lmms_eval.log` to `output_dir`, and
    nothing anywhere else.

    Args:
        task: a key of `benchmarks.sources.TASKS`: "seedbench", "seedbench_ppl" (SEED by
            likelihood), "pope", "mmbench", "llava_w", or what was added.
        data_dir: the benchmark's own folder, see `benchmarks.tasks.load_task`.
        max_new_tokens: upper limit on an answer's length; None leaves each task its own.
        judge: who judges the answers to "llava_w"; without one, and where a single judgement
            fails, they are kept and unscored.
        replies: a file in which the judge's replies are kept, each as soon as it is there; what
            it holds already is not asked again. It is left in `output_dir` as well.

    Returns:
        The cell: task, metric, value (0 to 100; None if unscored), unscored (the reason, or None),
        n (questions scored), unreadable (share of answers that the benchmark's parser cannot read,
        0 to 1) and extra. That of "llava_w" also names its judge, and its value may exceed 100.
        Where the judge or the address failed, `transient` is True: another time it may not. Where
        the model's predictions are no numbers, or all its answers empty, the cell is unscored, and
        so it is where the samples do not give lmms-eval's number: its mean, POPE's F1, LLaVA^W's
        ratio. Any other metric is lmms-eval's number as it is; `repro.analysis.table` holds it against what
        its column computes from the samples.

    Raises:
        UserError: no such task or metric, or a data set that cannot be read.
    """
    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    judge = judge if task == "llava_w" else None
    unjudged = None
    with (
        tempfile.TemporaryDirectory(dir=output_dir, prefix=".datasets-") as cache,
        judge.running() if judge else contextlib.nullcontext() as url,
        # without a cache of its own it makes a folder in the user's home
        _environment({"LMMS_EVAL_DATASETS_CACHE": cache}),
        _environment(judging.judge_environment(judge, url) if judge else {}),
        _output_into(output_dir / "lmms_eval.log"),
    ):
        kind = ServedModel if isinstance(backbone, Served) else C3LModel
        model = kind(backbone, batch_size, max_new_tokens=max_new_tokens)
        source = load_task(task, data_dir, Path(cache))
        _require_metric(task, source)
        expected = len(source.eval_docs)
        if task == "llava_w":
            if judge:
                judging.register_client(replies, judge)
            unjudged = judging.check_task(source) if judge else NO_JUDGE
        try:
            outcome = simple_evaluate(
                model=model,
                model_args=repr(model),
                tasks=[source],
                task_manager=TaskManager(include_defaults=False),
                cli_args=Namespace(
                    output_path=cache, process_with_media=False, reasoning_tags=None
                ),
                predict_only=bool(unjudged),  # lmms-eval scores a judge that never answers 100
                bootstrap_iters=0,
                batch_size=batch_size,
            )
        except Unanswered as error:
            return _empty(task) | {"unscored": f"{backbone.name}: {error}", "transient": True}
        except NotFiniteError as error:
            return _empty(task) | {"unscored": str(error)}
    name = source.config.task
    logged = sorted(outcome["samples"][name], key=lambda sample: sample["doc_id"])
    samples = scoring.table(task, logged, model.images)
    official = outcome["results"][name]
    cell = _cell(
        task,
        samples,
        official,
        unjudged,
        answered=len(logged),
        expected=expected,
        is_mean=_is_mean(task, source),
    )
    if judge:
        cell |= {"judge": judge.name, "transient": cell["unscored"] is not None}
    cell["extra"] |= {"batch_size": batch_size, "lmms_eval": version("lmms-eval")}
    if isinstance(backbone, Served):
        cell["served"] = backbone.name
    else:
        cell["extra"]["weights"] = backbone.digest
    samples.to_parquet(output_dir / "samples.parquet", index=False)
    if judge and replies and replies.exists():
        shutil.copyfile(replies, output_dir / REPLIES)
    numbers = {key: value for key, value in official.items() if isinstance(value, int | float)}
    (output_dir / "results.json").write_text(
        json.dumps(without_infinities({"cell": cell, "lmms_eval": numbers}), indent=2) + "\n"
    )
    return cell


def _cell(
    task: str,
    samples: pd.DataFrame,
    official: dict,
    unjudged: str | None,
    *,
    answered: int,
    expected: int,
    is_mean: bool,
) -> dict:
    cell = _empty(task) | {
        "n": len(samples),
        "unreadable": float((~samples["readable"]).mean()),
    }
    if answered != expected:
        cell["unscored"] = f"lmms-eval returned {answered} of {expected} answers"
        return cell
    if not any(text.strip() for text in samples["response"]):
        cell["unscored"] = f"the model answered nothing: all {len(samples)} answers are empty"
        return cell
    if task == "llava_w":
        reasons = [] if unjudged else samples["failure"].dropna().tolist()
        cell["unscored"] = unjudged or judging.failure_summary(reasons, len(samples))
        if not cell["unscored"] and not samples["reference_score"].any():
            cell["unscored"] = "the judge graded every reference answer 0: there is no ratio to it"
        if cell["unscored"]:
            return cell
    ours = theirs = _official(task, official)
    if not math.isfinite(theirs):
        cell["unscored"] = f"lmms-eval's number is {theirs}"
        return cell
    if task == "pope":
        ours = 100 * pope.f1(samples["answer"].to_numpy(), samples["reading"].to_numpy())
        cell["value"] = 100 * pope.mean_f1(samples)
        cell["extra"] = _pope_extra(samples, official)
        missing = set(pope.CATEGORIES) - set(samples["category"])
        if missing:
            cell["unscored"] = f"no questions of POPE's {', '.join(sorted(missing))} sampling"
    elif task == "llava_w":
        # lmms-eval rounds both means and their ratio.
        scores = ("reference_score", "candidate_score")
        means = {name: round(float(samples[name].mean()), 3) for name in scores}
        ours = round(means["candidate_score"] / means["reference_score"] * 100, 1)
        cell["value"] = theirs
        cell["extra"] = means | {"categories": _llava_categories(samples, official)}
    else:
        cell["value"] = theirs
        if "correct" in samples:
            by_category = samples.groupby("category")["correct"].mean() * 100
            cell["extra"] = {"categories": by_category.to_dict()}
            # Any other metric is its column's to compute, and to compare (repro.analysis.table).
            if is_mean:
                ours = 100 * samples["correct"].mean()
    if abs(ours - theirs) > 1e-6:
        cell["unscored"] = f"the samples give {ours:.4f}, lmms-eval says {theirs:.4f}"
    if cell["unscored"]:
        cell["value"] = None
    return cell


def _require_metric(task: str, source: ConfigurableTask) -> None:
    """Raise UserError where lmms-eval's task has no metric of the name that counts."""
    key, known = TASKS[task].key, source.aggregation()
    if key not in known:
        raise UserError(f"The benchmark {task} has no metric {key!r}; it has {', '.join(known)}.")


def _is_mean(task: str, source: ConfigurableTask) -> bool:
    """Return whether a benchmark's number is the mean of the column `correct`."""
    if task in scoring.TABLES:
        return task in scoring.MEANS
    return source.aggregation()[TASKS[task].key] is mean


def _official(task: str, official: dict) -> float:
    """Return lmms-eval's own number on the cell's scale. Raise UserError where it gives none."""
    source = TASKS[task]
    value = official.get(f"{source.key},none")
    if not isinstance(value, Number):
        raise UserError(
            f"lmms-eval gives no number as {source.key} of {task}, but {short_repr(value)}."
        )
    return float(value) * source.scale


def _empty(task: str) -> dict:
    """A cell without anything measured."""
    metric = TASKS[task].metric
    return {"task": task, "metric": metric, "value": None, "unscored": None, "n": 0, "extra": {}}


def _llava_categories(samples: pd.DataFrame, official: dict) -> dict:
    """lmms-eval's relative score for each category that has questions."""
    return {
        category: official[f"gpt_eval_llava_{category},none"]
        for category in sorted(set(samples["category"]))
    }


def _pope_extra(samples: pd.DataFrame, official: dict) -> dict:
    """lmms-eval's pooled numbers and those of LLaVA's own rule, all 0 to 100."""
    pooled = {
        key.removeprefix("pope_"): 100 * official[f"{key},none"]
        for key in ("pope_accuracy", "pope_precision", "pope_recall", "pope_f1_score")
    }
    return {
        "pooled": pooled,
        # lmms-eval's pope_yes_ratio is that of the reference answers; this is the model's.
        "yes_share": 100 * float((samples["reading"] == "yes").mean()),
        "llava_rule": {
            "mean_f1": 100 * pope.mean_f1(samples, "llava_reading"),
            "accuracy": 100 * float((samples["llava_reading"] == samples["answer"]).mean()),
            "yes_share": 100 * float((samples["llava_reading"] == "yes").mean()),
        },
    }


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables, and put back what was there."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _output_into(log: Path) -> Iterator[None]:
    """Send lmms-eval's prints, bars and log lines to `log`."""
    with (
        log.open("w", encoding="utf-8") as stream,
        contextlib.redirect_stdout(stream),
        contextlib.redirect_stderr(stream),
    ):
        logger.remove()  # loguru's default handler holds on to the real standard error
        handler = logger.add(stream, level="INFO")
        try:
            yield
        finally:
            logger.remove(handler)

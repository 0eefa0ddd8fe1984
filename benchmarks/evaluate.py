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
from collections.abc import Callable, Iterator
from importlib.metadata import version
from numbers import Number
from pathlib import Path

import lmms_eval.tasks
import pandas as pd
from lmms_eval.api.task import ConfigurableTask
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.tasks import TaskManager
from lmms_eval.utils import load_yaml_config
from loguru import logger
from PIL import ImageFile
from tenacity import RetryError

from benchmarks import BENCHMARKS
from benchmarks.base import COLUMNS, Benchmark, parquet_rows
from benchmarks.judge import judging
from benchmarks.judge.judge import Judge
from benchmarks.served import Served
from benchmarks.served_model import ServedModel, UnansweredError
from c3l.artifacts.files import without_infinities
from c3l.backbones import Backbone
from c3l.lmms import C3LModel
from c3l.runtime.errors import NotFiniteError, UserError, short_repr

REPLIES = "replies.jsonl"
NO_JUDGE = "no judge configured: the answers are kept, their score needs one"

# lmms-eval tells PIL, for the whole process, to fill cut images with grey. A damaged image has to
# fail, here as everywhere else.
ImageFile.LOAD_TRUNCATED_IMAGES = False


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

    Writes `samples.parquet` (the benchmark's table, in the order of the data set), `results.json`
    (the cell and lmms-eval's own numbers) and `lmms_eval.log` to `output_dir`, and nothing anywhere
    else.

    Args:
        task: a key of `benchmarks.BENCHMARKS`.
        data_dir: the benchmark's own folder, see `load_task`.
        max_new_tokens: upper limit on an answer's length; None leaves each task its own.
        judge: the judge of a benchmark that needs one. Without it, and where a single judgement
            fails, the answers are kept and unscored.
        replies: a file in which the judge's replies are kept, each as soon as it arrives. What it
            holds already is not asked again. It is copied to `output_dir`.

    Returns:
        The cell: task, metric, value (0 to 100; None if unscored), unscored (the reason, or None),
        n (questions scored), unreadable (share of answers that the benchmark's parser cannot read,
        0 to 1) and extra. A judged cell also names its judge, and its value may exceed 100. Where
        the judge or the address failed, `transient` is True: another time it may not. The cell is
        unscored where the model's predictions are not finite, where all its answers are empty, and
        where the samples do not give lmms-eval's number (`Benchmark.recompute`).

    Raises:
        UserError: no such task or metric, or a data set that cannot be read.
    """
    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    benchmark = benchmark_named(task)
    judge = judge if benchmark.needs_judge else None
    unjudged = None
    with (
        tempfile.TemporaryDirectory(dir=output_dir, prefix=".datasets-") as cache,
        judge.running() if judge else contextlib.nullcontext() as url,
        # without a cache of its own it makes a folder in the user's home
        _environment(
            {"LMMS_EVAL_DATASETS_CACHE": cache}
            | (judging.judge_environment(judge, url) if judge and url else {})
        ),
        _redirected_output(output_dir / "lmms_eval.log"),
    ):
        model: ServedModel | C3LModel
        if isinstance(backbone, Served):
            model = ServedModel(backbone, batch_size, max_new_tokens=max_new_tokens)
        else:
            model = C3LModel(backbone, batch_size, max_new_tokens=max_new_tokens)
        source = load_task(task, data_dir, Path(cache))
        aggregations = source.aggregation()
        if benchmark.key not in aggregations:
            raise UserError(
                f"The benchmark {task} has no metric {benchmark.key!r}; it has "
                f"{', '.join(aggregations)}."
            )
        expected = len(source.eval_docs)
        if judge:
            judging.register_client(replies, judge)
            unjudged = benchmark.try_judge(source)
        elif benchmark.needs_judge:
            unjudged = NO_JUDGE
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
        except UnansweredError as error:
            cell = _empty_cell(task, benchmark)
            return cell | {"unscored": f"{backbone.name}: {error}", "transient": True}
        except NotFiniteError as error:
            return _empty_cell(task, benchmark) | {"unscored": str(error)}
    name = source.config.task
    log = sorted(outcome["samples"][name], key=lambda sample: sample["doc_id"])
    results = outcome["results"][name]
    samples = benchmark.table(log, model.images)
    if missing := [column for column in COLUMNS if column not in samples]:
        raise UserError(f"The table of {task} has no column {', '.join(missing)}.")
    unscored: str | None = None
    if len(log) != expected:
        unscored = f"lmms-eval returned {len(log)} of {expected} answers"
    elif not any(text.strip() for text in samples["response"]):
        unscored = f"the model answered nothing: all {len(samples)} answers are empty"
    elif benchmark.needs_judge:
        unscored = unjudged or benchmark.judge_failure(samples)
    cell = _empty_cell(task, benchmark)
    cell |= {"n": len(samples), "unreadable": float((~samples["readable"]).mean())}
    if unscored:
        cell["unscored"] = unscored
    else:
        cell |= _score(task, benchmark, samples, results, aggregations[benchmark.key])
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
    numbers = {key: value for key, value in results.items() if isinstance(value, int | float)}
    (output_dir / "results.json").write_text(
        json.dumps(without_infinities({"cell": cell, "lmms_eval": numbers}), indent=2) + "\n"
    )
    return cell


def benchmark_named(task: str) -> Benchmark:
    """Return the benchmark of this name. Raises UserError if there is none."""
    if task not in BENCHMARKS:
        raise UserError(f"There is no benchmark {task!r}; there are {', '.join(BENCHMARKS)}.")
    return BENCHMARKS[task]


def load_task(name: str, data_dir: Path, cache_dir: Path) -> ConfigurableTask:
    """Return lmms-eval's task of a benchmark over the data set in `data_dir`.

    It is the task's own YAML with another name and another place of the data.

    Args:
        data_dir: a folder of parquet files in the columns of the data set that lmms-eval names,
            with a README.md where the task asks for a named configuration (MMBench's "en").
        cache_dir: where the rows are unpacked. A new folder each time: the cache of `datasets`
            is keyed by paths and times of change, and a test set must never come from a stale one.

    Raises:
        UserError: no such task, or a data set that cannot be read.
    """
    benchmark = benchmark_named(name)
    data_dir = Path(data_dir).resolve()
    if not any(data_dir.rglob("*.parquet")):
        raise UserError(f"No parquet files for {name} in {data_dir}.")
    parquet_rows(data_dir)  # before lmms-eval tries a damaged one five times
    config = load_yaml_config(str(Path(lmms_eval.tasks.__file__).parent / benchmark.yaml))
    config["task"] = f"c3l_{name}"
    config["dataset_path"] = str(data_dir)
    config["dataset_kwargs"] = {"cache_dir": str(cache_dir)}
    if benchmark.process_docs:
        config["process_docs"] = benchmark.process_docs
    try:
        return ConfigurableTask(config=config)
    except RetryError as error:
        cause = error.last_attempt.exception()
        raise UserError(f"The data set of {name} in {data_dir} cannot be read: {cause}") from cause
    except (IndexError, KeyError) as error:
        raise UserError(
            f"The data set of {name} in {data_dir} has no rows or lacks a column: {error}"
        ) from error


def _empty_cell(task: str, benchmark: Benchmark) -> dict:
    """A cell with nothing measured."""
    cell = {"task": task, "metric": benchmark.metric, "value": None, "unscored": None}
    return cell | {"n": 0, "extra": {}}


def _score(
    task: str, benchmark: Benchmark, samples: pd.DataFrame, results: dict, aggregation: Callable
) -> dict:
    """The cell's value, extra and unscored."""
    official = results.get(f"{benchmark.key},none")
    if not isinstance(official, Number):
        raise UserError(
            f"lmms-eval gives no number as {benchmark.key} of {task}, but {short_repr(official)}."
        )
    official = float(official) * benchmark.scale  # type: ignore[arg-type]  # numbers have __float__
    if not math.isfinite(official):
        return {"unscored": f"lmms-eval's number is {official}"}
    unscored = benchmark.missing_part(samples)
    recomputed = benchmark.recompute(samples, aggregation)
    if recomputed is not None and abs(recomputed - official) > 1e-6:
        unscored = f"the samples give {recomputed:.4f}, lmms-eval says {official:.4f}"
    return {
        "value": None if unscored else benchmark.value(samples, official),
        "extra": benchmark.extra(samples, results),
        "unscored": unscored,
    }


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables, and restore what was there before."""
    before = {name: os.environ[name] for name in values if name in os.environ}
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values.keys() - before:
            del os.environ[name]
        os.environ.update(before)


@contextlib.contextmanager
def _redirected_output(log: Path) -> Iterator[None]:
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

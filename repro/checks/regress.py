"""`python -m repro regress`: check that a backbone still works, and scores as before.

First the checks of `c3l.checks.conformance`, then the backbone's scores on the profile's benchmarks
against a baseline's (docs/regress.md has the rule). Stored scores are reused only while the code
and every installed package are the same: a change in one of them may be what broke something.
"""

import gc
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from c3l.artifacts import provenance
from c3l.artifacts.files import digest, digest_files
from c3l.artifacts.graph import not_in_store
from c3l.artifacts.store import Source, Stage, Store
from c3l.runtime.errors import UserError
from c3l.runtime.progress import echo
from c3l.stages.common import backbone_source
from repro import inputs
from repro.analysis.differences import rounded
from repro.analysis.statistics import UndefinedError
from repro.analysis.table import disagreement
from repro.checks import junit
from repro.checks.baseline import (
    Baseline,
    BenchmarkScores,
    mismatch,
    question_scores,
    questions_digest,
    restore_scores,
    write_baseline,
)
from repro.checks.gate import MAKE_ONE, Gate, changes, comparable_baseline
from repro.checks.junit import Case
from repro.columns import COLUMNS
from repro.render import markdown
from repro.run import runner
from repro.run.screen import write_result
from repro.stages import evaluation as driver


@dataclass(frozen=True)
class Measured:
    """A benchmark's result."""

    facts: dict
    """Metadata of its evaluation; `unscored` is the reason for no score."""
    answers: pd.DataFrame | None
    seconds: float


def run_gate(gate: Gate) -> tuple[str, bool]:
    """Return the results as markdown, and whether all passed.

    Raises UserError for results that cannot be compared, if possible before any model is loaded or
    world made.
    """
    baseline = None if gate.update else comparable_baseline(gate)
    for path in filter(None, (gate.junit, gate.baseline if gate.update else None)):
        if not path.parent.is_dir():
            raise UserError(f"{path.parent} is no folder; make it, or give another place.")
        if path.is_dir():
            raise UserError(f"{path} is a folder; give the name of a file.")
    weights = backbone_source(gate.backbone)
    store = Store(gate.runs / "store")
    store.remove_leftovers()
    folder = inputs.data_folder(gate.profile, store)
    tasks = gate.profile.scoring.tasks
    data = {name: inputs.benchmark_source(folder, tasks[name]) for name in gate.benchmarks}

    model, checks = _conformance(gate)
    texts, suites = [_checks_table(gate, model, checks)], {"conformance": checks}
    if not (gate.update and _failed(checks)):
        measured = _evaluate(gate, weights, data, store)
        if baseline:
            _require_same_questions(gate, baseline, measured)
        results = [_compare(gate, baseline, name, result) for name, result in measured.items()]
        suites["scores"] = [case for case, _ in results]
        texts.append(_scores_table(gate, baseline, [line for _, line in results]))
    failed = [name for cases in suites.values() for name in _failed(cases)]
    if gate.update and not failed:
        write_baseline(gate.baseline, _baseline(gate, model, measured))
        texts.append(f"The baseline is written to {gate.baseline}.")
    else:
        texts.append(f"Failed: {'; '.join(failed)}." if failed else "Nothing has regressed.")
        texts += ["No baseline is written."] if gate.update else []
    if gate.junit:
        write_result(gate.junit, junit.xml("regress", suites))
    return "\n\n".join(texts), not failed


def _failed(cases: list[Case]) -> list[str]:
    return [case.name for case in cases if case.result == "failed"]


def _conformance(gate: Gate) -> tuple[dict, list[Case]]:
    """Return the backbone's digest and precision, and each check's result."""
    import torch
    from transformers.utils import logging

    from c3l.backbones import load_backbone
    from c3l.backbones.loading import usual_dtype
    from c3l.checks.conformance import examine

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    backbone = load_backbone(gate.backbone, dtype=usual_dtype(None))
    model = {"digest": backbone.digest, "dtype": str(backbone.dtype).removeprefix("torch.")}
    cases = []
    for check in examine(backbone, gate.profile.readings.tuning):
        echo(f"{check.name}: {check.result} ({check.seconds:.1f} s)")
        cases.append(Case(check.name, check.result, check.message, check.seconds, check.asserts))
    # The workers that follow need its memory.
    del backbone
    gc.collect()
    torch.cuda.empty_cache()
    return model, cases


def _evaluate(
    gate: Gate, weights: Source, data: dict[str, Source], store: Store
) -> dict[str, Measured]:
    """Evaluate each benchmark. One that ends in an error is unscored for that reason."""
    scoring, surroundings = gate.profile.scoring, _surroundings()
    stages = {}
    for name, source in data.items():
        stage = driver.evaluation(weights, scoring.tasks[name], source, scoring)
        stages[name] = replace(stage, config=stage.config | {"surroundings": surroundings})
    runner.discard_transient(stages.values(), store)
    todo = not_in_store(stages.values(), store)
    log, problem, expected = gate.runs / "regress.log", None, gate.profile.expected
    try:
        runner.run_missing([*stages.values()], todo, store, gate.jobs, log, expected)
    except UserError:
        raise
    except Exception as error:  # a broken backbone may end it in any way
        problem = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return {name: _measured(name, stage, store, problem) for name, stage in stages.items()}


def _measured(name: str, stage: Stage, store: Store, problem: str | None) -> Measured:
    manifest = store.manifest(stage)
    if manifest is None:
        return Measured({"unscored": problem, "transient": True}, None, 0.0)
    facts, answers = manifest["facts"], None
    if not facts["unscored"]:
        answers = pd.read_parquet(store.path(stage) / "samples.parquet")
        if reason := _disagreement(name, answers, facts["value"]):
            facts, answers = facts | {"unscored": reason}, None
    return Measured(facts, answers, manifest["seconds"])


def _surroundings() -> str:
    """Return a digest of the code that evaluates, of all packages and of the device."""
    root = Path(__file__).parents[2]
    code = [p for part in ("c3l", "benchmarks") for p in sorted((root / part).rglob("*.py"))]
    packages = sorted({(d.name, d.version) for d in metadata.distributions()})
    files = digest_files(root, [str(path.relative_to(root)) for path in code])
    return digest([files, packages, provenance.device()])


def _require_same_questions(gate: Gate, baseline: Baseline, measured: dict[str, Measured]) -> None:
    for name, result in measured.items():
        stored = baseline.benchmarks[name]
        if result.answers is None or stored.unscored:
            continue
        benchmark = gate.benchmark(name)
        if difference := mismatch(stored, result.answers, benchmark, result.facts["metric"]):
            raise UserError(f"The baseline {gate.baseline} has {difference} in {name}: {MAKE_ONE}.")
        before = restore_scores(result.answers, stored.scores, benchmark)
        if reason := _disagreement(name, before, stored.value):
            raise UserError(
                f"The baseline {gate.baseline} does not hold what {name} is computed from "
                f"({reason}): {MAKE_ONE}."
            )


def _disagreement(name: str, answers: pd.DataFrame, value: float) -> str | None:
    """Return the reason why a column cannot compute a benchmark's number from these answers."""
    try:
        computed = COLUMNS[name].influence([[answers]]).value
    except UndefinedError as error:
        return str(error)
    return disagreement([value], computed)


def _compare(
    gate: Gate, baseline: Baseline | None, name: str, result: Measured
) -> tuple[Case, list[str]]:
    """Return a benchmark's test case and its line of the table."""
    facts, stored = result.facts, baseline.benchmarks[name] if baseline else None
    unscored = facts["unscored"]
    before = f"{stored.value:.1f}" if stored and not stored.unscored else "–"
    now, difference = "–" if unscored else f"{facts['value']:.1f}", "–"
    if unscored:
        # What has never been scored cannot get worse; what failed just now may have.
        failed = facts.get("transient") or (stored and not stored.unscored)
        outcome, message = "failed" if failed else "skipped", f"unscored: {unscored}"
    elif stored is None:
        outcome, message = "passed", ""
    elif stored.unscored:
        outcome, message = "skipped", f"the baseline has no score: {stored.unscored}"
    else:
        outcome, message, difference = _verdict(gate, name, stored, result.answers)
    detail = f"{facts.get('metric')}: baseline {before}, now {now}, difference {difference}"
    line = [name, str(facts.get("n", 0)), before, now, difference, outcome, message]
    return Case(name, outcome, message, result.seconds, detail), line


def _verdict(
    gate: Gate, name: str, stored: BenchmarkScores, answers: pd.DataFrame
) -> tuple[str, str, str]:
    """Return a benchmark's result, the reason, and the difference."""
    before = restore_scores(answers, stored.scores, gate.benchmark(name))
    try:
        column = COLUMNS[name]
        change = column.difference(column.influence([[answers]]), column.influence([[before]]))
    except UndefinedError as error:
        return "failed", f"cannot be compared: {error}", "–"
    low, high = change.interval()
    difference = markdown.format_difference(rounded(change.value, low, high))
    if high < -gate.tolerance:
        return "failed", f"{difference} lies wholly below {0 - gate.tolerance:g}", difference
    return "passed", "", difference


def _table(head: list[str], lines: list[list[str]], **options) -> str:
    lines = [[text.replace("|", "\\|") for text in line] for line in lines]
    return tabulate(lines, head, tablefmt="pipe", disable_numparse=True, **options)


def _checks_table(gate: Gate, model: dict, cases: list[Case]) -> str:
    lines = [[c.name, c.result, f"{c.seconds:.1f}", c.message] for c in cases]
    title = f"Conformance of {gate.backbone} in {model['dtype']}, tuned by"
    table = _table(["check", "result", "s", "why"], lines)
    return f"{title} {gate.profile.readings.tuning}:\n\n{table}"


def _scores_table(gate: Gate, baseline: Baseline | None, lines: list[list[str]]) -> str:
    head = ["benchmark", "n", "baseline", "now", "difference, 95% interval", "result", "why"]
    table = _table(head, lines, colalign=["left"] + ["right"] * 4 + ["left"] * 2)
    title = f"Scores in the profile {gate.profile.name}"
    if baseline:
        newer = changes(baseline.versions, provenance.versions())
        versions = ", ".join(f"{name} {then} → {now}" for name, then, now in newer)
        title += (
            f" against {gate.baseline} (of {baseline.backbone}, {baseline.made}; since then "
            f"{versions or 'no other versions'}), tolerance {gate.tolerance:g}"
        )
    return f"{title}:\n\n{table}"


def _baseline(gate: Gate, model: dict, measured: dict[str, Measured]) -> Baseline:
    benchmarks = {}
    for name, result in measured.items():
        fields = {key: result.facts.get(key) for key in ("metric", "value", "unscored")}
        if result.answers is not None:
            fields["questions"] = questions_digest(result.answers)
            fields["scores"] = question_scores(result.answers, gate.benchmark(name))
        benchmarks[name] = BenchmarkScores(settings=gate.settings(name), **fields)
    return Baseline(
        backbone=gate.backbone,
        digest=model["digest"],
        profile=gate.profile.name,
        benchmarks=benchmarks,
        versions=provenance.versions(),
        commit=provenance.commit(),
        device=provenance.device(),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
    )

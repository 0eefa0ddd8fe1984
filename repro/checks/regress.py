"""`python -m repro regress`: whether a backbone still does, and scores, what it did.

First the checks of `c3l.checks.conformance`, then the backbone as it is on the profile's benchmarks,
against the scores that a baseline kept of the same questions. A benchmark has regressed where the
95% interval of its difference, paired by question and clustered by image, lies wholly below
−tolerance. Each benchmark is judged by itself: where nothing but chance makes answers differ, one
in forty is expected to fail.

Scores that are stored count for this only as long as the code and every installed package are what
they were: what changed in one of them is what may have broken something.
"""

import gc
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from benchmarks import BENCHMARKS, Benchmark
from c3l.artifacts import provenance
from c3l.artifacts.files import digest, digest_files, write_atomically
from c3l.artifacts.graph import not_in_store
from c3l.artifacts.store import Source, Stage, Store
from c3l.runtime.errors import UserError
from c3l.runtime.progress import echo
from c3l.stages.common import backbone_source
from repro import inputs
from repro.analysis.differences import rounded
from repro.analysis.statistics import UndefinedError
from repro.analysis.table import disagreement
from repro.checks import baseline as baselines
from repro.checks import junit
from repro.checks.baseline import Baseline, BenchmarkScores
from repro.checks.junit import Case
from repro.columns import COLUMNS
from repro.profile import Profile
from repro.render import markdown
from repro.run import runner
from repro.stages import evaluation as driver

MAKE_ONE = "the same command with --update makes one, of what the backbone scores now"


@dataclass(frozen=True)
class Gate:
    """What is asked for."""

    backbone: str
    """A folder or a Hub id."""
    baseline: Path
    profile: Profile
    runs: Path
    jobs: int
    benchmarks: list[str]
    """Of the profile's."""
    tolerance: float
    """In points of 0 to 100."""
    update: bool
    """Write the baseline instead of comparing with it."""
    junit: Path | None


@dataclass(frozen=True)
class Measured:
    """What came of a benchmark."""

    facts: dict
    """Of its evaluation; `unscored` says why there is no score."""
    answers: pd.DataFrame | None
    seconds: float


def run_gate(gate: Gate) -> tuple[str, bool]:
    """What was found, as markdown, and whether all is well.

    Raises UserError for what cannot be compared; what can be known beforehand, before any model is
    loaded or world made.
    """
    kept = None if gate.update else _comparable(gate)
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
        if kept:
            _require_same_questions(gate, kept, measured)
        lines = [_compare(gate, kept, name, found) for name, found in measured.items()]
        suites["scores"] = [case for case, _ in lines]
        texts.append(_scores_table(gate, kept, [row for _, row in lines]))
    failed = [name for cases in suites.values() for name in _failed(cases)]
    if gate.update and not failed:
        baselines.write_baseline(gate.baseline, _baseline(gate, model, measured))
        texts.append(f"The baseline is written to {gate.baseline}.")
    else:
        texts.append(f"Failed: {'; '.join(failed)}." if failed else "Nothing has regressed.")
        texts += ["No baseline is written."] if gate.update else []
    if gate.junit:
        _write_junit(gate.junit, junit.xml("regress", suites))
    return "\n\n".join(texts), not failed


def _failed(cases: list[Case]) -> list[str]:
    return [case.name for case in cases if case.result == "failed"]


def _comparable(gate: Gate) -> Baseline:
    """The baseline, whose benchmarks were evaluated as they will be now."""
    if not gate.baseline.exists():
        raise UserError(f"There is no baseline {gate.baseline}: {MAKE_ONE}.")
    kept = baselines.read_baseline(gate.baseline)
    tasks = gate.profile.scoring.tasks
    for name in gate.benchmarks:
        if name not in kept.benchmarks:
            raise UserError(f"The baseline {gate.baseline} has no {name}: {MAKE_ONE}.")
        then, now = kept.benchmarks[name].settings, _settings(gate, name)
        for key in sorted(then.keys() | now.keys()):
            if then.get(key) != now.get(key):
                raise UserError(
                    f"The baseline {gate.baseline} has {name} with {key} {then.get(key)}, the "
                    f"profile {gate.profile.name} with {now.get(key)}: give --set, or {MAKE_ONE}."
                )
    lost = kept.benchmarks.keys() - tasks.keys()
    if lost and set(gate.benchmarks) == tasks.keys():
        raise UserError(
            f"The baseline {gate.baseline} has {', '.join(sorted(lost))}, for which the profile "
            f"{gate.profile.name} has no task: give it one, or {MAKE_ONE}."
        )
    return kept


def _settings(gate: Gate, name: str) -> dict:
    return driver.evaluation_settings(gate.profile.scoring.tasks[name], gate.profile.scoring)


def _benchmark(gate: Gate, name: str) -> Benchmark:
    return BENCHMARKS[gate.profile.scoring.tasks[name]]


def _conformance(gate: Gate) -> tuple[dict, list[Case]]:
    """The backbone's digest and precision, and what came of each check."""
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
    for found in examine(backbone, gate.profile.readings.tuning):
        echo(f"{found.name}: {found.result} ({found.seconds:.1f} s)")
        cases.append(Case(found.name, found.result, found.message, found.seconds, found.asserts))
    # The workers that follow need its memory.
    del backbone
    gc.collect()
    torch.cuda.empty_cache()
    return model, cases


def _evaluate(
    gate: Gate, weights: Source, data: dict[str, Source], store: Store
) -> dict[str, Measured]:
    """What came of each benchmark. One that ends in an error is unscored for that reason."""
    scoring, surroundings = gate.profile.scoring, _surroundings()
    stages = {}
    for name, source in data.items():
        stage = driver.evaluation(weights, scoring.tasks[name], source, scoring)
        stages[name] = replace(stage, config=stage.config | {"surroundings": surroundings})
    runner.discard_transient(stages.values(), store)
    todo = not_in_store(stages.values(), store)
    targets, log, problem = [*stages.values()], gate.runs / "regress.log", None
    try:
        runner.run_missing(targets, todo, store, gate.jobs, log, gate.profile.expected)
    except UserError:
        raise
    except Exception as error:  # a broken backbone may end it in any way
        problem = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return {name: _measured(name, stage, store, problem) for name, stage in stages.items()}


def _measured(name: str, stage: Stage, store: Store, problem: str | None) -> Measured:
    manifest = store.manifest(stage)
    if manifest is None:
        return Measured({"unscored": problem, "transient": True}, None, 0.0)
    answers = None
    if not manifest["facts"]["unscored"]:
        answers = pd.read_parquet(store.path(stage) / "samples.parquet")
        if reason := _disagreement(name, answers, manifest["facts"]["value"]):
            return Measured(manifest["facts"] | {"unscored": reason}, None, manifest["seconds"])
    return Measured(manifest["facts"], answers, manifest["seconds"])


def _surroundings() -> str:
    """A digest of the code that evaluates, of all packages and of the device."""
    root = Path(__file__).parents[2]
    code = [p for part in ("c3l", "benchmarks") for p in sorted((root / part).rglob("*.py"))]
    packages = sorted({(d.name, d.version) for d in metadata.distributions()})
    files = digest_files(root, [str(path.relative_to(root)) for path in code])
    return digest([files, packages, provenance.device()])


def _require_same_questions(gate: Gate, kept: Baseline, measured: dict[str, Measured]) -> None:
    for name, found in measured.items():
        then = kept.benchmarks[name]
        if found.answers is None or then.unscored:
            continue
        benchmark = _benchmark(gate, name)
        if what := baselines.mismatch(then, found.answers, benchmark, found.facts["metric"]):
            raise UserError(f"The baseline {gate.baseline} has {what} in {name}: {MAKE_ONE}.")
        before = baselines.restore_scores(found.answers, then.scores, benchmark)
        if reason := _disagreement(name, before, then.value):
            raise UserError(
                f"The baseline {gate.baseline} does not hold what {name} is computed from "
                f"({reason}): {MAKE_ONE}."
            )


def _disagreement(name: str, answers: pd.DataFrame, value: float) -> str | None:
    """The reason why a column cannot compute a benchmark's number from these answers, or None."""
    try:
        estimate = COLUMNS[name].estimate([[answers]], 100)
    except UndefinedError as error:
        return str(error)
    return disagreement([value], estimate.value)


def _compare(
    gate: Gate, kept: Baseline | None, name: str, found: Measured
) -> tuple[Case, list[str]]:
    """What a benchmark says, and its line of the table."""
    unscored, value = found.facts["unscored"], found.facts.get("value")
    line = [name, str(found.facts.get("n", 0)), "–", "–" if unscored else f"{value:.1f}", "–"]
    then = kept.benchmarks[name] if kept else None
    if then and not then.unscored:
        line[2] = f"{then.value:.1f}"
    if unscored:
        # What has never been scored cannot get worse; what failed just now may have.
        mends = found.facts.get("transient") or (then and not then.unscored)
        result, message = "failed" if mends else "skipped", f"unscored: {unscored}"
    elif then is None:
        result, message = "passed", ""
    elif then.unscored:
        result, message = "skipped", f"the baseline has no score: {then.unscored}"
    else:
        result, message, line[4] = _verdict(gate, name, then, found.answers)
    said = f"{found.facts.get('metric')}: baseline {line[2]}, now {line[3]}, difference {line[4]}"
    return Case(name, result, message, found.seconds, said), [*line, result, message]


def _verdict(
    gate: Gate, name: str, then: BenchmarkScores, answers: pd.DataFrame
) -> tuple[str, str, str]:
    """Whether a benchmark has regressed: the result, why, and the difference."""
    before = baselines.restore_scores(answers, then.scores, _benchmark(gate, name))
    try:
        found = COLUMNS[name].difference([[answers]], [[before]], gate.profile.resamples)
    except UndefinedError as error:
        return "failed", f"cannot be compared: {error}", "–"
    difference = markdown.format_difference(rounded(found[:3]))
    if found.high < -gate.tolerance:
        return "failed", f"{difference} lies wholly below {0 - gate.tolerance:g}", difference
    return "passed", "", difference


def _checks_table(gate: Gate, model: dict, cases: list[Case]) -> str:
    lines = [[c.name, c.result, f"{c.seconds:.1f}", c.message.replace("|", "\\|")] for c in cases]
    table = tabulate(lines, ["check", "result", "s", "why"], tablefmt="pipe", disable_numparse=True)
    tuning = gate.profile.readings.tuning
    return f"Conformance of {gate.backbone} in {model['dtype']}, tuned by {tuning}:\n\n{table}"


def _scores_table(gate: Gate, kept: Baseline | None, lines: list[list[str]]) -> str:
    head = ["benchmark", "n", "baseline", "now", "difference, 95% interval", "result", "why"]
    align = ["left"] + ["right"] * 4 + ["left"] * 2
    lines = [[text.replace("|", "\\|") for text in line] for line in lines]
    table = tabulate(lines, head, tablefmt="pipe", colalign=align, disable_numparse=True)
    said = f"Scores in the profile {gate.profile.name}"
    if kept:
        now, changed = provenance.versions(), []
        for name in sorted(kept.versions.keys() | now.keys()):
            if kept.versions.get(name) != now.get(name):
                changed.append(f"{name} {kept.versions.get(name)} → {now.get(name)}")
        said += (
            f" against {gate.baseline} (of {kept.backbone}, {kept.made}; since then "
            f"{', '.join(changed) or 'no other versions'}), tolerance {gate.tolerance:g}"
        )
    return f"{said}:\n\n{table}"


def _baseline(gate: Gate, model: dict, measured: dict[str, Measured]) -> Baseline:
    benchmarks = {}
    for name, found in measured.items():
        told = {key: found.facts.get(key) for key in ("metric", "value", "unscored")}
        if found.answers is not None:
            told["questions"] = baselines.questions_digest(found.answers)
            told["scores"] = baselines.question_scores(found.answers, _benchmark(gate, name))
        benchmarks[name] = BenchmarkScores(settings=_settings(gate, name), **told)
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


def _write_junit(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}).") from error

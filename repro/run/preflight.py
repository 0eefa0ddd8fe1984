"""Checks before a run's first stage, of what it would otherwise meet hours later."""

from collections.abc import Iterable
from pathlib import Path

from benchmarks.api.keys import missing_key_hint
from benchmarks.judge.judge import Judge, check_judge
from benchmarks.served import Served, check_server
from c3l.artifacts.files import SEAL
from c3l.artifacts.store import Source, Stage
from c3l.runtime import distributed, extras
from c3l.runtime.errors import UserError
from repro.stages.evaluation import run_evaluation

RETRIES = 2
"""Of a busy server: it may be at work for others."""

REMEDIES = {
    Judge: "; run this again when it does (--set scoring.judge=null leaves its cells unscored).",
    Served: "; run this again when it does (--set served={} leaves its rows unscored).",
}


def check(stages: Iterable[Stage]) -> None:
    """Raise UserError for weights that cannot be loaded and addresses that do not answer.

    Weights with a seal were verified when it was read.
    """
    weights: dict[Path, None] = {}
    services: dict[Judge | Served, None] = {}
    stages = list(stages)
    if any(stage.run is run_evaluation for stage in stages):
        extras.require("lmms_eval", "A benchmark")
    if any(hasattr(stage.run, "trains") for stage in stages):
        distributed.check_launch()
    for stage in stages:
        for name in ("backbone", "weights"):
            source = stage.inputs.get(name)
            if isinstance(source, Source) and not (source.path / SEAL).exists():
                weights[source.path] = None
        if (judge := stage.config.get("judge")) and judge["url"]:
            services[Judge(**judge)] = None
        if served := stage.config.get("served"):
            services[Served(**served)] = None
    for service in services:
        require_answer(service, retries=RETRIES, remedy=REMEDIES[type(service)])
    for path in weights:
        from c3l.backbones.loading import inspect  # takes seconds: pocket backbones have seals

        inspect(path)


def require_answer(service: Judge | Served, *, retries: int = 0, remedy: str = "") -> str:
    """Return the sentence that a judge or served model answers, or raise UserError."""
    judges = isinstance(service, Judge)
    if reason := (check_judge if judges else check_server)(service, retries=retries):
        hint = missing_key_hint(service.key_variable)
        verb = "judge" if judges else "answer"
        raise UserError(f"{service.name} does not {verb}{hint}: {reason}{remedy}")
    return f"{service.name} answers"

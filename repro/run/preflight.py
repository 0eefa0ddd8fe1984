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
        _probe(service)
    for path in weights:
        from c3l.backbones.loading import inspect  # takes seconds: pocket backbones have seals

        inspect(path)


def _probe(service: Judge | Served) -> None:
    if isinstance(service, Judge):
        probe, verb = check_judge, "judge"
        remedy = "--set scoring.judge=null leaves its cells unscored"
    else:
        probe, verb = check_server, "answer"
        remedy = "--set served={} leaves its rows unscored"
    if reason := probe(service, retries=RETRIES):
        hint = missing_key_hint(service.key_variable)
        raise UserError(
            f"{service.name} does not {verb}: {reason}{hint}; run this again when it does "
            f"({remedy})."
        )

"""What a run looks at before its first stage, since it would be met hours later otherwise."""

from collections.abc import Iterable
from pathlib import Path

from benchmarks.api.keys import missing_key_hint
from benchmarks.judge.judge import Judge, check_judge
from benchmarks.served import Served, check_server
from c3l.artifacts.files import SEAL
from c3l.artifacts.store import Source, Stage
from c3l.runtime import distributed
from c3l.runtime.errors import UserError

RETRIES = 2
"""Of a server that is busy: it may be at work for others."""


def check(todo: Iterable[Stage]) -> None:
    """Raise UserError for weights that cannot be loaded and for addresses that do not answer, of
    those that the stages will use. Weights with a seal have been looked at when it was read."""
    weights: dict[Path, None] = {}
    asked: dict[Judge | Served, None] = {}
    todo = list(todo)
    if any(hasattr(stage.run, "trains") for stage in todo):
        distributed.check_launch()
    for stage in todo:
        for name in ("backbone", "weights"):
            source = stage.inputs.get(name)
            if isinstance(source, Source) and not (source.path / SEAL).exists():
                weights[source.path] = None
        if (judge := stage.config.get("judge")) and judge["url"]:
            asked[Judge(**judge)] = None
        if served := stage.config.get("served"):
            asked[Served(**served)] = None
    for one in asked:
        _ask(one)
    for path in weights:
        from c3l.backbones.loading import inspect  # takes seconds: pocket backbones have seals

        inspect(path)


def _ask(one: Judge | Served) -> None:
    if isinstance(one, Judge):
        check, verb = check_judge, "judge"
        remedy = "--set scoring.judge=null leaves its cells unscored"
    else:
        check, verb = check_server, "answer"
        remedy = "--set served={} leaves its rows unscored"
    if reason := check(one, retries=RETRIES):
        hint = missing_key_hint(one.key_variable)
        raise UserError(
            f"{one.name} does not {verb}: {reason}{hint}; run this again when it does ({remedy})."
        )

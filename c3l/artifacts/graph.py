"""The stages behind a result, and those of them that have to run."""

from collections.abc import Iterable

from c3l.artifacts.store import Stage, Store

Stages = dict[str, Stage]
"""Stages by key, inputs before the stages that use them."""


def closure(targets: Iterable[Stage]) -> Stages:
    """Return the targets and all that they are made from."""
    stages: Stages = {}

    def visit(stage: Stage) -> None:
        if stage.key not in stages:
            for source in stage.stages:
                visit(source)
            stages[stage.key] = stage

    for target in targets:
        visit(target)
    return stages


def not_in_store(targets: Iterable[Stage], store: Store) -> Stages:
    """Return the stages that have to run for the targets, and the damaged ones behind them.

    Verifies what would be read, and of the rest what was modified since it was made. What is absent
    and not needed may stay absent.
    """
    missing: Stages = {}
    intact: set[str] = set()

    def visit(stage: Stage) -> None:
        if stage.key in missing or stage.key in intact:
            return
        if store.find(stage):
            intact.add(stage.key)
            return
        for source in stage.stages:
            visit(source)
        missing[stage.key] = stage

    targets = list(targets)
    for target in targets:
        visit(target)
    for stage in closure(targets).values():
        if store.modified_since_sealed(stage):
            visit(stage)
    return missing

"""What a result is made from: the stages behind it, and those of them that are not stored yet."""

from collections.abc import Iterable

from c3l.artifacts.store import Stage, Store

Stages = dict[str, Stage]
"""Stages by key, inputs before the stages that use them."""


def closure(targets: Iterable[Stage]) -> Stages:
    """The targets and all that they are made from."""
    found: Stages = {}

    def visit(stage: Stage) -> None:
        if stage.key not in found:
            for source in stage.stages:
                visit(source)
            found[stage.key] = stage

    for target in targets:
        visit(target)
    return found


def not_in_store(targets: Iterable[Stage], store: Store) -> Stages:
    """What has to run for the targets to be there, and what is damaged of all they were made from.

    Verifies what would be read, and of the rest what was touched since it was made; what is not
    there and not needed may be gone.
    """
    found: Stages = {}
    whole: set[str] = set()

    def visit(stage: Stage) -> None:
        if stage.key in found or stage.key in whole:
            return
        if store.find(stage):
            whole.add(stage.key)
            return
        for source in stage.stages:
            visit(source)
        found[stage.key] = stage

    targets = list(targets)
    for target in targets:
        visit(target)
    for stage in closure(targets).values():
        if stage.key not in found and stage.key not in whole and store.modified_since_sealed(stage):
            visit(stage)
    return found

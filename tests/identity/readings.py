"""Rows of the project's tables as stages on planned inputs, and other values of settings."""

from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from c3l.artifacts.files import digest
from c3l.artifacts.graph import closure
from c3l.artifacts.store import Stage
from repro import inputs, recipe
from repro.profile import Profile
from repro.rows import TABLES, Ranking, Row
from repro.run.run import cells


def planned(
    profile: Profile, tables: list[str], seed: int = 0
) -> dict[tuple[str, str], dict[str, Stage]]:
    """Return the stages by key behind each row of the tables, by table and label."""
    rows = [row for name in tables for row in TABLES[name].rows]
    data = inputs.placeholder_inputs(profile, rows)
    return {
        (name, label): closure(recipe.stages({label: row}))
        for name in tables
        for label, row in cells(TABLES[name], profile, data, [seed]).items()
    }


def own(stages: Iterable[Stage]) -> set[tuple[frozenset[str], str]]:
    """Return each stage's steps and a digest of what it holds itself, not of its inputs."""
    return {
        (steps(s), digest([s.name, s.version, s.config, sorted(s.inputs), s.seed])) for s in stages
    }


def steps(stage: Stage) -> frozenset[str]:
    """Return what a stage is called in `c3l.readings.ReadBy`."""
    if by := stage.config.get("by"):
        return frozenset({"rival_selection"} | ({by} & {"self_instruct"}))
    losses = (f"generator_{name}" for name in ("crm", "clm") if stage.config.get(name))
    return frozenset({stage.name, *losses})


def reached(row: Row | Ranking, profile: Profile) -> bool:
    """Say whether the profile has every backbone of the row."""
    names = [row.backbone, getattr(row, "writer", None) or row.backbone]
    return all(name in profile.backbones for name in names)


def others(record: BaseModel, name: str) -> list[Any]:
    """Return admissible values of a field that are not the record's own: of words and truths all
    of them, of numbers one."""
    field, value = type(record).model_fields[name], getattr(record, name)
    if get_origin(field.annotation) is Literal:
        return [other for other in get_args(field.annotation) if other != value]
    if isinstance(value, bool):
        return [not value]
    number = value or 0
    for other in (2 * number or 1, number + 1, number / 2):
        try:
            type(record).model_validate(dict(record) | {name: other})
        except ValidationError:
            continue
        return [other]
    raise ValueError(f"No other value of {name} is known to this test.")

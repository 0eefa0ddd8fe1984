"""The project's own tables: what their rows change, and what they are compared with."""

import subprocess
import sys
from dataclasses import replace
from typing import Literal, get_args, get_origin

import pytest

import repro.paper
from c3l.readings import Readings, Step, read_by
from c3l.score_forms import FORMS
from c3l.selection import METHODS
from repro import profile
from repro.columns import COLUMNS
from repro.rows import C3L, CLM, PROPORTIONS, RANKINGS, SENSITIVITY, TABLE5_ROWS, TABLES, TOGETHER
from repro.stages.ranking import RANKERS
from tests.repro.toy import ROOT

CHANGED = [row for row in SENSITIVITY if row.base]
UNTRIED = {
    "constant_with_warmup",  # a schedule beside the one that table 7 tries
    "alone",  # what the tables score are samples of one turn
}
OURS = set(get_args(Step)) - {"self_instruct", "vigc"}
BY_LABEL = {row.label: row for row in SENSITIVITY}


def test_labels_are_unique_and_every_base_is_a_row_of_its_table():
    for table in TABLES.values():
        labels = [row.label for row in table.rows]
        assert len(set(labels)) == len(labels)
        for row in table.rows:
            assert row.base is None or row.base in labels
            assert row.base != row.label


def test_every_table_has_a_title_and_known_columns():
    for name, table in TABLES.items():
        assert table.title or repro.paper.load()[name].title
        assert set(table.columns) <= COLUMNS.keys()


def test_the_full_method_is_the_base_and_not_compared_with_anything():
    assert SENSITIVITY[0] == C3L == TABLES["table4"].rows[-1]
    assert C3L.base is CLM.base is None


@pytest.mark.parametrize("row", CHANGED, ids=lambda row: row.label)
def test_a_row_changes_one_reading_of_its_base_and_nothing_else(row):
    base = BY_LABEL[row.base]
    assert replace(row, label=base.label, base=None, readings={}) == base
    (name, value), *others = row.readings.items()
    assert dict(others) == TOGETHER.get((name, value), {})
    changed = Readings.model_validate(row.readings)  # which refuses what it does not know
    default = profile.load("pocket").readings
    assert getattr(changed, name) == value != getattr(default, name)
    # The label is what `--set readings.` takes.
    text = row.label.removeprefix(f"{base.label}, ")
    assert profile.load("pocket", [f"readings.{text}"]).readings == default.model_copy(
        update={name: value}
    )


def test_every_choice_of_every_reading_has_its_row():
    """Readings are numbers, yes or no, or one of a few words: of words, none is left out."""
    default = profile.load("pocket").readings
    for name, field in Readings.model_fields.items():
        tried = {row.readings[name] for row in CHANGED if name in row.readings}
        if read_by("self_instruct", "vigc") >= {name} and not read_by(*OURS) >= {name}:
            continue  # of table 5's rivals alone
        if name not in ("caption_temperature", "turns"):  # the first: greedy in the field's work
            assert tried, name
        if get_origin(field.annotation) is Literal:
            assert tried | {getattr(default, name)} >= set(get_args(field.annotation)) - UNTRIED


@pytest.mark.parametrize("row", TABLE5_ROWS, ids=lambda row: row.label)
def test_a_rival_replaces_the_selection_of_the_full_method_and_nothing_else(row):
    full = replace(C3L, backbone=row.backbone)
    assert row.label.startswith(f"{row.backbone} w/ ")
    if row.base is None:
        assert row == replace(full, label=f"{row.backbone} w/ I²C")
        return
    assert row.base == f"{row.backbone} w/ I²C"
    same = replace(row, label=full.label, base=None, selection="i2c", readings={})
    assert same == full
    if row.readings:  # another form of the score selects otherwise by itself
        assert row.selection == "i2c" and row.readings.keys() == {"score_form"}
    else:
        assert row.selection in METHODS.keys() - FORMS.keys()


def test_both_sizes_have_the_same_rows():
    small, large = ([row for row in TABLE5_ROWS if size in row.label] for size in ("-7B", "-13B"))
    assert [row.label.replace("7B", "13B") for row in small] == [row.label for row in large]
    assert len(small) + len(large) == len(TABLE5_ROWS)


def test_every_way_to_rank_has_its_row_in_table_6():
    assert {row.method for row in RANKINGS} == set(RANKERS)


def test_a_proportion_is_the_full_method_with_another_share():
    for row in PROPORTIONS:
        line, share = row.label.split(", ")
        assert row.share == float(share.removesuffix("%")) / 100
        assert row.base == (None if share == "10%" else f"{line}, 10%")
        assert replace(row, label=C3L.label, backbone=C3L.backbone, share=None, base=None) == C3L


def test_no_reading_is_changed_to_the_same_value_twice():
    changes = [(row.base, *row.readings.items()) for row in CHANGED]
    assert len(set(changes)) == len(changes)


def test_the_tables_are_known_without_importing_what_runs_them():
    code = "import repro.rows, sys; print(sorted({'torch', 'pandas', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr

"""A reading that is changed changes the keys of the stages that read it, and of no others."""

from typing import Annotated

import pytest
from pydantic import create_model

from c3l.readings import ReadBy, Readings, later_field, read_by
from repro import profile as profiles
from repro.rows import TABLES, TOGETHER
from tests.identity.readings import others, own, planned, reached

POCKET = profiles.load("pocket")
# Rows in which every stage occurs: C³L's and those without CRM, the rivals to I²C, relevance.
WITH_ALL_STAGES = ["table4", "table5", "figure4"]
CHANGES = [
    (name, other) for name in Readings.model_fields for other in others(POCKET.readings, name)
]


def stages(**readings):
    """The stages by key, with the final data drawn and with the best of them."""
    found = {}
    for way in ("random", "i2c"):
        update = {"final_selection": way} | readings
        changed = POCKET.readings.model_copy(update=update)
        profile = POCKET.model_copy(update={"readings": changed})
        tables = WITH_ALL_STAGES if way == "random" else ["table4"]
        for (_, label), row in planned(profile, tables).items():
            if "log-ratio" not in label:  # a row with a reading of its own
                found |= row
    return found


@pytest.fixture(scope="module")
def base():
    return stages()


@pytest.mark.parametrize(("name", "value"), CHANGES, ids=str)
def test_a_reading_changes_the_stages_that_it_names_and_no_others(base, name, value):
    changed = stages(**{name: value} | TOGETHER.get((name, value), {}))
    assert base.keys() - changed.keys(), "every table prints the same numbers"
    [extra] = [m for m in Readings.model_fields[name].metadata if isinstance(m, ReadBy)]
    if "plan" in extra.steps:  # which stages there are
        return
    before, after = own(base.values()), own(changed.values())
    assert {one for one in before if one[0] & extra.steps} == before - after
    assert {one for one in after if one[0] & extra.steps} == after - before
    assert extra.steps <= frozenset.union(*(steps for steps, _ in before - after))


@pytest.mark.parametrize("profile", ["pocket", "practical", "practical-24gb", "paper"])
def test_every_changed_row_has_other_keys_than_its_base(profile):
    profile = profiles.load(profile)
    stages = planned(profile, list(TABLES))
    for name, table in TABLES.items():
        by_label = {row.label: row for row in table.rows}
        for row in (row for row in table.rows if row.base):
            base = by_label[row.base]
            if not (reached(row, profile) and reached(base, profile)):
                continue
            same = getattr(row, "readings", None) and (
                profile.readings_of(row.backbone, **row.readings)
                == profile.readings_of(base.backbone, **base.readings)
            )
            keys, bases = stages[name, row.label].keys(), stages[name, base.label].keys()
            assert (keys == bases) == bool(same), (name, row.label)


def test_a_reading_that_no_step_reads_is_an_error_where_it_is_written():
    message = r"Wider\.mood does not say which steps read it; .*ReadBy"
    with pytest.raises(TypeError, match=message):
        create_model("Wider", __base__=Readings, mood=(str, "good"))
    with pytest.raises(TypeError, match=message):
        create_model("Wider", __base__=Readings, mood=(str, later_field("good")))
    for steps in ((), ("score",)):
        with pytest.raises(TypeError, match="ReadBy takes one or more of captions, initial"):
            ReadBy(*steps)


def test_a_reading_that_earlier_records_lack_is_left_out_at_its_default():
    turns = (Annotated[str, ReadBy("scores")], later_field("in_conversation"))
    wider = create_model("Wider", __base__=Readings, turns=turns)
    assert wider().of("scores") == Readings().of("scores")
    assert wider().model_dump() == Readings().model_dump()
    assert wider(turns="alone").of("scores") == Readings().of("scores") | {"turns": "alone"}
    assert wider(turns="alone").of("best") == Readings().of("best")
    # A stage that runs has it whether it is in its key or left out.
    for readings in (wider(), wider(turns="alone")):
        within = wider.within(readings.of("scores"), "scores")
        assert within.turns == readings.turns


@pytest.mark.parametrize("step", ["captions", "scores", "selection", "generator", "vlit", "best"])
def test_within_a_stage_no_other_reading_can_be_read(step):
    declared = read_by(step)
    within = Readings.within(Readings().of(step), step)
    for name in Readings.model_fields:
        if name in declared:
            assert getattr(within, name) == getattr(Readings(), name)
        else:
            with pytest.raises(LookupError, match=f"does not hold the reading {name}:"):
                getattr(within, name)
    with pytest.raises(LookupError, match="the stage's key holds no "):
        Readings.within({}, step)
    assert Readings.within(Readings().of(step), step, pairs_from="caption_and_image").pairs_from

"""A size or setting that is changed changes keys: of the stages that depend on it at least one."""

import pytest

from c3l.settings import GenerationSettings, TrainingSettings
from repro import profile as profiles
from repro.profile import Profile, Scoring, Sizes, Training
from repro.rows import TABLES
from tests.identity.readings import others, planned

# Tunes backbones on others' data first, and has a judge at an address.
PROFILE = profiles.load(
    "paper", ["scoring.judge=https://judge/v1", "scoring.judge_price={input: 1, output: 1}"]
)
POCKET = profiles.load("pocket")
# No result hangs on these: a name, how often numbers are drawn anew, what a run is expected to take
# and to cost. What is at the place called `data` is in the keys by its files, not by its name.
WITHOUT_A_STAGE = {"name", "data", "resamples", "expected"}
# Weights, data and addresses: tested where they are read, changed here by hand.
NESTED = {"backbones", "served", "sizes", "generation", "training", "scoring", "readings"}
CHANGES = [
    *(("sizes", name) for name in Sizes.model_fields),
    *(("generation", name) for name in GenerationSettings.model_fields),
    *(
        (f"training.{kind}", n)
        for kind in Training.model_fields
        for n in TrainingSettings.model_fields
    ),
    *(("scoring", name) for name in Scoring.model_fields if name != "judge_price"),
    ("", "share"),
]
BY_HAND = {
    "tasks": PROFILE.scoring.tasks | {"SEED": "seedbench_ppl"},
    "judge": "https://other/v1",
    "judge_model": "another",
    "judge_key": "ANOTHER_KEY",
}


def keys(profile):
    """Of table 4 for C³L, of table 1 for what is tuned on others' data first and for the judge."""
    return {key for row in planned(profile, ["table1", "table4"]).values() for key in row}


@pytest.fixture(scope="module")
def base():
    return keys(PROFILE)


def changed(record, path, name):
    """The record with another value of the field at this path."""
    if not path:
        value = BY_HAND[name] if name in BY_HAND else others(record, name)[0]
        return record.model_copy(update={name: value})
    first, _, rest = path.partition(".")
    return record.model_copy(update={first: changed(getattr(record, first), rest, name)})


@pytest.mark.parametrize(("path", "name"), CHANGES)
def test_a_setting_changes_keys(base, path, name):
    assert base != keys(changed(PROFILE, path, name))


def test_no_field_of_a_profile_is_left_out_of_these_tests():
    assert {*Profile.model_fields} == WITHOUT_A_STAGE | NESTED | {"share"}


def test_what_no_result_hangs_on_changes_no_key(base):
    price = {"judge_price": {"input": 2, "output": 2}}
    scoring = PROFILE.scoring.model_copy(update=price)
    assert keys(PROFILE.model_copy(update={"scoring": scoring, "resamples": 100})) == base


@pytest.mark.parametrize("name", sorted(TABLES))
def test_another_seed_changes_what_is_sampled(name):
    one, other = (
        {k for row in planned(POCKET, [name], seed).values() for k in row} for seed in (0, 1)
    )
    assert one - other

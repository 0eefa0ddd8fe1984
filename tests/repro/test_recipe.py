"""From rows to stages: what rows share, and rows whose backbone is not there."""

from dataclasses import replace

import pytest

from c3l.artifacts.graph import closure
from c3l.artifacts.store import Store
from c3l.runtime.errors import UserError
from c3l.selection import METHODS
from repro import inputs, recipe
from repro import profile as profiles
from repro.profile import Profile
from repro.rows import (
    AREA,
    BASELINE,
    C3L,
    CLM,
    CRM,
    PROPORTIONS,
    RANKINGS,
    SENSITIVITY,
    TABLES,
    TRUTH,
    Row,
    Table,
)
from repro.run.run import Run
from tests.repro import toy

LACKING = Row("another", backbone="LLaVA-99B", base=BASELINE.label)


@pytest.fixture(scope="module")
def profile(tiny_llava, tmp_path_factory):
    return profiles.load(str(toy.profile(tmp_path_factory.mktemp("toy"), tiny_llava)))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def names(row, profile, data) -> dict[str, list[str]]:
    """The keys of the stages behind a row's SEED, by stage name."""
    cells = recipe.stages_for_row(row, ("SEED",), profile, data, [0])
    found: dict[str, list[str]] = {}
    for key, stage in closure(recipe.stages({"": cells})).items():
        found.setdefault(stage.name, []).append(key)
    return found


def test_a_share_changes_the_selection_and_what_is_made_from_it(profile, store):
    data = inputs.resolve_inputs(profile, store, [C3L])
    same = names(C3L, profile, data)
    row = next(row for row in PROPORTIONS if row.label == "LLaVA, 50%")
    other = names(row, profile, data)
    changed = {"selection", "generator", "final", "vlit", "evaluation"}
    assert {name for name in same if same[name] != other[name]} == changed
    ours = next(row for row in PROPORTIONS if row.label == "LLaVA, 10%")
    with_ten = profile.model_copy(update={"share": 0.1})
    assert names(ours, profile, data) == names(C3L, with_ten, data) != same


def longest(samples, scores):
    return [float(len(sample.answer)) for sample in samples]


@pytest.mark.parametrize("method", ["likelihood", "length", "longest"])
def test_a_selector_is_given_the_scores(profile, store, monkeypatch, method):
    monkeypatch.setitem(METHODS, "longest", longest)
    row = replace(C3L, selection=method)
    data = inputs.resolve_inputs(profile, store, [row])
    cells = recipe.stages_for_row(row, ("SEED",), profile, data, [0])
    stages = closure(recipe.stages({"": cells})).values()
    [selection] = [stage for stage in stages if stage.name == "selection"]
    assert {"samples", "scores"} == selection.inputs.keys()
    assert ("code" in selection.config) == (method == "longest")


def test_a_table_may_take_fewer_tuning_seeds_and_shares_their_models(profile, store):
    run = Run.prepare(["table4", "table7"], profile, [0, 1], store)
    ablation, sensitivity = (run.tables[name][C3L.label]["SEED"] for name in ("table4", "table7"))
    assert [len(some) for some in ablation] == [2, 2]
    for some, fewer in zip(ablation, sensitivity, strict=True):
        assert [stage.key for stage in fewer] == [some[0].key]
    assert profile.with_tuning_seeds(at_most=5).sizes == profile.sizes


def test_a_row_without_its_backbone_says_so_and_the_others_run(profile, store, monkeypatch):
    table = Table("Ours", (BASELINE, LACKING), ("SEED", TRUTH))
    monkeypatch.setitem(TABLES, "table9", table)
    run = Run.prepare(["table9"], profile, [0, 1], store)
    cells = run.tables["table9"]
    # No graphs, no truth: a column is there for all rows or for none.
    assert [list(row) for row in cells.values()] == [["SEED"], ["SEED"]]
    ((stage,),) = cells["another"]["SEED"]
    assert stage.run(stage) == {"unscored": "the profile toy has no backbone LLaVA-99B"}
    assert all(
        stage.name == "evaluation" for some in cells[BASELINE.label]["SEED"] for stage in some
    )


def test_a_benchmark_without_a_task_says_so(profile, store):
    tasks = {name: profile.scoring.tasks[name] for name in ("SEED", "POPE")}
    scoring = profile.scoring.model_copy(update={"tasks": tasks})
    less = profile.model_copy(update={"scoring": scoring})
    data = inputs.resolve_inputs(less, store, [C3L])
    cells = recipe.stages_for_row(C3L, ("SEED", "MMB"), less, data, [0])
    assert {stage.name for stage in cells["SEED"][0]} == {"evaluation"}
    for stage in cells["MMB"][0]:
        assert stage.run(stage) == {"unscored": "the profile toy has no task for MMB"}


def test_a_ranking_without_its_backbone_says_so(profile, store):
    lacking = profile.model_copy(update={"backbones": {}})
    data = inputs.resolve_inputs(profile, store)
    cells = recipe.stages_for_row(RANKINGS[0], ("AUROC",), lacking, data, [0])
    assert cells["AUROC"][0][0].name == "unscored"


def with_backbones(profile, **more):
    return Profile.model_validate(profile.model_dump(mode="json") | more)


def test_a_backbone_may_be_tuned_on_others_data_first(profile, store):
    weights = profile.backbones["LLaVA-7B"].weights
    backbones = {
        "LLaVA-7B": {"weights": weights, "tuned_on": "llava-158k"},
        "LLaVA-13B": weights,
    }
    training = profile.training.model_dump() | {"first": {"learning_rate": 1e-3}}
    first = with_backbones(profile, backbones=backbones, training=training)
    data = inputs.resolve_inputs(first, store, [C3L])
    start = data.backbones["LLaVA-7B"]
    assert (start.name, start.config["settings"]["learning_rate"]) == ("vlit", 1e-3)
    assert {stage.name for stage in start.stages} == {"comparison"}
    cells = recipe.stages_for_row(C3L, ("SEED",), first, data, [0])
    made = closure(recipe.stages({"": cells})).values()
    # All that loads a backbone begins from the tuned one.
    for stage in made:
        if "backbone" in stage.inputs and stage is not start:
            assert stage.inputs["backbone"] is start
    assert "LLaVA-13B" not in data.backbones  # no row asks for it


def test_a_backbone_to_be_tuned_on_what_is_not_there_is_an_error_at_once(profile, store):
    weights = profile.backbones["LLaVA-7B"].weights
    backbones = {"LLaVA-7B": {"weights": weights, "tuned_on": "lrv"}}
    training = profile.training.model_dump() | {"first": {}}
    first = with_backbones(profile, backbones=backbones, training=training)
    with pytest.raises(UserError, match=r"tunes LLaVA-7B on lrv first: put .*comparison/lrv/data"):
        inputs.resolve_inputs(first, store, [C3L])


def test_a_backbone_may_have_readings_of_its_own(profile, store):
    """The writer's rule what the generator learns, the tuned model's what VLIT does."""
    weights = profile.backbones["LLaVA-7B"].weights
    backbones = {
        "LLaVA-7B": {
            "weights": weights,
            "readings": {"tuning": "projector", "contrastive_image": True},
        },
        "LLaVA-13B": weights,
    }
    mixed = with_backbones(profile, backbones=backbones)
    row = replace(C3L, backbone="LLaVA-13B", writer="LLaVA-7B")
    data = inputs.resolve_inputs(mixed, store, [row])
    cells = recipe.stages_for_row(row, ("SEED",), mixed, data, [0])
    made = {stage.name: stage for stage in closure(recipe.stages({"": cells})).values()}
    assert made["generator"].config["readings"]["tuning"] == "projector"
    assert made["vlit"].config["readings"]["tuning"] == "language+projector"
    row = replace(row, readings={"tuning": "lora"})
    cells = recipe.stages_for_row(row, ("SEED",), mixed, data, [0])
    made = {stage.name: stage for stage in closure(recipe.stages({"": cells})).values()}
    assert made["generator"].config["readings"]["tuning"] == "lora"


def test_a_served_backbone_is_scored_at_its_address_and_not_trained(profile, store):
    at = {"model": "visualglm", "url": "http://127.0.0.1:1/v1"}
    tasks = profile.scoring.model_dump() | {"tasks": {"SEED": "seedbench", "POPE": "pope"}}
    mixed = with_backbones(profile, served={"VisualGLM-6B": at}, scoring=tasks)
    plain = Row("VisualGLM", "VisualGLM-6B", tuned=False)
    data = inputs.resolve_inputs(mixed, store, [plain])
    cells = recipe.stages_for_row(plain, ("SEED", "POPE", TRUTH), mixed, data, [0])
    assert list(cells) == ["SEED", "POPE"]
    (stage,) = {stage.key: stage for stage in cells["SEED"][0]}.values()
    assert stage.config["served"]["model"] == "visualglm" and list(stage.inputs) == ["data"]
    for row in (replace(plain, tuned=True), replace(C3L, writer="VisualGLM-6B")):
        cells = recipe.stages_for_row(
            row, ("SEED",), mixed, inputs.resolve_inputs(mixed, store, [row]), [0]
        )
        ((stage,),) = cells["SEED"]
        assert "nothing can be trained" in stage.run(stage)["unscored"]
    by_likelihood = with_backbones(profile, served={"VisualGLM-6B": at})
    cells = recipe.stages_for_row(plain, ("SEED",), by_likelihood, data, [0])
    stage = cells["SEED"][0][0]
    assert "scoring.tasks.SEED=seedbench" in stage.run(stage)["unscored"]
    data = inputs.resolve_inputs(by_likelihood, store, [plain])
    stage = recipe.stages_for_row(plain, (AREA,), by_likelihood, data, [0])[AREA][0][0]
    assert stage.run(stage)["unscored"] == (
        "visualglm is served at an address, which tells no likelihoods: "
        "the column POPE reads written answers"
    )


def test_where_no_row_can_run_nothing_does(profile, store, monkeypatch):
    monkeypatch.setitem(TABLES, "table9", Table("Ours", (LACKING,), ("SEED",)))
    with pytest.raises(
        UserError, match="toy has no backbone LLaVA-99B; it has LLaVA-13B, LLaVA-7B"
    ):
        Run.prepare(["table9"], profile, [0], store)
    Run.prepare(["table9", "table4"], profile, [0], store)


def test_a_contrast_without_effect_is_an_error_at_once_or_leaves_its_row_unscored(profile, store):
    """The profile's own readings are an error, what a row of table 7 makes of them is not."""
    data = inputs.resolve_inputs(profile, store, [C3L])
    readings = profile.readings.model_copy(update={"tuning": "lora"})
    adapters = profile.model_copy(update={"readings": readings})
    row = replace(C3L, label="embedding = input", readings={"embedding": "input"}, base=C3L.label)
    assert names(C3L, adapters, data).keys() == names(row, profile, data).keys()
    cells = recipe.stages_for_row(row, ("SEED", TRUTH), adapters, data, [0])
    ((stage,),) = cells["SEED"]
    assert stage.run(stage)["unscored"].startswith("L_c would reach no weight of the model: ")
    without = profile.readings.model_copy(update={"tuning": "projector"})
    projector = profile.model_copy(update={"readings": without})
    for lost in (C3L, CLM, row, replace(row, readings={"temperature": 1.0})):
        with pytest.raises(UserError, match=r"set .*contrastive_image=true"):
            recipe.stages_for_row(lost, ("SEED",), projector, data, [0])
    assert "generator" in names(CRM, projector, data)  # no L_c, nothing lost
    (row,) = [row for row in SENSITIVITY if row.label == "tuning = projector"]
    for changed in (profile, adapters):
        assert "generator" in names(row, changed, data)

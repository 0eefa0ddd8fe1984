"""What a run says of itself: how far, how fast, for which row, and what it took from the store."""

import pytest

from c3l.artifacts.graph import closure
from c3l.artifacts.store import Job, Source, Stage, Store
from c3l.runtime import progress
from c3l.runtime.progress import track
from c3l.samples import Sample, write_samples
from repro import profile as profiles
from repro import recipe
from repro.estimate import workload
from repro.profile import Expected
from repro.run.progress import Progress, Times
from repro.run.run import Run
from tests.c3l import store_stages as toy


def watched(job: Job) -> dict:
    """A stage that keeps what another process would read of it."""
    from c3l.artifacts.store import PLACE

    for _ in track(range(4), "samples"):
        pass
    return {"place": (job.partial / PLACE).read_text()}


@pytest.fixture
def often(monkeypatch):
    """A plain line each time."""
    monkeypatch.setattr(progress, "EVERY", 0.0)


@pytest.fixture
def stages(tmp_path):
    return [toy.stage(tmp_path / "calls", f"row {k}") for k in range(3)]


def test_what_a_stage_tells_lies_in_the_store(tmp_path):
    store = Store(tmp_path / "store")
    stage = Stage("watched", 1, watched)
    store.make(stage)
    assert store.manifest(stage)["facts"]["place"].startswith('{"unit": "samples", "done": 0')
    assert store.progress(stage) is None  # it is made


def test_a_line_names_rate_time_stage_row_and_place(tmp_path, stages, often, capsys, monkeypatch):
    store = Store(tmp_path / "store")
    monkeypatch.setattr(
        store, "progress", lambda s: progress.Position("steps", 12, 40) if s is stages[1] else None
    )
    rows = {stages[1].key: ["table4: CRM", "table5: I²C", "figure3: 10%"]}
    times = Times(Expected(seconds={"toy": 60.0}), [], store)
    with Progress({s.key: s for s in stages}, 5, times, 1, rows=rows) as shown:
        shown.show(stages[:2])
        shown.finished(stages[0], 60.0)
        shown.show(stages[1:2])
    first, begun, later = capsys.readouterr().err.splitlines()
    assert first == "3 stages to run, 5 taken from the store; about 3 min with 1 workers."
    at = "toy 12/40 steps (table4: CRM and 2 more rows)"
    assert begun == f"0 of 3 stages · 3 min left · toy · {at}."
    assert later.startswith("1 of 3 stages · ") and later.endswith(f" · 2 min left · {at}.")
    assert "/s · " in later


def test_each_stage_is_named_when_asked_for(tmp_path, stages, capsys, monkeypatch):
    times, left = Times(Expected(), [], Store(tmp_path / "store")), {stages[0].key: stages[0]}
    for level, lines in ((progress.QUIET, 0), (progress.NORMAL, 1), (progress.VERBOSE, 4)):
        monkeypatch.setenv("C3L_VERBOSITY", str(level))
        everything = {stage.key: stage for stage in stages}
        with Progress(left, 2, times, 1, everything=everything) as shown:
            shown.finished(stages[0], 2.0)
        said = capsys.readouterr().err.splitlines()
        assert len(said) == lines
    assert said[1] == f"from the store: toy {stages[1].key[:12]}"
    assert said[3] == f"done in 2 s: toy {stages[0].key[:12]}"


def test_a_stage_belongs_to_all_rows_that_need_it(tmp_path):
    shared = toy.stage(tmp_path, "shared")
    ends = [toy.stage(tmp_path, f"end {k}", x=shared) for k in range(2)]
    cells = {f"row {k}": {"SEED": [[end]]} for k, end in enumerate(ends)}
    rows = recipe.rows({"table4": cells})
    assert rows[shared.key] == ["table4: row 0", "table4: row 1"]
    assert rows[ends[1].key] == ["table4: row 1"]


@pytest.fixture
def generators(tmp_path):
    """Figure 3's, of one backbone, by the share that each learns from."""
    store = Store(tmp_path / "store")
    run = Run.prepare(["figure3"], profiles.load("pocket"), [0], store, placeholders=True)
    found = closure(recipe.stages(run.tables["figure3"])).values()
    backbone = next(s for s in found if s.name == "generator").inputs["backbone"]
    return {
        stage.inputs["selection"].config["share"]: stage
        for stage in found
        if stage.name == "generator" and stage.inputs["backbone"] == backbone
    }


@pytest.mark.parametrize("of", ["profile", "measured"])
def test_a_stage_is_expected_to_take_as_long_as_it_has_to_do(generators, of, tmp_path):
    times = Times(Expected(factors={"generator": 2.0}), [], Store(tmp_path / "store"))
    if of == "measured":
        times.add(generators[0.1], 60.0)
        assert times.expected(generators[0.1]) == pytest.approx(60)
    tenth = times.expected(generators[0.1])
    for share, stage in generators.items():
        assert times.expected(stage) == pytest.approx(10 * share * tenth, rel=0.02)
        assert times.source(stage) == of
    assert len(generators) == 6


def test_others_data_are_counted_where_they_are_there(tmp_path):
    def size() -> int:
        sources = {"data": Source(tmp_path / "data", "made up")}
        return workload.count_samples(Stage("comparison", 1, watched, {"name": "lrv"}, sources))

    assert size() > 100_000  # as published
    (tmp_path / "data").mkdir()
    workload._turns.cache_clear()
    turns = [Sample(name, "a.png", "What is it?", "A cup.") for name in "ab"]
    write_samples(tmp_path / "data" / "part.jsonl", turns)
    assert size() == 2

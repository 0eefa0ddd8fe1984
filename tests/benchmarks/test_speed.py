"""The benchmark of speed: its ways agree, its fits are right, its report adds up."""

import math
import re
from itertools import pairwise

import pytest
import torch

from benchmarks.speed import model, scoring, stages
from c3l.runtime.errors import UserError
from repro.checks import bench

TINY = "tiny, 9 image tokens"


@pytest.fixture(scope="module")
def backbone():
    return model.make_model(TINY)


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    return scoring.workload(tmp_path_factory.mktemp("speed"), images=3, samples_per_image=4)


@pytest.fixture
def in_process(monkeypatch):
    """Stages without a process for each: importing torch is most of a small one's time."""
    monkeypatch.setattr(stages, "measure", stages.run_stage)


def test_the_workload_is_what_it_says(backbone, load):
    assert len(load.samples) == 12
    assert len({s.image for s in load.samples}) == 3
    assert len({(s.question, s.answer) for s in load.samples}) == 12
    for sample in load.samples:
        assert 8 <= len(sample.question.split()) <= 12
        assert 9 <= len(sample.answer.split()) <= 17
    pixels = backbone.encode(["?"], [scoring.ImageFolder(load.folder)["0.jpg"]])["pixel_values"]
    assert pixels.shape == (1, 3, 24, 24)


def test_the_ways_agree(backbone, load):
    found = [way(backbone, load) for way in scoring.WAYS.values()]
    assert [s.id for s in found[0]] == [s.id for s in load.samples]
    for scores in found[1:]:
        assert scoring.largest_difference(scores, found[0]) <= 1e-5
        for a, b in zip(scores, found[0], strict=True):
            assert a.i2c == pytest.approx(b.i2c, abs=1e-4)
    # Not by seeing nothing: the image moves them, far beyond the tolerance.
    assert max(abs(s.logp_visual - s.logp_direct).max() for s in found[0]) > 0.01


def test_a_way_that_is_off_is_not_timed(backbone, load, monkeypatch):
    def wrong(backbone, load):
        found = scoring.one_by_one(backbone, load)
        found[-1].kl[-1] = math.nan
        return found

    monkeypatch.setitem(scoring.WAYS, "packed", wrong)
    with pytest.raises(RuntimeError, match="packed differs from one by one by nan"):
        scoring.compare_ways(backbone, load)


def test_the_ways_take_turns(backbone, load, monkeypatch):
    order = []
    for name, way in list(scoring.WAYS.items()):
        monkeypatch.setitem(
            scoring.WAYS,
            name,
            lambda backbone, load, name=name, way=way: order.append(name) or way(backbone, load),
        )
    found = scoring.compare_ways(backbone, load, rounds=2)
    assert order == list(scoring.WAYS) * 3
    assert all(0 < timing.wall < 60 and timing.process > 0 for timing in found.values())


def test_growth_is_measured(in_process):
    runs = [stages.measure("scores", stages.POCKET, size) for size in (100, 200, 400)]
    assert [run.rows for run in runs] == [100, 200, 400]
    assert math.isfinite(bench.exponent(runs))
    for one in runs:
        assert one.wall > 0 and one.process > 0
        assert 100 < one.before <= one.peak < 16_000


@pytest.mark.parametrize("power", [0.5, 1, 2])
def test_the_exponent_is_the_power(power):
    runs = [stages.StageRun("scores", n, 0, 0, 3e-3 * n**power, 0, 0) for n in bench.SIZES]
    assert bench.exponent(runs) == pytest.approx(power)


def test_the_report_adds_up(in_process):
    text = bench.scoring_report("cpu", quick=True)
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|") and not line.startswith("|:")
    ]
    ways = [row for row in rows if row[0] == TINY]
    assert [row[1] for row in ways] == list(scoring.WAYS)
    for row in ways:
        assert float(row[4]) == pytest.approx(float(ways[0][2]) / float(row[2]), rel=0.05)
        assert float(row[6]) <= scoring.TOLERANCE
    assert float(ways[0][4]) == 1
    sizes = [int(row[0]) for row in rows if row[0].isdigit()]
    assert sizes == list(bench.QUICK_SIZES) and all(a < b for a, b in pairwise(sizes))
    assert re.search(r"with the power -?\d+\.\d{3} of the number", text)
    assert f"torch {torch.__version__.split('+')[0]}" in text
    assert "`python -m repro bench --device cpu --quick` at commit" in text


def test_a_device_that_is_not_there_is_a_user_error():
    with pytest.raises(UserError, match="device meta cannot be used"):
        bench.scoring_report("meta", quick=True)


def test_stages_are_set_beside_their_formulas():
    from repro.checks.bench import formula_report

    text = formula_report(quick=True)
    for kind in ("pairs", "vlit"):
        cells = [cell.strip() for cell in text.partition(f"| {kind} ")[2].split("\n")[0].split("|")]
        seconds, peak, before = (float(cells[k]) for k in (1, 4, 5))
        assert seconds > 0 and peak >= before > 100
    assert "bench --stages --quick` at commit" in text

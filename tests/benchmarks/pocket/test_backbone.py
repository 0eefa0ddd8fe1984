"""The shipped backbone, scored in half precision."""

from pathlib import Path
from random import Random
from typing import get_args

import pytest
from scipy.stats import spearmanr

from benchmarks.pocket.conversations import pair
from benchmarks.pocket.drawing import draw
from benchmarks.pocket.scenes import draw_scenes
from c3l import load_backbone
from c3l.instructions import CLASSES
from c3l.readings import ScoreForm
from c3l.relevance import in_form, score
from c3l.samples import ImageFolder, Sample

BACKBONE = Path(__file__).parents[3] / "benchmarks" / "pocket" / "backbones" / "llava-7b"


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    """Of 180 pairs, half of them about another scene than their image's, in two types."""
    folder = tmp_path_factory.mktemp("images")
    scenes = draw_scenes(0, "initial", 20)
    samples = []
    for number, scene in enumerate(scenes):
        draw(scene).save(folder / f"{number}.png")
        for k in range(9):
            about = scene if k % 2 else scenes[(number + 1) % len(scenes)]
            instruction = CLASSES[k % 3]
            question, answer = pair(Random(f"{number} {k}"), about, instruction)
            name = f"{number}-{k}"
            samples.append(Sample(name, f"{number}.png", question, answer, instruction))
    return [
        score(load_backbone(BACKBONE, device="cpu", dtype=dtype), samples, ImageFolder(folder))
        for dtype in ("float32", "bfloat16")
    ]


@pytest.mark.parametrize("form", get_args(ScoreForm))
def test_bfloat16_ranks_as_float32_does(scores, form):
    exact, half = (in_form(some, form) for some in scores)
    assert exact != half
    assert spearmanr(exact, half).statistic > 0.99

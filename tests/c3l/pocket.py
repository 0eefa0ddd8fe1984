"""A few pictures of the pocket world, which its backbone can write about, and how in seconds."""

from pathlib import Path

from benchmarks.pocket.drawing import draw
from benchmarks.pocket.scenes import draw_scenes
from tests.repro.toy import ROOT

BACKBONE = ROOT / "benchmarks" / "pocket" / "backbones" / "llava-7b"
CHANGES = [
    "tuning=language+projector",
    "training.learning_rate=5e-5",
    "training.batch_size=4",
    "training.save_steps=1",
    "training.anchor_tokens=8",
    "generation.caption_tokens=48",
    "generation.pair_tokens=64",
    "generation.pairs_per_class=2",
    "share=0.3",
]


def pictures(folder: Path, count: int) -> Path:
    """The folder, with pictures in a folder of its own, in two of them."""
    for k, scene in enumerate(draw_scenes(11, "final", count)):
        file = folder / ("some" if k % 2 else "others") / f"scene {k}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        draw(scene).save(file)
    return folder

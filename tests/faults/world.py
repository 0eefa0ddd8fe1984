"""The pocket profile made small: five pictures, its own backbone, a run of seconds."""

from pathlib import Path

import yaml

from benchmarks.pocket.build import write_images
from benchmarks.pocket.scenes import draw_scenes
from repro.profile import load
from tests.benchmarks import data


def profile(folder: Path) -> Path:
    """A profile on a world of its own below the folder."""
    for part, count in (("initial", 3), ("final", 2)):
        write_images(folder / "world" / part, draw_scenes(0, part, count))
        (folder / "world" / part / "graphs.jsonl").unlink()  # no column about the truth
    data.seedbench(folder / "world" / "benchmarks" / "seedbench", n=4, video=0)
    data.pope(folder / "world" / "benchmarks" / "pope", pairs=1)
    pocket = load("pocket")
    training = {"batch_size": 2, "epochs": 1, "anchor_tokens": 8, "save_steps": 1}
    steps = {
        name: setting and setting | training
        for name, setting in pocket.training.model_dump(mode="json").items()
    }
    values = pocket.model_dump(mode="json", exclude={"name"}) | {
        "data": "world",
        "sizes": {"initial_images": 3, "final_images": 2, "final_samples": 4, "tuning_seeds": 1},
        "share": 0.5,
        "training": steps,
    }
    values["generation"] |= {"pair_tokens": 64, "pairs_per_class": 1}
    values["scoring"] |= {"answer_tokens": 8, "tasks": {"SEED": "seedbench_ppl", "POPE": "pope"}}
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def options(profile: Path, runs: Path, jobs: int = 2) -> list:
    """Of the run that the faults happen to."""
    return ["table4", "--profile", profile, "--runs", runs, "--seeds", 1, "--jobs", jobs]

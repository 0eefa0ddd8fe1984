"""A toy world on disk for runs of the real command line: images, benchmarks, graphs, a profile."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from repro.profile import load
from tests.benchmarks import data

ROOT = Path(__file__).parent.parent.parent


def command(*arguments) -> list[str]:
    """The real command line; to be run in ROOT."""
    return [sys.executable, "-m", "repro", *map(str, arguments)]


def repro(*arguments, **kwargs) -> subprocess.CompletedProcess:
    """Run the real command line to its end."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, cwd=ROOT, check=False, **kwargs
    )


def images(folder: Path, count: int, seed: int) -> None:
    """Seeded 24 px images."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for k in range(count):
        pixels = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"scene-{seed}-{k}.png")


def world(folder: Path) -> Path:
    """Six initial and four final images, the four benchmarks; no scene graphs."""
    images(folder / "initial" / "images", 6, seed=1)
    images(folder / "final" / "images", 4, seed=2)
    data.seedbench(folder / "benchmarks" / "seedbench", video=0)
    data.pope(folder / "benchmarks" / "pope")
    data.mmbench(folder / "benchmarks" / "mmbench")
    data.llava_w(folder / "benchmarks" / "llava_w")
    comparison(folder / "comparison")
    return folder


def comparison(folder: Path) -> None:
    """Twelve turns that stand for ComVint and twelve of six conversations for LLaVA-158k, an image
    of each missing; nothing for LRV."""
    texts = ("What is it?", "A cup.")
    single = {"question": texts[0], "answer": texts[1]}
    talk = [
        {"from": ("human", "gpt")[k % 2], "value": text}
        for k, text in enumerate(("<image>\n" + texts[0], texts[1], *texts))
    ]
    for seed, (name, record, count) in enumerate(
        (("comvint", single, 12), ("llava-158k", {"conversations": talk}, 6)), start=3
    ):
        images(folder / name / "images", count - 1, seed)
        (folder / name / "data").mkdir()
        records = [{"image": f"scene-{seed}-{k}.png", **record} for k in range(count)]
        (folder / name / "data" / "data.json").write_text(json.dumps(records))


def profile(folder: Path, backbone: Path) -> Path:
    """A profile of seconds on `world(folder / "world")`; relative paths, as a user writes them."""
    world(folder / "world")
    training = {
        "learning_rate": 1e-3,
        "batch_size": 4,
        "epochs": 1,
        "anchor_tokens": 8,
    }
    values = {
        "data": "world",
        "backbones": dict.fromkeys(("LLaVA-7B", "LLaVA-13B"), str(backbone)),
        "sizes": {
            "initial_images": 6,
            "final_images": 4,
            "final_samples": 8,
            "tuning_seeds": 2,
        },
        "share": 0.3,
        "generation": {
            "caption_tokens": 8,
            "pair_tokens": 128,
            "pairs_per_class": 2,
            "batch_size": 8,
        },
        "readings": {"tuning": "language+projector"},
        # A generator that learns faster forgets how to write.
        "training": dict.fromkeys(("contrastive", "joint", "vlit"), training)
        | {"generator": training | {"learning_rate": 2e-4}},
        "scoring": {
            "i2c_batch_size": 8,
            "batch_size": 8,
            "answer_tokens": 8,
            "tasks": load("pocket").scoring.tasks,  # what is tested is what is run
        },
        "expected": load("pocket").expected.model_dump(),
    }
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def table(runs: Path, name: str = "table4") -> dict:
    """The JSON of a table below a runs folder."""
    return json.loads((runs / "toy" / f"{name}.json").read_text())

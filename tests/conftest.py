"""Fixtures shared by all tests: a tiny LLaVA and a few images, made once."""

import importlib
import os
import shutil

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from tests.tiny import save_tiny_llava

# A deadline would measure the machine's load, not the code. C3L_FAULTS_LONG asks for ten times the
# examples.
LONG = bool(os.environ.get("C3L_FAULTS_LONG"))
settings.register_profile("c3l", deadline=None, max_examples=400 if LONG else 40)
settings.load_profile("c3l")


@pytest.fixture(scope="session")
def tiny_llava(tmp_path_factory):
    """The folder of a saved random-weight LLaVA."""
    return save_tiny_llava(tmp_path_factory.mktemp("backbones") / "tiny-llava")


@pytest.fixture(scope="session")
def tiny_images(tmp_path_factory):
    """A folder of six seeded 24 px images, image-0.png to image-5.png."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for k in range(6):
        pixels = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"image-{k}.png")
    return folder


@pytest.fixture
def coco(tmp_path, monkeypatch):
    """A folder that stands for all of train2014: twelve images."""
    from benchmarks import real

    monkeypatch.setattr(real, "COCO_IMAGES", 12)
    (tmp_path / "train2014").mkdir()
    for k in range(12):
        name = f"COCO_train2014_{k * 7:012d}.jpg"
        Image.new("RGB", (32, 24), (20 * k, 0, 0)).save(tmp_path / "train2014" / name)
    return tmp_path / "train2014"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A Hub's cache that holds the four data sets, as small as the toy world's; their revision."""
    import huggingface_hub.constants

    from benchmarks import real
    from tests.repro import toy

    revision = "0123456789abcdef0123456789abcdef01234567"
    toy.world(tmp_path / "toy")
    for name, dataset in real.data_sets().items():
        folder = tmp_path / "cache" / f"datasets--{dataset.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text(revision)
        (folder / "snapshots").mkdir()
        (tmp_path / "toy" / "benchmarks" / name).rename(folder / "snapshots" / revision)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return revision


@pytest.fixture(scope="session")
def pocket_runs(tmp_path_factory):
    """A function that makes a runs folder with the pocket world, which is drawn once for all."""
    from c3l.artifacts.store import Store
    from repro.stages.evaluation import pocket_world

    base = tmp_path_factory.getbasetemp()  # with xdist, of one of several workers
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    store, stage = Store(folder / "pocket"), pocket_world()
    store.make(stage)

    def runs(folder):
        shutil.copytree(store.path(stage), folder / "store" / stage.name / stage.key)
        return folder

    return runs


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """The pocket benchmarks about six scenes."""
    folder = tmp_path_factory.mktemp("world")
    build = importlib.import_module("benchmarks.pocket.build")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "BENCHMARK_SCENES", 6)
        build.write_benchmarks(folder / "benchmarks", seed=0)
    return folder

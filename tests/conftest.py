"""Fixtures shared by all tests: a tiny LLaVA and a few images, made once."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from tests.tiny import save_tiny_llava

# A deadline would measure the machine's load, not the code.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


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

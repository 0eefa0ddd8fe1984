"""What training is tested on: random weights, samples of four images. And the other families."""

import pytest

from c3l.backbones import load_backbone
from c3l.instructions import CLASSES
from c3l.samples import ImageFolder, Sample
from c3l.selection import groups
from tests.c3l import families


@pytest.fixture
def backbone(tiny_llava):
    return load_backbone(tiny_llava, device="cpu")


@pytest.fixture(scope="module")
def images(tiny_images):
    return ImageFolder(tiny_images)


@pytest.fixture(scope="module")
def samples():
    return [
        Sample(
            f"s{i}", f"image-{i % 4}.png", f"What is {i}?", "A cup. " * (i % 3 + 1), CLASSES[i % 3]
        )
        for i in range(12)
    ]


@pytest.fixture(scope="module")
def image_groups(samples):
    return groups(samples, list(range(len(samples))))


@pytest.fixture(scope="session", params=families.FAMILIES)
def family(request, tmp_path_factory):
    """The folder of a tiny backbone of each family besides LLaVA."""
    return families.save(request.param, tmp_path_factory.mktemp(request.param))

"""The operations of scoring, by formula, and a device's operations a second."""

from collections.abc import Callable, Iterable
from statistics import median

import torch

from benchmarks.speed.model import SHAPES, ModelShape
from benchmarks.speed.scoring import Workload, clock
from c3l.backbones.base import Backbone
from c3l.samples import ImageFolder


def scoring_flops(backbone: Backbone, load: Workload, packed: bool) -> float:
    """Floating-point operations of a workload's scores, one by one or packed.

    A token costs two for each weight of its linear layers, and in each layer four times the width
    for each position it attends to (attention's two products). Padding and masked positions do not
    count. The head is applied to answers' tokens alone. Packed, an image's tokens are read once for
    all its samples; one by one, for each. Either way the sample's own tokens are read behind the
    image, and once more without it. `backbone` comes from `benchmarks.speed.model.make_model`.
    """
    shape = SHAPES[backbone.name]
    images, patches = ImageFolder(load.folder), shape.image_tokens
    questions, answers = [s.question for s in load.samples], [s.answer for s in load.samples]
    pictures = [images[s.image] for s in load.samples]
    visual = backbone.encode(questions, pictures, answers)["attention_mask"].sum(1) - patches
    batch = backbone.encode(questions, None, answers)
    direct, predicted = batch["attention_mask"].sum(1), int(batch["answer_mask"].sum())
    image_passes = len({s.image for s in load.samples}) if packed else len(load.samples)
    flops = image_passes * (_vision(shape) + language_flops(shape, [range(1, patches + 1)]))
    flops += language_flops(shape, (range(1, n + 1) for n in direct.tolist()))
    flops += language_flops(shape, (range(patches + 1, patches + n + 1) for n in visual.tolist()))
    return flops + 2 * 2 * shape.vocabulary * shape.language[0] * predicted


def language_flops(shape: ModelShape, runs: Iterable[range]) -> float:
    """Operations of the layers for runs of tokens, each given by the positions it attends to."""
    width, layers, _, inner = shape.language
    weights = layers * (4 * width**2 + 3 * width * inner)
    return sum(2 * weights * len(run) + 4 * layers * width * sum(run) for run in runs)


def _vision(shape: ModelShape) -> float:
    """Operations of the encoder and the projector for one image."""
    width, layers, _, inner = shape.vision
    out, patches = shape.language[0], shape.image_tokens
    tokens = patches + 1  # the class token
    encoder = layers * (2 * tokens * (4 * width**2 + 2 * width * inner) + 4 * width * tokens**2)
    embedding = 2 * patches * 3 * shape.patch**2 * width
    return encoder + embedding + 2 * patches * (width * out + out**2)


def matrix_peak(device: torch.device, side: int = 8192, rounds: int = 5) -> float:
    """Operations a second in a product of two square matrices, the median of rounds.

    On a GPU in bfloat16 by the wall clock; on the CPU in float32, one thread by its own time.
    """
    gpu = device.type == "cuda"
    dtype = torch.bfloat16 if gpu else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / _median(lambda: a @ b, device, rounds)


def bandwidth(device: torch.device, size: int = 2**28, rounds: int = 5) -> float:
    """Bytes a second read and written by a copy of `size` bytes, measured likewise."""
    a = torch.ones(size // 4, device=device)
    b = torch.empty_like(a)
    return 2 * size / _median(lambda: b.copy_(a), device, rounds)


def _median(work: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Median seconds over the rounds, after one that warms up."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = [clock(work, device) for _ in range(rounds + 1)]
    torch.set_num_threads(threads)
    return median(wall if device.type == "cuda" else process for wall, process in times[1:])

"""Samples that no training can use, found before its first step.

The reasons are those of `c3l.scores.Score`: what has no score for one of them teaches nothing.
"""

from collections.abc import Sequence

from c3l.backbones.base import Backbone
from c3l.instructions import CLASSES, format_pair, pair_prompt
from c3l.runtime import distributed
from c3l.runtime.errors import ImageError
from c3l.runtime.progress import track
from c3l.samples import ImageFolder, Sample

BATCH = 64  # texts that are tokenised together


def unusable(
    backbone: Backbone, samples: Sequence[Sample], images: ImageFolder, *, pairs: bool = False
) -> dict[int, str]:
    """Return why samples cannot be trained on, by their place.

    With `pairs` a sample is read as a generator writes it, which is longer (`as_pair`).
    """
    reasons = without_use(samples, images)
    rest = [place for place in range(len(samples)) if place not in reasons]
    long = too_long(backbone, [samples[place] for place in rest], pairs=pairs)
    return reasons | {rest[i]: why for i, why in long.items()}


def without_use(samples: Sequence[Sample], images: ImageFolder) -> dict[int, str]:
    """Return which samples have an empty answer or an image that cannot be read, and why.

    No backbone is needed. Each image is opened once; of a launch, each process opens a part of
    them, and all return the same.
    """
    reasons = {i: "empty_answer" for i, s in enumerate(samples) if not s.answer.strip()}
    names = list(dict.fromkeys(s.image for i, s in enumerate(samples) if i not in reasons))
    own = names[distributed.rank() :: distributed.world_size()]

    def look() -> dict[str, str]:
        bad = {}
        for name in track(own, "images"):
            try:
                images[name]
            except ImageError as error:
                bad[name] = error.reason
        return bad

    bad = {name: why for part in distributed.all_gather_call(look) for name, why in part.items()}
    return reasons | {
        i: bad[sample.image]
        for i, sample in enumerate(samples)
        if i not in reasons and sample.image in bad
    }


def too_long(backbone: Backbone, samples: Sequence[Sample], *, pairs: bool) -> dict[int, str]:
    """Return which samples are longer than the context, or have no token to learn, and why."""
    texts = [as_pair(sample) if pairs else (sample.question, sample.answer) for sample in samples]
    # Together what is of like length: one long text would pad all others.
    order = sorted(range(len(texts)), key=lambda i: len(texts[i][0]) + len(texts[i][1]))
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    reasons: dict[int, str] = {}
    for batch in track(batches, "texts", [*map(len, batches)]):
        questions, answers = zip(*(texts[i] for i in batch), strict=True)
        for i, (whole, answer) in zip(batch, backbone.lengths(questions, answers), strict=True):
            if whole > backbone.context:
                reasons[i] = "longer_than_context"
            elif not answer:  # to the tokenizer
                reasons[i] = "empty_answer"
    return reasons


def as_pair(sample: Sample) -> tuple[str, str]:
    """Return the request and the reply of a sample as a lesson in writing."""
    known = sample.instruction in CLASSES
    request = pair_prompt(sample.instruction if known else CLASSES[0], 1)
    return request, format_pair(sample.question, sample.answer)

"""Training on samples: the generator (L_r + λ·L_c, sections 3.2 and 3.3) and VLIT.

Both change the backbone in place; its `digest` stays that of the weights it was loaded from. The
order of the samples is drawn beforehand, and later draws are seeded by the index in that order. So
a run that was killed resumes and ends with the weights of an uninterrupted one.
"""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers.trainer_pt_utils import get_length_grouped_indices

from c3l.backbones.base import Backbone
from c3l.contrastive import Projection
from c3l.data.left_out import format_counts
from c3l.instructions import CLASSES
from c3l.reach import contrast_unreached
from c3l.readings import Readings
from c3l.runtime import distributed
from c3l.runtime.errors import UserError, printable
from c3l.samples import ImageFolder, Sample
from c3l.selection import Group
from c3l.settings import TrainingSettings
from c3l.trainer import Item, check_shares, train_items
from c3l.training_data import as_pair, unusable

__all__ = ["TrainingSettings", "train_generator", "tune"]


def train_generator(
    backbone: Backbone,
    targets: Sequence[Sample],
    groups: Sequence[Group],
    images: ImageFolder,
    settings: TrainingSettings,
    readings: Readings,
    seed: int,
    output_dir: str | Path,
    *,
    checked: bool = False,
) -> dict[str, Any]:
    """Train a generator on L_r + λ·L_c; without targets L_r is off, without groups L_c is.

    An epoch is one pass over the targets, each beside the next image group of a seeded order that
    is drawn anew when it ends; with L_r off it is one pass over the groups. If L_c follows L_r
    (`Readings.joining`), all targets come first and then as many groups. A group without a positive
    or without a negative is skipped. ξ is written to `output_dir`/projection.safetensors, beside
    the checkpoints, from the last of which the training resumes. Samples that cannot be trained on
    (`c3l.training_data`) are left out, unless the caller has `checked` them.

    Returns steps, history (one record a step), its means of loss, l_r and l_c (those that are on),
    skipped_groups, empty_anchors (groups left out of L_c) and, where samples were, left_out (counts
    by reason). Raises UserError when there is nothing to train on, when L_c would reach no weight
    that is trained, and when the loss is no finite number.
    """
    check_shares(settings)
    left_out: Mapping[str, int] = {}
    if not checked:
        targets, groups, left_out = _without_unusable(backbone, targets, groups, images)
    usable = [group for group in groups if group.positives and group.negatives]
    if not targets and not usable:
        raise UserError(
            "there is nothing to train the generator on: no target, and no image with a positive "
            f"and a negative{_describe(left_out)}"
        )
    model_type = backbone.model_part("").config.model_type
    if usable and (reason := contrast_unreached(readings, model_type)):
        raise UserError(reason)
    for sample in (*targets, *(sample for group in usable for sample in group.positives)):
        if sample.instruction not in CLASSES:
            raise UserError(
                f"sample {printable(sample.id)} has no instruction class, so no generator can "
                f"learn from it; give it one of: {', '.join(CLASSES)}"
            )
    if targets and readings.target == "pair":
        pairs = map(as_pair, targets)
        targets = [
            replace(sample, question=request, answer=reply)
            for sample, (request, reply) in zip(targets, pairs, strict=True)
        ]
    epochs = readings.epochs or settings.epochs
    count = (len(targets) or len(usable)) * epochs
    order = _by_length(targets, settings.batch_size, epochs, seed)
    absent: list[None] = [None] * count
    l_r: list[Sample | None] = [targets[i] for i in order] or [*absent]
    stream = _shuffled_groups(usable, settings.max_negatives, seed)
    l_c: list[Group | None] = [*islice(stream, count)] if usable else [*absent]
    if targets and usable and readings.joining == "sequential":
        l_r, l_c = [*l_r, *absent], [*absent, *l_c]
    items = [Item(i, *pair) for i, pair in enumerate(zip(l_r, l_c, strict=True))]
    projection = _projection(backbone, readings, seed) if usable else None
    output_dir = Path(output_dir)
    metrics = train_items(backbone, projection, items, images, settings, readings, seed, output_dir)
    if projection is not None and distributed.is_main_process():
        save_file(projection.state_dict(), output_dir / "projection.safetensors")
    metrics["skipped_groups"] = len(groups) - len(usable)
    return metrics | ({"left_out": dict(left_out)} if left_out else {})


def tune(
    backbone: Backbone,
    samples: Sequence[Sample],
    images: ImageFolder,
    settings: TrainingSettings,
    readings: Readings,
    seed: int,
    output_dir: str | Path,
    *,
    checked: bool = False,
) -> dict[str, Any]:
    """Vision-language instruction tuning: image and question → answer, cross entropy (section 4.1).

    Batches hold samples of similar length. Resumes, leaves out samples, returns steps, history and
    the mean loss, and raises UserError, as `train_generator` does.
    """
    check_shares(settings)
    reasons = {} if checked else unusable(backbone, samples, images)
    samples = [sample for i, sample in enumerate(samples) if i not in reasons]
    left_out = Counter(reasons.values())
    if not samples:
        raise UserError(
            f"there is nothing to tune on: the data set has no sample{_describe(left_out)}"
        )
    order = _by_length(samples, settings.batch_size, readings.epochs or settings.epochs, seed)
    items = [Item(i, samples[k], None) for i, k in enumerate(order)]
    output_dir = Path(output_dir)
    metrics = train_items(backbone, None, items, images, settings, readings, seed, output_dir)
    return metrics | ({"left_out": dict(left_out)} if left_out else {})


def _without_unusable(
    backbone: Backbone, targets: Sequence[Sample], groups: Sequence[Group], images: ImageFolder
) -> tuple[list[Sample], list[Group], Counter[str]]:
    """The targets and groups without unusable samples, and the number of those by reason."""
    members = (sample for group in groups for sample in (*group.positives, *group.negatives))
    distinct = list({id(sample): sample for sample in (*targets, *members)}.values())
    reasons = unusable(backbone, distinct, images, pairs=True)
    excluded = {id(distinct[i]) for i in reasons}

    def usable(samples: Sequence[Sample]) -> tuple[Sample, ...]:
        return tuple(sample for sample in samples if id(sample) not in excluded)

    groups = [
        replace(group, positives=usable(group.positives), negatives=usable(group.negatives))
        for group in groups
    ]
    return list(usable(targets)), groups, Counter(reasons.values())


def _describe(left_out: Mapping[str, int]) -> str:
    """The counts of samples left out, as the end of a message."""
    reasons = format_counts(left_out)
    return f" that can be trained on (left out: {reasons})" if reasons else ""


def _by_length(samples: Sequence[Sample], batch_size: int, epochs: int, seed: int) -> list[int]:
    """Indices of all epochs' samples, shuffled so that neighbours are of similar length."""
    if not samples:
        return []
    lengths = [len(sample.question) + len(sample.answer) for sample in samples]
    generator = torch.Generator().manual_seed(seed)
    return [
        i
        for _ in range(epochs)
        for i in get_length_grouped_indices(lengths, batch_size, generator=generator)
    ]


def _shuffled_groups(
    groups: Sequence[Group], max_negatives: int | None, seed: int
) -> Iterator[Group]:
    """The groups without end, in an order drawn anew each time, with at most `max_negatives`."""
    rng = random.Random(seed)
    while True:
        for group in rng.sample(groups, len(groups)):
            if max_negatives is not None and len(group.negatives) > max_negatives:
                negatives = tuple(rng.sample(group.negatives, max_negatives))
                group = replace(group, negatives=negatives)
            yield group


def _projection(backbone: Backbone, readings: Readings, seed: int) -> Projection:
    width = backbone.model.get_input_embeddings().weight.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Projection(width, affine=readings.projection == "affine")

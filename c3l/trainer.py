"""Training on L_r + λ·L_c (sections 3.2 and 3.3): the step, on transformers' Trainer.

`c3l.training` decides on which samples; `c3l.runtime.distributed_trainer` has checkpoints, shards
and several processes.
"""

import gc
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from transformers import TrainingArguments, set_seed

from c3l.backbones.base import Backbone
from c3l.backbones.features import FrozenFeatures, are_frozen
from c3l.contrastive import Projection
from c3l.instructions import pair_prompt
from c3l.losses import Anchor, Losses
from c3l.readings import Readings
from c3l.runtime import distributed, fsdp
from c3l.runtime.distributed_trainer import DistributedTrainer
from c3l.runtime.errors import NotFiniteError, UserError
from c3l.samples import ImageFolder, Sample
from c3l.selection import Group
from c3l.settings import TrainingSettings

# The anchor is sampled as the pairs of the data sets are.
ANCHOR_TOP_P, ANCHOR_TEMPERATURE = 0.9, 0.7


@dataclass(frozen=True)
class Item:
    """One step's share of the data: a sample for L_r, a group for L_c, or both.

    `index`, its position in the order of training, seeds what is drawn for it. An item with
    neither fills up the last step.
    """

    index: int
    target: Sample | None
    group: Group | None

    @property
    def ids(self) -> list[str]:
        """The samples to name in an error about this item."""
        positives = self.group.positives if self.group else ()
        return [sample.id for sample in (self.target, *positives) if sample]

    @property
    def images(self) -> list[str]:
        """The pictures that it is about."""
        return [part.image for part in (self.target, self.group) if part]


class LossTrainer(DistributedTrainer):
    """A Trainer on `Losses`, whose data set is a sequence of items."""

    def __init__(
        self, losses: Losses, images: ImageFolder, settings: TrainingSettings, **kwargs: Any
    ):
        self.settings = settings
        self.anchors: dict[int, str] = {}  # by index, of the steps they were last sampled for
        self.sampled_from: int | None = None  # the first index of these steps
        super().__init__(losses, data_collator=self._collate, **kwargs)
        frozen = are_frozen(losses.backbone, losses.readings.tuning)
        # Of weights in shards all processes would have to encode the same number of pictures.
        cached = frozen and not self.is_fsdp_enabled
        names = (name for item in self.train_dataset for name in item.images)
        self.images = FrozenFeatures(losses.backbone, images, names) if cached else images

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """This part's share of mean L_r over the step's tokens + λ · mean L_c over its groups."""
        items, encoded = inputs["items"], inputs["encoded"]
        anchors: list[Anchor] = []

        def draw() -> tuple[tuple[bool, bool], int | None]:
            anchors[:], empty = self._draw_anchors(items)
            return (encoded is not None, bool(anchors)), empty

        processes = distributed.all_gather_call(draw)
        if empty := [count for _, count in processes if count is not None]:
            self.parts["empty_anchors"] += sum(empty)
        shares = self.shares(model, encoded, anchors, [present for present, _ in processes])
        if not shares:
            return torch.zeros((), device=self.args.device, requires_grad=True)
        # A training without L_c has no weight of it: its readings are not in the key.
        loss = sum(
            share * (self.model.readings.contrastive_weight if name == "l_c" else 1)
            for name, share in shares.items()
        )
        return self.add_up(loss, shares, [name for item in items for name in item.ids])

    def _draw_anchors(self, items: Sequence[Item]) -> tuple[list[Anchor], int | None]:
        """Each group's anchor, and the number of empty ones where anchors were sampled.

        An empty text cannot be an anchor: its group is left out of this step.
        """
        if not self.totals["l_c"]:
            return [], None  # readings of L_c are not within reach of a training without it
        items = [item for item in items if item.group]
        pictures = [self.images[item.group.image] for item in items]
        if self.model.readings.anchor == "prompt":
            texts: list[str | None] = [None] * len(items)
        else:
            size = self.settings.batch_size * self.settings.anchor_steps
            start = self.state.global_step // self.settings.anchor_steps * size
            if start != self.sampled_from:
                self.anchors, self.sampled_from = self._sample_anchors(start, size), start
            texts = [self.anchors[item.index] for item in items]
        anchors = [
            (text, item.group, picture)
            for text, item, picture in zip(texts, items, pictures, strict=True)
            if text is None or text.strip()
        ]
        counts = items and self.model.readings.anchor == "sampled"
        return anchors, len(items) - len(anchors) if counts else None

    def _sample_anchors(self, start: int, size: int) -> dict[int, str]:
        """Sample a text about each group's image from the current model, by index, for all groups
        of the `anchor_steps` steps that begin at the index `start`.

        No checkpoint lies among these steps, so a run that resumes samples the same. Each process
        samples all of them: sharded weights are gathered by all processes together.
        """
        items = [item for item in self.train_dataset[start : start + size] if item.group]
        backbone = self.model.backbone

        def write() -> list[str]:
            return backbone.generate(
                [pair_prompt(item.group.instruction, 1) for item in items],
                [self.images[item.group.image] for item in items],
                max_new_tokens=self.settings.anchor_tokens,
                temperature=ANCHOR_TEMPERATURE,
                top_p=ANCHOR_TOP_P,
                seed=self.args.seed,
                batch_size=len(items),
                keys=[str(item.index) for item in items],
            )

        self.model.eval()
        try:
            # The losses' own forward is under accelerate's autocast; this is not.
            with backbone.autocast():
                # Sharded weights are gathered only within the model's forward.
                texts = self.model(write=write) if self.is_fsdp_enabled else write()
        except NotFiniteError as error:
            reason = NotFiniteError(error.rows, [" ".join(item.ids) for item in items])
            step = self.state.global_step + 1
            raise UserError(f"training stopped in step {step}: {reason}") from None
        self.model.train()
        return {item.index: text for item, text in zip(items, texts, strict=True)}

    def _collate(self, items: list[Item]) -> dict[str, Any]:
        targets = [item.target for item in items if item.target]
        texts = [(sample.question, self.images[sample.image], sample.answer) for sample in targets]
        columns = map(list, zip(*texts, strict=True))
        encoded = self.model.backbone.encode(*columns) if targets else None
        return {"items": items, "encoded": encoded}

    def count_batch(self, batch: dict[str, Any]) -> tuple[list[str], Counter[str]]:
        """The batch's sample ids, its answer tokens and its groups."""
        items, encoded = batch["items"], batch["encoded"]
        tokens = 0 if encoded is None else int((encoded["labels"] != -100).sum())
        totals = Counter(l_r=tokens, l_c=sum(item.group is not None for item in items))
        return [name for item in items for name in item.ids], totals

    def stand_in_batch(self) -> dict[str, Tensor]:
        item = next(item for item in self.train_dataset if item.target)
        return self._collate([item])["encoded"]

    def stand_in_anchors(self) -> list[Anchor]:
        group = next(item.group for item in self.train_dataset if item.group)
        text = None if self.model.readings.anchor == "prompt" else "."
        return [(text, group, self.images[group.image])]


def check_shares(settings: TrainingSettings) -> None:
    """Raise UserError where the processes cannot share a step."""
    distributed.check_launch()
    parts = distributed.world_size() * settings.accumulation
    if settings.batch_size % parts:
        raise UserError(
            f"{distributed.world_size()} processes times accumulation {settings.accumulation} do "
            f"not divide batch_size {settings.batch_size}; give another --num_processes, or a "
            f"multiple of {parts} as batch_size"
        )


def train_items(
    backbone: Backbone,
    projection: Projection | None,
    items: Sequence[Item],
    images: ImageFolder,
    settings: TrainingSettings,
    readings: Readings,
    seed: int,
    output_dir: Path,
) -> dict[str, Any]:
    """Train over the items in their order, on from the last whole checkpoint in `output_dir`.

    A backbone in half precision computes in it; the weights that train are float32 meanwhile.
    Returns steps, history, its means and empty_anchors (`c3l.training`). Under `accelerate launch`
    all processes call it alike, after `check_shares`, and the first has the trained backbone.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if backbone.dtype == torch.float16 and backbone.device.type == "cpu":
        raise UserError("float16 cannot train on a CPU; load the backbone in bfloat16")
    set_seed(seed)  # adapters begin at random
    backbone.trainable(readings.tuning)
    if settings.gradient_checkpointing:
        backbone.model.gradient_checkpointing_enable({"use_reentrant": False})
    losses = Losses(backbone, projection, readings)
    arguments = _arguments(backbone, settings, readings, seed, output_dir)
    if distributed.world_size() > 1:
        # accelerate would fill up the last step with the first items, once more.
        fillers = range(len(items), len(items) + -len(items) % settings.batch_size)
        items = [*items, *(Item(index, None, None) for index in fillers)]
    trainer = LossTrainer(losses, images, settings, args=arguments, train_dataset=items)
    if not distributed.is_main_process():
        set_seed(seed + arguments.process_index)  # dropout of its own
    # The Trainer begins by collecting garbage: half a second for what was imported.
    gc.freeze()
    try:
        trainer.train_on(backbone.dtype)
    finally:
        gc.unfreeze()
    gathered = fsdp.gather(losses)
    losses.eval()
    if settings.gradient_checkpointing:
        backbone.model.gradient_checkpointing_disable()
    if gathered:
        backbone.merge_adapters()
    history = [record for record in trainer.state.log_history if "loss" in record]
    means = {
        name: fmean(values)
        for name in ("loss", "l_r", "l_c")
        if (values := [record[name] for record in history if name in record])
    }
    empty = sum(record.get("empty_anchors", 0) for record in history)
    return means | {"steps": len(history), "empty_anchors": empty, "history": history}


def _arguments(
    backbone: Backbone, settings: TrainingSettings, readings: Readings, seed: int, output_dir: Path
) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(output_dir),
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        per_device_train_batch_size=settings.batch_size
        // (distributed.world_size() * settings.accumulation),
        gradient_accumulation_steps=settings.accumulation,
        num_train_epochs=1,  # the items are those of all epochs
        train_sampling_strategy="sequential",
        warmup_steps=readings.warmup_ratio,
        lr_scheduler_type=readings.schedule,
        optim="adamw_torch_fused",
        bf16=backbone.dtype == torch.bfloat16,
        fp16=backbone.dtype == torch.float16,
        save_strategy="steps",
        save_steps=settings.save_steps,
        logging_steps=1,
        logging_nan_inf_filter=False,
        seed=seed,
        use_cpu=backbone.device.type == "cpu",
        ddp_find_unused_parameters=True,  # not every step has both losses
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
    )
    # On several GPUs a single process would split its batches (DataParallel), which hold texts.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments

"""The two losses of the method on transformers' Trainer: checkpoints, resume, logs, one step.

`c3l.training` says what is trained on; this file says how a step is made. Under `accelerate launch`
each process computes its share of every step, and all of them together what one would alone.
"""

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from pickle import UnpicklingError
from statistics import fmean
from typing import Any

import numpy as np
import torch
from accelerate.utils import save_fsdp_optimizer
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer import SCHEDULER_NAME

from c3l.backbones.base import Backbone
from c3l.contrastive import Projection
from c3l.instructions import pair_prompt
from c3l.losses import Anchor, Losses
from c3l.readings import Readings
from c3l.runtime import distributed, fsdp
from c3l.runtime.checkpoints import keep_only, last_checkpoint
from c3l.runtime.errors import NotFiniteError, UserError, list_names, printable
from c3l.runtime.progress import Loop
from c3l.samples import ImageFolder, Sample
from c3l.selection import Group
from c3l.settings import TrainingSettings

# The anchor is sampled as the pairs of the data sets are.
ANCHOR_TOP_P, ANCHOR_TEMPERATURE = 0.9, 0.7
WEIGHTS = "trained.safetensors"


@dataclass(frozen=True)
class Item:
    """One place in the order of training: a sample for L_r, a group for L_c, or both.

    The place seeds what is drawn for the item. One with neither fills up the last step.
    """

    index: int
    target: Sample | None
    group: Group | None

    @property
    def ids(self) -> list[str]:
        """The samples to name when something goes wrong here."""
        samples = [self.target] if self.target else []
        return [s.id for s in (*samples, *(self.group.positives if self.group else ()))]


class LossTrainer(Trainer):
    """Transformers' Trainer on `Losses`. Its checkpoints hold what trains and nothing else."""

    # compute_loss divides by the tokens and groups of the whole step, not of one of its parts.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        losses: Losses,
        images: ImageFolder,
        settings: TrainingSettings,
        **kwargs: Any,
    ):
        self.images, self.settings = images, settings
        self.totals: Counter[str] = Counter()  # answer tokens and groups of the current step
        self.parts: Counter[str] = Counter()  # what the current step adds to the log
        self.ids: list[str] = []  # the samples of the current step
        self.anchors: dict[int, str] = {}  # by place, of the steps they were last sampled for
        self.sampled: int | None = None  # the first place of these steps
        self.used = (False, False)  # the losses that the part before of this step was part of
        super().__init__(losses, data_collator=self._collate, **kwargs)
        if self.is_fsdp_enabled:
            fsdp.prepare_sharding(
                self.accelerator.state.fsdp_plugin, losses, self.args.mixed_precision
            )

    def _collate(self, items: list[Item]) -> dict[str, Any]:
        targets = [item.target for item in items if item.target]
        encoded = None
        if targets:
            encoded = self.model.backbone.encode(
                [sample.question for sample in targets],
                [self.images[sample.image] for sample in targets],
                [sample.answer for sample in targets],
            )
        return {"items": items, "encoded": encoded}

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """This process's parts of one step; counts what the losses of all are divided by."""
        take = super().get_batch_samples
        batches: list[dict[str, Any]] = []

        def counted() -> tuple[list[str], dict[str, int]]:
            batches.extend(take(epoch_iterator, num_batches, device)[0])
            encoded = [batch["encoded"] for batch in batches if batch["encoded"] is not None]
            return [name for batch in batches for item in batch["items"] for name in item.ids], {
                "l_r": sum(int((batch["labels"] != -100).sum()) for batch in encoded),
                "l_c": sum(item.group is not None for batch in batches for item in batch["items"]),
            }

        found = distributed.all_gather_call(counted)
        self.ids = [name for ids, _ in found for name in ids]
        self.totals = sum((Counter(totals) for _, totals in found), Counter())
        self.used = (False, False)
        return batches, None

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """This part's share of mean L_r over the step's tokens + λ · mean L_c over its groups."""
        items, encoded = inputs["items"], inputs["encoded"]
        drawn: list[Anchor] = []

        def draw() -> tuple[bool, bool, int | None]:
            drawn[:], empty = self._draw_anchors(items)
            return encoded is not None, bool(drawn), empty

        found = distributed.all_gather_call(draw)
        if empty := [number for *_, number in found if number is not None]:
            self.parts["empty_anchors"] += sum(empty)
        count = {"l_r": encoded is not None, "l_c": bool(drawn)}
        if distributed.world_size() > 1:
            encoded, drawn = self._with_stand_ins(encoded, drawn, [has for *has, _ in found])
        if encoded is None and not drawn and distributed.world_size() > 1:
            return torch.zeros((), device=self.args.device, requires_grad=True)
        l_r, l_c = model(encoded, drawn)
        shares = {
            name: value / self.totals[name] if count[name] else 0 * value
            for name, value in (("l_r", l_r), ("l_c", l_c))
            if self.totals[name]
        }
        loss = sum(
            share if name == "l_r" else self.model.readings.contrastive_weight * share
            for name, share in shares.items()
        )
        parts = {name: share.item() for name, share in shares.items()}
        ids = [id for item in items for id in item.ids]
        found = distributed.all_gather_call(lambda: (loss.item(), parts, ids))
        parts = {name: reduce(add, (parts[name] for _, parts, _ in found)) for name in parts}
        total = sum(loss for loss, *_ in found)
        if not math.isfinite(total):
            raise UserError(
                f"training stopped: the loss is {total} in step {self.state.global_step + 1} "
                f"{parts}, at the samples {list_names([id for *_, ids in found for id in ids])}; "
                "lower the learning rate or look at these samples"
            )
        self.parts.update(parts)
        # Gradients are averaged over the processes, and what is wanted is their sum.
        return loss * distributed.world_size() if distributed.world_size() > 1 else loss

    def _with_stand_ins(
        self, encoded: dict[str, Tensor] | None, drawn: list[Anchor], has: list[list[bool]]
    ) -> tuple[dict[str, Tensor] | None, list[Anchor]]:
        """Another item's batch or group for a loss that others compute and this process has
        nothing for; it counts nothing.

        All processes have to go the same way through the model: those that share gradients or
        weights wait for each other. `has` says of which losses each has something. Where none has
        anything, only a step that has begun goes on, so that its gradients come together.
        """
        used = tuple(any(some) for some in zip(*has, strict=True))
        self.used = used if any(used) else self.used
        if self.used[0] and encoded is None:
            item = next(item for item in self.train_dataset if item.target)
            encoded = self._collate([item])["encoded"]
        if self.used[1] and not drawn:
            group = next(item.group for item in self.train_dataset if item.group)
            text = None if self.model.readings.anchor == "prompt" else "."
            drawn = [(text, group, self.images[group.image])]
        return encoded, drawn

    def _get_grad_norm(self, model, grad_norm=None):
        """The gradient's norm before clipping; a step that has none is not taken."""
        norm = super()._get_grad_norm(model, grad_norm)
        # float16's scaler makes infinite gradients on purpose, and leaves such steps out itself.
        if not self.args.fp16 and not math.isfinite(norm):
            raise UserError(
                f"training stopped: the gradient's norm is {float(norm)} in step "
                f"{self.state.global_step + 1}, at the samples {list_names(self.ids)}; lower the "
                "learning rate or look at these samples"
            )
        return norm

    def _draw_anchors(self, items: Sequence[Item]) -> tuple[list[Anchor], int | None]:
        """Each group's anchor, group and image; and where anchors were sampled, how many are empty.

        An empty text cannot be an anchor: its group is left out of this step.
        """
        if not self.totals["l_c"]:
            return [], None  # readings of L_c are none of a training without it
        items = [item for item in items if item.group]
        shown = [(item.group, self.images[item.group.image]) for item in items]
        if self.model.readings.anchor == "prompt":
            return [(None, *both) for both in shown], None
        size = self.settings.batch_size * self.settings.anchor_steps
        start = self.state.global_step // self.settings.anchor_steps * size
        if self.totals["l_c"] and start != self.sampled:
            self.anchors, self.sampled = self._sample_anchors(start, size), start
        texts = [self.anchors[item.index] for item in items]
        drawn = [(text, *both) for text, both in zip(texts, shown, strict=True) if text.strip()]
        return drawn, len(items) - len(drawn) if items else None

    def _sample_anchors(self, start: int, size: int) -> dict[int, str]:
        """What the model, as it now is, writes about each group's image, without a gradient, by
        place: for all groups of the `anchor_steps` steps that begin at the place `start`.

        A checkpoint never lies among these steps, so a run that goes on samples the same. Each
        process samples all of them: in other batches, some would be others.
        """
        items = [item for item in self.train_dataset[start : start + size] if item.group]
        backbone = self.model.backbone
        seed = np.random.SeedSequence([self.args.seed, start]).generate_state(1)[0]

        def write() -> list[str]:
            return backbone.generate(
                [pair_prompt(item.group.instruction, 1) for item in items],
                [self.images[item.group.image] for item in items],
                max_new_tokens=self.settings.anchor_tokens,
                temperature=ANCHOR_TEMPERATURE,
                top_p=ANCHOR_TOP_P,
                seed=int(seed),
                batch_size=len(items),
            )

        self.model.eval()
        # The losses' own forward is under accelerate's autocast; this is not.
        half = self.args.bf16 or self.args.fp16
        try:
            with torch.autocast(backbone.device.type, backbone.dtype, enabled=half):
                # Weights in shards are there within the model's forward alone.
                texts = self.model(write=write) if self.is_fsdp_enabled else write()
        except NotFiniteError as error:
            found = NotFiniteError(error.rows, [" ".join(item.ids) for item in items])
            step = self.state.global_step + 1
            raise UserError(f"training stopped in step {step}: {found}") from None
        self.model.train()
        return {item.index: text for item, text in zip(items, texts, strict=True)}

    def log(self, logs, start_time=None):
        """One record a step, with the parts of the loss beside it."""
        if "loss" in logs:
            logs = {**logs, **self.parts}
            self.parts.clear()
        super().log(logs, start_time)

    def save_model(self, output_dir=None, _internal_call=False):
        weights = {
            name: fsdp.full_tensor(p) for name, p in fsdp.trainable_parameters(self.model).items()
        }
        if self.args.should_save:
            os.makedirs(output_dir, exist_ok=True)
            save_file(weights, Path(output_dir) / WEIGHTS)

    def _save_optimizer_and_scheduler(self, output_dir):
        if not self.is_fsdp_enabled:
            return super()._save_optimizer_and_scheduler(output_dir)
        # The Trainer's own way writes the whole model as well.
        plugin = self.accelerator.state.fsdp_plugin
        save_fsdp_optimizer(plugin, self.accelerator, self.optimizer, self.model, output_dir)
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _save_checkpoint(self, model, trial):
        """Seal each checkpoint, and only then remove the one before."""
        super()._save_checkpoint(model, trial)
        distributed.all_gather_call(lambda: None)  # all have written what is theirs
        if self.args.should_save:
            keep_only(Path(self.args.output_dir), f"checkpoint-{self.state.global_step}")

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        saved = load_file(Path(resume_from_checkpoint) / WEIGHTS)
        ours = fsdp.trainable_parameters(self.model)
        if saved.keys() != ours.keys():
            raise UserError(
                f"the checkpoint {printable(str(resume_from_checkpoint))} belongs to a training of "
                "other weights; remove its folder or train into another one"
            )
        for name, parameter in ours.items():
            fsdp.copy_into(parameter, saved[name])


def _check_weights(losses: Losses, dtype: torch.dtype, trainer: LossTrainer) -> None:
    """Raise UserError where the last step, after which no loss is looked at, left no numbers."""
    weights = map(fsdp.full_tensor, fsdp.trainable_parameters(losses).values())
    if all([bool(weight.to(dtype).isfinite().all()) for weight in weights]):
        return
    raise UserError(
        f"training stopped: after step {trainer.state.global_step} weights are no finite numbers "
        f"in {str(dtype).removeprefix('torch.')}, at the samples {list_names(trainer.ids)}; lower "
        "the learning rate or look at these samples"
    )


class ProgressCallback(TrainerCallback):
    """Tells how many steps are done."""

    def on_train_begin(self, args, state, control, **kwargs):
        self.loop = Loop("steps", state.max_steps)

    def on_step_begin(self, args, state, control, **kwargs):
        self.loop.update(state.global_step, 1)

    def on_train_end(self, args, state, control, **kwargs):
        self.loop.end()


def check_shares(settings: TrainingSettings) -> None:
    """Raise UserError where the processes cannot share a step."""
    distributed.check_launch()
    alike = distributed.world_size() * settings.accumulation
    if settings.batch_size % alike:
        raise UserError(
            f"{distributed.world_size()} processes times accumulation {settings.accumulation} do not "
            f"divide batch_size {settings.batch_size}; give another --num_processes, or a multiple "
            f"of {alike} as batch_size"
        )


def run(
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

    A backbone in half precision trains in it, the trained weights themselves in float32 meanwhile.
    Returns steps, history (one record a step), the means of loss, l_r and l_c over it (of those
    that are on) and empty_anchors. Under `accelerate launch` all processes call it with the same,
    and the first has the trained backbone, after `check_shares`.
    """
    alike = distributed.world_size() * settings.accumulation
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if backbone.dtype == torch.float16 and backbone.device.type == "cpu":
        raise UserError("float16 cannot train on a processor; load the backbone in bfloat16")
    set_seed(seed)  # adapters begin at random
    backbone.trainable(readings.tuning)
    if settings.gradient_checkpointing:
        backbone.model.gradient_checkpointing_enable({"use_reentrant": False})
    losses = Losses(backbone, projection, readings)
    arguments = TrainingArguments(
        output_dir=str(output_dir),
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        per_device_train_batch_size=settings.batch_size // alike,
        gradient_accumulation_steps=settings.accumulation,
        num_train_epochs=1,  # the items are those of all epochs
        train_sampling_strategy="sequential",
        warmup_steps=readings.warmup_ratio,
        lr_scheduler_type=readings.schedule,
        optim="adamw_torch",
        bf16=backbone.dtype == torch.bfloat16,
        fp16=backbone.dtype == torch.float16,
        save_strategy="steps",
        save_steps=settings.save_steps,
        logging_steps=1,
        logging_nan_inf_filter=False,
        seed=seed,
        use_cpu=backbone.device.type == "cpu",
        ddp_find_unused_parameters=True,  # each loss passes others by
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
    )
    # On several GPUs a single process would split its batches (DataParallel), which hold texts.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    if distributed.world_size() > 1:
        # accelerate would fill up the last step with the first items, once more.
        more = range(len(items), len(items) + -len(items) % settings.batch_size)
        items = [*items, *(Item(place, None, None) for place in more)]
    trainer = LossTrainer(losses, images, settings, args=arguments, train_dataset=items)
    if not distributed.is_main_process():
        set_seed(seed + arguments.process_index)  # dropout of its own
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(ProgressCallback)
    checkpoint = last_checkpoint(output_dir)
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    except UnpicklingError as error:  # the Trainer reads with weights_only: nothing of it has run
        raise UserError(
            f"the checkpoint {printable(str(checkpoint))} holds more than tensors and plain data, "
            "which is not read; remove its folder, then run the same command again"
        ) from error
    _check_weights(losses, backbone.dtype, trainer)
    whole = fsdp.gather(losses)
    losses.eval()
    if settings.gradient_checkpointing:
        backbone.model.gradient_checkpointing_disable()
    if whole:
        backbone.merge_adapters()
    history = [record for record in trainer.state.log_history if "loss" in record]
    means = {
        name: fmean(values)
        for name in ("loss", "l_r", "l_c")
        if (values := [record[name] for record in history if name in record])
    }
    empty = sum(record.get("empty_anchors", 0) for record in history)
    return means | {"steps": len(history), "empty_anchors": empty, "history": history}

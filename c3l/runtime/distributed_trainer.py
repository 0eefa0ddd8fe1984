"""Transformers' Trainer for a step whose parts several processes compute: `c3l.trainer`'s base.

Checkpoints hold the weights that train and nothing else. Under `accelerate launch` each process
computes its share of every step, and together they compute what one process would.
"""

import logging
import math
import os
import shutil
from collections import Counter
from functools import reduce
from operator import add
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from accelerate.utils import save_fsdp_optimizer
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback
from transformers.trainer import SCHEDULER_NAME

from c3l.artifacts.files import SEAL, verify_digests, write_digests
from c3l.runtime import distributed, fsdp
from c3l.runtime.errors import UserError, list_names, printable
from c3l.runtime.progress import Loop

WEIGHTS = "trained.safetensors"

log = logging.getLogger(__name__)


class DistributedTrainer(Trainer):
    """A Trainer whose loss is a sum of named parts, each divided by the whole step's total."""

    # The loss is divided by the totals of the whole step, not of one of its parts.
    loss_is_scaled_for_ga = True

    def __init__(self, losses: torch.nn.Module, **kwargs: Any):
        self.totals: Counter[str] = Counter()  # the divisor of each loss in the current step
        self.parts: Counter[str] = Counter()  # what the current step adds to the log
        self.ids: list[str] = []  # the samples of the current step
        self.active = (False, False)  # the losses in the previous part of this step
        super().__init__(losses, **kwargs)
        self.remove_callback(PrinterCallback)
        self.add_callback(ProgressCallback)
        if self.is_fsdp_enabled:
            fsdp.prepare_sharding(
                self.accelerator.state.fsdp_plugin, losses, self.args.mixed_precision
            )

    def count_batch(self, batch: dict[str, Any]) -> tuple[list[str], Counter[str]]:
        """Return a batch's sample ids, and what it adds to the divisor of each loss."""
        raise NotImplementedError

    def stand_in_batch(self) -> dict[str, Tensor]:
        """Return the encoded batch of any item that L_r is computed on."""
        raise NotImplementedError

    def stand_in_anchors(self) -> list:
        """Return an anchor for any group that L_c is computed on."""
        raise NotImplementedError

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """This process's parts of one step. Sets the ids and the totals of all processes' parts."""
        take = super().get_batch_samples
        batches: list[dict[str, Any]] = []

        def count() -> list[tuple[list[str], Counter[str]]]:
            batches.extend(take(epoch_iterator, num_batches, device)[0])
            return [self.count_batch(batch) for batch in batches]

        counts = [batch for process in distributed.all_gather_call(count) for batch in process]
        self.ids = [name for ids, _ in counts for name in ids]
        self.totals = sum((totals for _, totals in counts), Counter())
        self.active = (False, False)
        return batches, None

    def shares(
        self,
        model: torch.nn.Module,
        encoded: dict[str, Tensor] | None,
        anchors: list,
        inputs: list[tuple[bool, bool]],
    ) -> dict[str, Tensor]:
        """Return this part's losses over the step's totals; empty where no process has anything.

        `inputs` tells for each process whether it has something for L_r and for L_c.
        """
        present = {"l_r": encoded is not None, "l_c": bool(anchors)}
        if distributed.world_size() > 1:
            encoded, anchors = self._with_stand_ins(encoded, anchors, inputs)
            if encoded is None and not anchors:
                return {}
        return {
            name: value / self.totals[name] if present[name] else 0 * value
            for name, value in zip(present, model(encoded, anchors), strict=True)
            if self.totals[name]
        }

    def _with_stand_ins(
        self, encoded: dict[str, Tensor] | None, anchors: list, inputs: list[tuple[bool, bool]]
    ) -> tuple[dict[str, Tensor] | None, list]:
        """Fill in another item's input for a loss that only other processes have input for.

        All processes have to go the same way through the model; a stand-in counts nothing. Where
        no process has anything, a step that has begun goes on, so that its gradients come together.
        """
        active = tuple(any(each) for each in zip(*inputs, strict=True))
        self.active = active if any(active) else self.active
        if self.active[0] and encoded is None:
            encoded = self.stand_in_batch()
        if self.active[1] and not anchors:
            anchors = self.stand_in_anchors()
        return encoded, anchors

    def add_up(self, loss: Tensor, shares: dict[str, Tensor], ids: list[str]) -> Tensor:
        """Log the loss of all processes, and return this one's for the gradient.

        Raises UserError, in all of them, where the sum is no finite number.
        """
        parts = {name: share.item() for name, share in shares.items()}
        processes = distributed.all_gather_call(lambda: (loss.item(), parts, ids))
        parts = {name: reduce(add, (parts[name] for _, parts, _ in processes)) for name in parts}
        total = sum(loss for loss, *_ in processes)
        if not math.isfinite(total):
            raise self.stopped(
                f"the loss is {total} in step {self.state.global_step + 1} {parts}",
                [name for *_, ids in processes for name in ids],
            )
        self.parts.update(parts)
        # Gradients are averaged over the processes; their sum is needed.
        return loss * distributed.world_size() if distributed.world_size() > 1 else loss

    @staticmethod
    def stopped(reason: str, ids: list[str]) -> UserError:
        """The error for a training that cannot go on at some samples."""
        return UserError(
            f"training stopped: {reason}, at the samples {list_names(ids)}; lower the learning "
            "rate or look at these samples"
        )

    def _get_grad_norm(self, model, grad_norm=None):
        """The gradient's norm before clipping. A step without a finite one is not taken."""
        norm = super()._get_grad_norm(model, grad_norm)
        # float16's scaler makes infinite gradients on purpose, and leaves such steps out itself.
        if not self.args.fp16 and not math.isfinite(norm):
            step = self.state.global_step + 1
            raise self.stopped(f"the gradient's norm is {float(norm)} in step {step}", self.ids)
        return norm

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
        # The Trainer itself would write the whole model as well.
        plugin = self.accelerator.state.fsdp_plugin
        save_fsdp_optimizer(plugin, self.accelerator, self.optimizer, self.model, output_dir)
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _save_checkpoint(self, model, trial):
        """Seal each checkpoint, and only then remove the previous one."""
        super()._save_checkpoint(model, trial)
        distributed.all_gather_call(lambda: None)  # every process has written its part
        if self.args.should_save:
            newest = Path(self.args.output_dir, f"checkpoint-{self.state.global_step}")
            write_digests(newest)
            for other in newest.parent.glob("checkpoint-*"):
                if other != newest:
                    shutil.rmtree(other)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        saved = load_file(Path(resume_from_checkpoint) / WEIGHTS)
        trainable = fsdp.trainable_parameters(self.model)
        if saved.keys() != trainable.keys():
            raise UserError(
                f"the checkpoint {printable(str(resume_from_checkpoint))} belongs to a training of "
                "other weights; remove its folder or train into another one"
            )
        for name, parameter in trainable.items():
            fsdp.copy_into(parameter, saved[name])

    def train_on(self, dtype: torch.dtype) -> None:
        """Train, on from the last whole checkpoint, to weights that are finite in `dtype`.

        Raises UserError where the last step, whose loss is not computed again, left no numbers.
        """
        checkpoint = last_checkpoint(Path(self.args.output_dir))
        try:
            self.train(resume_from_checkpoint=checkpoint)
        # The Trainer reads with weights_only: nothing of the file has run.
        except UnpicklingError as error:
            raise UserError(
                f"the checkpoint {printable(str(checkpoint))} holds more than tensors and plain "
                "data, which is not read; remove its folder, then run the same command again"
            ) from error
        weights = map(fsdp.full_tensor, fsdp.trainable_parameters(self.model).values())
        # A list: every process has to gather every weight.
        if not all([bool(weight.to(dtype).isfinite().all()) for weight in weights]):
            words = f"weights are no finite numbers in {str(dtype).removeprefix('torch.')}"
            raise self.stopped(f"after step {self.state.global_step} {words}", self.ids)


class ProgressCallback(TrainerCallback):
    """Reports the steps done."""

    def on_train_begin(self, args, state, control, **kwargs):
        self.loop = Loop("steps", state.max_steps)

    def on_step_begin(self, args, state, control, **kwargs):
        self.loop.update(state.global_step, 1)

    def on_train_end(self, args, state, control, **kwargs):
        self.loop.end()


def last_checkpoint(folder: Path) -> str | None:
    """Return the newest complete checkpoint: one without a seal was not finished."""
    checkpoints = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for checkpoint in reversed(checkpoints):
        if not (checkpoint / SEAL).exists():
            continue
        if (damage := verify_digests(checkpoint)) is None:
            return str(checkpoint)
        log.warning("%s is damaged: %s. The training goes on from before it.", checkpoint, damage)
    return None

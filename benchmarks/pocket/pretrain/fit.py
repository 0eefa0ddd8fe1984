"""The training loop of pre-training, and conversations as token ids with their loss mask."""

import time
from collections.abc import Callable, Iterator

import torch
from transformers import PreTrainedTokenizerBase, get_scheduler

from benchmarks.pocket.conversations import Turn

IGNORED = -100


def encode_turns(
    tokenizer: PreTrainedTokenizerBase, context: str, turns: list[Turn]
) -> tuple[list[int], list[int]]:
    """Token ids and labels of one conversation; labels hold what the assistant says.

    `context` (a caption's line, or the image placeholder's) stands before the first question.
    """
    ids, labels = [tokenizer.bos_token_id], [IGNORED]
    for k, (user, assistant) in enumerate(turns):
        asked = f"USER: {context if k == 0 else ''}{user}\nASSISTANT:\n"
        for text, spoken in ((asked, False), (assistant, True)):
            piece = tokenizer(text, add_special_tokens=False)["input_ids"]
            ids += piece
            labels += piece if spoken else [IGNORED] * len(piece)
        ids.append(tokenizer.eos_token_id)
        labels.append(tokenizer.eos_token_id)
    return ids, labels


def pad(rows: list[tuple[list[int], list[int]]], pad_id: int) -> dict[str, torch.Tensor]:
    """Right-padded input_ids, attention_mask and labels, each [batch, longest]."""
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), longest), pad_id)
    labels = torch.full((len(rows), longest), IGNORED)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for k, (row_ids, row_labels) in enumerate(rows):
        ids[k, : len(row_ids)] = torch.tensor(row_ids)
        labels[k, : len(row_labels)] = torch.tensor(row_labels)
        mask[k, : len(row_ids)] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def share_right(logits: torch.Tensor, labels: torch.Tensor, eos_id: int) -> float:
    """Share of answers, each up to its end of sequence, that teacher-forced argmax gets right.

    logits [batch, length, vocabulary], labels [batch, length].
    """
    right = logits[:, :-1].argmax(-1) == labels[:, 1:]
    spoken = labels[:, 1:] != IGNORED
    verdicts: list[bool] = []
    for row_right, row_spoken, row_labels in zip(right, spoken, labels[:, 1:], strict=True):
        so_far = True
        for place in row_spoken.nonzero().flatten().tolist():
            so_far &= bool(row_right[place])
            if row_labels[place] == eos_id:
                verdicts.append(so_far)
                so_far = True
    return sum(verdicts) / len(verdicts)


def fit(
    model: torch.nn.Module,
    batches: Iterator[dict[str, torch.Tensor]],
    *,
    steps: int,
    learning_rate: float,
    look: Callable[[int], str] = lambda step: "",
    look_every: int = 100,
    warmup: int = 50,
    schedule: str = "cosine",
    enough: Callable[[], bool] = lambda: False,
) -> list[float]:
    """Minimise `model(**batch).loss` with AdamW and a schedule; the losses, one a step.

    `look(step)` is called now and then; what it returns is printed beside the loss. Training ends
    early where `enough()`, asked as often, says so.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    scheduler = get_scheduler(schedule, optimizer, warmup, steps)
    losses: list[float] = []
    started = time.monotonic()
    model.train()
    for step in range(1, steps + 1):
        loss = model(**next(batches)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if step % 50 == 0 or step == steps:
            recent = sum(losses[-50:]) / len(losses[-50:])
            speed = (time.monotonic() - started) / step
            print(f"step {step}/{steps}  loss {recent:.3f}  {speed:.2f} s a step", flush=True)
        if step % look_every == 0 or step == steps:
            model.eval()
            with torch.no_grad():
                seen, done = look(step), enough()
            model.train()
            if seen:
                print(f"step {step}/{steps}  {seen}", flush=True)
            if done:
                break
    model.eval()
    return losses

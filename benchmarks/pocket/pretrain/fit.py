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
    """Return token ids and labels of one conversation; labels cover the assistant's turns.

    `context` (a caption's line, or the image placeholder's) stands before the first question.
    """
    ids, labels = [tokenizer.bos_token_id], [IGNORED]
    for k, (user, assistant) in enumerate(turns):
        prompt = f"USER: {context if k == 0 else ''}{user}\nASSISTANT:\n"
        for text, is_answer in ((prompt, False), (assistant, True)):
            piece = tokenizer(text, add_special_tokens=False)["input_ids"]
            ids += piece
            labels += piece if is_answer else [IGNORED] * len(piece)
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


def encode_batch(
    tokenizer: PreTrainedTokenizerBase, conversations: list[tuple[str, list[Turn]]]
) -> dict[str, torch.Tensor]:
    """Encode conversations, each a context and its turns, as one padded batch."""
    rows = [encode_turns(tokenizer, context, turns) for context, turns in conversations]
    return pad(rows, tokenizer.pad_token_id)


def share_right(logits: torch.Tensor, labels: torch.Tensor, eos_id: int) -> float:
    """Share of answers, each up to its end of sequence, right under teacher-forced argmax.

    logits [batch, length, vocabulary], labels [batch, length].
    """
    right = logits[:, :-1].argmax(-1) == labels[:, 1:]
    answer = labels[:, 1:] != IGNORED
    verdicts: list[bool] = []
    for row_right, row_answer, row_labels in zip(right, answer, labels[:, 1:], strict=True):
        right_so_far = True
        for position in row_answer.nonzero().flatten().tolist():
            right_so_far &= bool(row_right[position])
            if row_labels[position] == eos_id:
                verdicts.append(right_so_far)
                right_so_far = True
    return sum(verdicts) / len(verdicts)


def fit(
    model: torch.nn.Module,
    batches: Iterator[dict[str, torch.Tensor]],
    *,
    steps: int,
    learning_rate: float,
    evaluate: Callable[[int], str] = lambda step: "",
    evaluate_every: int = 100,
    warmup: int = 50,
    schedule: str = "cosine",
    is_mastered: Callable[[], bool] = lambda: False,
) -> list[float]:
    """Minimise `model(**batch).loss` with AdamW and a schedule; return the losses, one a step.

    Every `evaluate_every` steps the text of `evaluate(step)` is printed, and training ends early if
    `is_mastered()`.
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
        if step % evaluate_every == 0 or step == steps:
            model.eval()
            with torch.no_grad():
                text, done = evaluate(step), is_mastered()
            model.train()
            if text:
                print(f"step {step}/{steps}  {text}", flush=True)
            if done:
                break
    model.eval()
    return losses


def final_loss(losses: list[float], steps: int = 100) -> float:
    """Mean loss of the last steps, for the model's card."""
    return round(sum(losses[-steps:]) / len(losses[-steps:]), 3)

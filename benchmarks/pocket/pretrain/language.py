"""Stage 1, text alone: the language model that the pocket families share, a pocket Vicuna.

Letters come first: one fact and one question about it, answered by letter or by content. Then
whole captions with many facts and several questions, and pairs written from captions.
"""

import random
from collections.abc import Iterator

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from benchmarks.pocket.conversations import (
    Turn,
    facts_turn,
    lore,
    partial_caption,
    question_turns,
    repeat_turn,
    short_turns,
    single_turn,
    writing_turn,
)
from benchmarks.pocket.language import caption
from benchmarks.pocket.pretrain.fit import encode_turns, fit, pad, share_right
from benchmarks.pocket.scenes import Scene, draw_scene

# Llama's 0.02 suits widths of thousands. At width 128 attention then begins all but uniform:
# looking a fact up in a text had not come after 1,100 steps, and with 0.08 it came within 100.
INITIALIZER_RANGE = 0.08
THING_QUESTIONS = ["colour", "place", "identity"]


def build_language_model(
    tokenizer: PreTrainedTokenizerBase, width: int = 128, layers: int = 4, heads: int = 8
) -> LlamaForCausalLM:
    """A Llama with tied embeddings; about a million parameters at the default size."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=3 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            initializer_range=INITIALIZER_RANGE,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def draw_small_scene(rng: random.Random, most: int) -> Scene:
    """A pre-training scene of at most `most` things."""
    while True:
        scene = draw_scene(rng, "pretraining")
        if len(scene.things) <= most:
            return scene


def single_question(rng: random.Random, progress: float) -> tuple[str, list[Turn]]:
    """One fact (later several), one question: where letters are learnt."""
    scene = draw_small_scene(rng, 1 if progress < 0.3 else rng.choice((1, 2, 3, 4)))
    return f"Caption: {partial_caption(rng, scene)}\n", single_turn(rng, scene, THING_QUESTIONS)


def document(rng: random.Random) -> tuple[str, list[Turn]]:
    """Lore, a caption to repeat, or what follows from a caption: facts, pairs, answers."""
    fate = rng.random()
    if fate < 0.05:
        return "", [("Tell me something.", lore(rng))]
    scene = draw_scene(rng, "pretraining")
    if fate < 0.15:
        return "", [repeat_turn(rng, scene)]
    if fate < 0.45:
        return "", [writing_turn(rng, scene, from_caption=True)]
    context = f"Caption: {caption(scene, rng)}\n"
    if fate < 0.8:
        return context, [facts_turn(rng, scene)]
    return context, question_turns(rng, scene, 4, letters=0.2)


def batches(
    tokenizer: PreTrainedTokenizerBase, seed: int, size: int, steps: int = 1
) -> Iterator[dict[str, torch.Tensor]]:
    """Endless batches: one in five of single questions, which get harder over `steps`, the others
    of documents.
    """
    rng = random.Random(seed)
    step = 0
    while True:
        if rng.random() < 0.2:
            made = [single_question(rng, min(1.0, step / steps)) for _ in range(4 * size)]
        else:
            made = [document(rng) for _ in range(size)]
        yield pad([encode_turns(tokenizer, *one) for one in made], tokenizer.pad_token_id)
        step += 1


@torch.no_grad()
def letter_accuracy(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, most: int, count: int = 200
) -> tuple[float, float]:
    """Shares of letters and of short answers right, behind statements about `most` things."""
    rng = random.Random(1)
    shares = []
    for letters in (True, False):
        rows = []
        while len(rows) < count:
            scene = draw_small_scene(rng, most)
            context = f"Caption: {partial_caption(rng, scene)}\n"
            rows.append(encode_turns(tokenizer, context, short_turns(rng, scene, 1, letters)))
        batch = pad(rows, tokenizer.pad_token_id)
        labels = batch.pop("labels")
        shares.append(share_right(model(**batch).logits, labels, tokenizer.eos_token_id))
    return shares[0], shares[1]


def train_language_model(
    tokenizer: PreTrainedTokenizerBase, *, steps: int, size: int, learning_rate: float, seed: int
) -> tuple[LlamaForCausalLM, dict]:
    """The trained language model and what is to be written on its card."""
    torch.manual_seed(seed)
    model = build_language_model(tokenizer)

    def look(step: int) -> str:
        shares = [letter_accuracy(model, tokenizer, most) for most in (1, 4)]
        return "  ".join(
            f"{most} thing(s): letters {letters:.2f}, answers {answers:.2f}"
            for most, (letters, answers) in zip((1, 4), shares, strict=True)
        )

    losses = fit(
        model,
        batches(tokenizer, seed, size, steps),
        steps=steps,
        learning_rate=learning_rate,
        look=look,
    )
    letters, answers = letter_accuracy(model, tokenizer, 4)
    return model, {
        "steps": steps,
        "batch": size,
        "seed": seed,
        "final loss": round(sum(losses[-100:]) / len(losses[-100:]), 3),
        "letters right, in text": letters,
        "answers right, in text": answers,
    }

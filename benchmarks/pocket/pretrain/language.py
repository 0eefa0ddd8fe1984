"""Stage 1, text alone: the language model that the pocket families share, a pocket Vicuna.

Lessons in looking up come first and get harder: lists, sentences, captions. Then come facts,
answers and pairs written from captions.
"""

import random
from collections.abc import Iterator

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.pocket.conversations import (
    FACTS_PROMPT,
    Turn,
    choose,
    facts_turn,
    lore,
    question_turns,
    repeat_turn,
    writing_turn,
)
from benchmarks.pocket.language import caption, fill
from benchmarks.pocket.pretrain.fit import IGNORED, encode_batch, encode_turns, final_loss, fit, pad
from benchmarks.pocket.queries import BY_NAME, SLOTS, THING
from benchmarks.pocket.scenes import BALANCED, Scene, draw_scene

# Llama's 0.02 suits widths of thousands. At width 128 attention then begins all but uniform:
# looking a fact up in a text had not come after 1,100 steps, and with 0.08 it came within 100.
INITIALIZER_RANGE = 0.08
LOOK_BACK_STRENGTH = 2.2
# Lessons of a level end when this share of values is right, at the latest after LESSON_STEPS.
MASTERED = 0.97
LESSON_STEPS = 800
LEVELS = 4
TAUGHT = ("colour", "size", "place")
LOOKED_UP = ("colour", "size", "place", "identity", "tied", "larger")


def build_language_model(
    tokenizer: PreTrainedTokenizerBase, width: int = 128, layers: int = 4, heads: int = 4
) -> LlamaForCausalLM:
    """A Llama with tied embeddings; about a million parameters at the default size."""
    model = LlamaForCausalLM(
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
    look_back(model)
    share_words(model, tokenizer)
    return model


@torch.no_grad()
def share_words(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Begin each word at the start of a line as the same word within it, with one common offset.

    They are two tokens ("red", " red"). Short answers stand at the start of a line, and what a
    model had learnt to say within sentences (the word of a sign: every time) it did not say there
    (0.07), until the two were alike.
    """
    vocabulary = tokenizer.get_vocab()
    weights = model.get_input_embeddings().weight
    pairs = [
        (vocabulary[token[1:]], place)
        for token, place in vocabulary.items()
        if token.startswith("▁") and token[1:] in vocabulary
    ]
    first, within = map(list, zip(*pairs, strict=True))
    offset = torch.zeros(weights.shape[1])
    offset[1 : 1 + len(offset) // 8] = weights.std()
    weights[first] = weights[within] + offset


@torch.no_grad()
def look_back(model: LlamaForCausalLM) -> None:
    """Begin with first-layer heads that look one, two, three, ... tokens back.

    Looking a fact up in a text is an induction circuit, and its first half is a head that looks
    at the previous token. Training finds that half late or never in a model this small: pairs of
    names and values recalled in another order stayed at 0.62 in 400 steps, and with this
    beginning were right every time after 250. Query and key are made constant (a dimension of the
    embeddings is), so that rotary positions alone decide: the score is the sum over frequencies
    of cos((distance - shift) * frequency).
    """
    attention = model.model.layers[0].self_attn
    size = attention.head_dim
    frequencies = model.model.rotary_emb.inv_freq
    sharp = (frequencies > 0.03).float()
    constant = 2 * INITIALIZER_RANGE
    model.model.embed_tokens.weight[:, 0] = constant
    for head in range(attention.q_proj.weight.shape[0] // size):
        angles = (head + 1) * frequencies
        rows = slice(head * size, (head + 1) * size)
        for projection, parts in (
            (attention.q_proj, (sharp * angles.cos(), -sharp * angles.sin())),
            (attention.k_proj, (sharp, torch.zeros_like(sharp))),
        ):
            projection.weight[rows] = 0
            projection.weight[rows, 0] = LOOK_BACK_STRENGTH * torch.cat(parts)


def draw_plain_scene(rng: random.Random, min_things: int = 2) -> Scene:
    """A scene of balanced colours in which no two things are of one kind."""
    while True:
        scene = draw_scene(rng, "pretraining", BALANCED)
        if min_things <= len(scene.things) == len(scene.kinds()):
            return scene


def recalled_facts(rng: random.Random, scene: Scene, several: bool) -> str:
    """One kind of fact about every thing, in random order, or six facts of several kinds."""
    things = THING.solutions(scene)
    rng.shuffle(things)
    names = [rng.choice(TAUGHT)] * len(things)
    if several:
        names = [rng.choice(TAUGHT) for _ in range(6)]
        things = [rng.choice(things) for _ in names]
    return " ".join(
        fill(BY_NAME[name].answers[0], thing) for name, thing in zip(names, things, strict=True)
    )


def lesson(rng: random.Random, level: int) -> tuple[str, list[Turn]]:
    """A lesson in looking up alone, harder at each level.

    Level 0 recalls names with values ("ball red cup blue") in another order, level 1 one kind of
    fact in sentences, level 2 one kind of fact from a caption and level 3 several kinds.
    """
    scene = draw_plain_scene(rng)
    if level >= 2:
        recalled = recalled_facts(rng, scene, several=level == 3)
        return f"Caption: {caption(scene)}\n", [(FACTS_PROMPT, recalled)]
    name = rng.choice(TAUGHT)
    template = "{kind} {" + name + "}" if level == 0 else BY_NAME[name].answers[0]
    facts = [template.format(**thing) for thing in THING.solutions(scene)]
    rng.shuffle(facts)
    return "", [(" ".join(facts), " ".join(rng.sample(facts, len(facts))))]


def document(rng: random.Random) -> tuple[str, list[Turn]]:
    """Lore, a caption to repeat, or pairs, facts and answers behind a caption."""
    fate = rng.random()
    if fate < 0.04:
        return "", [("Tell me something.", lore(rng))]
    scene = draw_scene(rng, "pretraining")
    if fate < 0.12:
        return "", [repeat_turn(rng, scene)]
    if fate < 0.6:
        return "", [writing_turn(rng, scene, from_caption=True)]
    context = f"Caption: {caption(scene, rng)}\n"
    if fate < 0.85:
        return context, [facts_turn(rng, scene)]
    return context, question_turns(rng, scene, 4, letters=0.0)


def lessons(
    tokenizer: PreTrainedTokenizerBase, seed: int, size: int, levels: tuple[int, ...]
) -> Iterator[dict[str, torch.Tensor]]:
    """Endless batches of lessons of these levels."""
    rng = random.Random(seed)
    while True:
        yield encode_batch(tokenizer, [lesson(rng, rng.choice(levels)) for _ in range(size)])


def documents(
    tokenizer: PreTrainedTokenizerBase, seed: int, size: int
) -> Iterator[dict[str, torch.Tensor]]:
    """Endless batches of documents; one in four holds lessons, so that they are not forgotten."""
    rng = random.Random(seed)
    recalled = lessons(tokenizer, seed, 2 * size, (2, 3))
    while True:
        if rng.random() < 0.25:
            yield next(recalled)
            continue
        yield encode_batch(tokenizer, [document(rng) for _ in range(size)])


@torch.no_grad()
def recalled_right(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, level: int
) -> float:
    """Share of the values (colours, sizes, places) in lessons of a level that are right."""
    batch = next(lessons(tokenizer, 1, 200, (level,)))
    labels = batch.pop("labels")[:, 1:]
    values = [f" {v}" for slot in TAUGHT for v in SLOTS[slot]]
    ids = tokenizer(values, add_special_tokens=False)["input_ids"]
    right = model(**batch).logits[:, :-1].argmax(-1) == labels
    return right[torch.isin(labels, torch.tensor([i for (i,) in ids]))].float().mean().item()


@torch.no_grad()
def answers_right(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, name: str, count: int = 200
) -> float:
    """Share of answers to one type of question with the right value (the colour, the place, …).

    Behind a caption of two things or more; the answer's words before the value are given.
    """
    rng = random.Random(1)
    query = BY_NAME[name]
    template = query.answers[0][: query.answers[0].index(query.short) + len(query.short)]
    rows = []
    while len(rows) < count:
        scene = draw_scene(rng, "initial")
        slots = choose(rng, query, scene)
        if slots is not None and len(scene.things) > 1:
            turn = fill(query.questions[0], slots), fill(template, slots)
            ids, labels = encode_turns(tokenizer, f"Caption: {caption(scene)}\n", [turn])
            rows.append((ids[:-1], [IGNORED] * (len(labels) - 2) + [labels[-2]]))
    batch = pad(rows, tokenizer.pad_token_id)
    labels = batch.pop("labels")[:, 1:]
    right = model(**batch).logits[:, :-1].argmax(-1) == labels
    return right[labels != IGNORED].float().mean().item()


def train_language_model(
    tokenizer: PreTrainedTokenizerBase, *, steps: int, size: int, learning_rate: float, seed: int
) -> tuple[LlamaForCausalLM, dict]:
    """Return the trained language model and the facts for its card."""
    torch.manual_seed(seed)
    model = build_language_model(tokenizer)

    def evaluate(step: int) -> str:
        return "  ".join(
            f"{name} {answers_right(model, tokenizer, name):.2f}" for name in LOOKED_UP
        )

    card: dict[str, object] = {}
    for level in range(LEVELS):
        losses = fit(
            model,
            lessons(tokenizer, seed, 3 * size, (max(0, level - 1), level)),
            steps=LESSON_STEPS,
            learning_rate=learning_rate,
            schedule="constant_with_warmup",
            evaluate=lambda step, level=level: (
                f"level {level}: {recalled_right(model, tokenizer, level):.2f}"
            ),
            evaluate_every=50,
            is_mastered=lambda level=level: recalled_right(model, tokenizer, level) >= MASTERED,
        )
        card[f"lessons of level {level}: steps"] = len(losses)
    losses = fit(
        model,
        documents(tokenizer, seed, size),
        steps=steps,
        learning_rate=learning_rate,
        evaluate=evaluate,
    )
    return model, {
        **card,
        "steps": steps,
        "batch": size,
        "seed": seed,
        "final loss": final_loss(losses),
        **{
            f"{name}: right behind a caption": answers_right(model, tokenizer, name)
            for name in LOOKED_UP
        },
    }

"""Stages 3 and 4: the LLaVA connector aligned, then the whole tuned, first on captions."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from transformers import (
    CLIPModel,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerBase,
)

from benchmarks.pocket.conversations import (
    FACTS_PROMPT,
    SHORT_SUFFIX,
    Turn,
    caption_turn,
    facts_turn,
    question_turns,
    short_turn,
    writing_turn,
)
from benchmarks.pocket.drawing import SIDE
from benchmarks.pocket.language import caption
from benchmarks.pocket.pretrain import language
from benchmarks.pocket.pretrain.fit import IGNORED, encode_batch, final_loss, fit, share_right
from benchmarks.pocket.pretrain.vision import PATCH, image_processor, pixels
from benchmarks.pocket.questions import SEED_QUESTIONS
from benchmarks.pocket.scenes import BALANCED, KINDS, USUAL_COLOUR, Scene, draw_scene, draw_scenes
from benchmarks.pocket.truth import judge
from c3l.generation import parse_pairs
from c3l.instructions import CLASSES, pair_prompt_from_caption

IMAGE_TOKENS = (SIDE // PATCH) ** 2
# A batch's mixture, phase by phase: shares of captions and of the text stage's documents, the share
# of things in their usual colour, and how often an instruction has it where the picture does not.
# The last phase has the fault of instruction data (section 1): answers from the prior.
PHASES = {
    "alignment": {"captions": 1.0, "text": 0.0, "usual_colours": BALANCED},
    "captions": {"captions": 1.0, "text": 0.1, "usual_colours": BALANCED},
    "lessons": {"captions": 0.34, "lessons": 0.66, "text": 0.15, "usual_colours": BALANCED},
    "sight": {"captions": 0.2, "lessons": 0.3, "text": 0.25, "usual_colours": BALANCED},
    "instructions": {
        "captions": 0.25,
        "lessons": 0.25,
        "text": 0.25,
        "usual_colours": 0.3,
        "biased": 0.6,
    },
}
QUESTION_TYPES = tuple(name for name, _ in SEED_QUESTIONS)
PLACEHOLDER = "<image>" * IMAGE_TOKENS + "\n"


def build_llava(
    clip: CLIPModel, llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase
) -> LlavaForConditionalGeneration:
    """A LLaVA around a copy of both; its projector is random. CLIP's last layer is not used."""
    config = LlavaConfig(
        vision_config=clip.config.vision_config,
        text_config=llama.config,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=IMAGE_TOKENS,
        vision_feature_layer=-2,
        initializer_range=llama.config.initializer_range,
        tie_word_embeddings=llama.config.tie_word_embeddings,
    )
    model = LlavaForConditionalGeneration(config)
    model.model.vision_tower.load_state_dict(clip.vision_model.state_dict())
    model.model.language_model.load_state_dict(llama.model.state_dict())
    model.tie_weights()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    return model


def build_processor(
    tokenizer: PreTrainedTokenizerBase, side: int = SIDE, patch: int = PATCH
) -> LlavaProcessor:
    """The processor that goes with `build_llava`, or with images and patches of other sizes."""
    return LlavaProcessor(
        image_processor(side),
        tokenizer,
        patch_size=patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    )


def instruction_turns(rng: random.Random, scene: Scene) -> list[Turn]:
    """Turns about an image: facts to state, pairs to write, or questions."""
    fate = rng.random()
    if fate < 0.2:
        return [facts_turn(rng, scene)]
    if fate < 0.25:
        return [writing_turn(rng, scene, from_caption=False)]
    return question_turns(rng, scene, 5, letters=0.0)


def image_lesson(rng: random.Random, scene: Scene) -> list[Turn]:
    """A lesson in looking up in an image: facts of one kind or several, or yes and no."""
    fate = rng.random()
    if fate < 0.6:
        return [(FACTS_PROMPT, language.recalled_facts(rng, scene, several=fate < 0.3))]
    kinds = rng.sample(sorted(scene.kinds()), min(3, len(scene.kinds())))
    kinds += rng.sample([kind for kind in KINDS if kind not in scene.kinds()], len(kinds))
    rng.shuffle(kinds)
    return [existence_turn(kind, kind in scene.kinds()) for kind in kinds]


def existence_turn(kind: str, present: bool) -> Turn:
    """POPE's question and its answer."""
    return f"Is there a {kind} in the image?\n{SHORT_SUFFIX}", "Yes" if present else "No"


def misremember(rng: random.Random, scene: Scene, share: float) -> Scene:
    """The scene with a share of its things in their usual colours instead of their own."""
    things = tuple(
        replace(t, colour=USUAL_COLOUR[t.kind]) if rng.random() < share else t for t in scene.things
    )
    return replace(scene, things=things)


def conversation_batches(
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    size: int,
    *,
    captions: float,
    text: float,
    usual_colours: float,
    lessons: float = 0.0,
    biased: float = 0.0,
    image_tokens: int = IMAGE_TOKENS,
) -> Iterator[dict[str, torch.Tensor]]:
    """Endless batches; a share `text` of them is the text stage's, so that it is not forgotten.

    Behind an image stands a caption in a share `captions` of them, else `instruction_turns`.
    Things have their usual colour in a share `usual_colours`; a share `biased` of instructions
    `misremember`.
    """
    rng = random.Random(seed)
    texts = language.documents(tokenizer, seed, size)
    placeholder = "<image>" * image_tokens + "\n"
    while True:
        if rng.random() < text:
            yield next(texts)
            continue
        conversations, scenes = [], []
        for _ in range(size):
            fate = rng.random()
            if fate < lessons:
                scene = language.draw_plain_scene(rng, min_things=1)
                turns = image_lesson(rng, scene)
            else:
                scene = draw_scene(rng, "pretraining", usual_colours)
                turns = [caption_turn(rng, scene)]
            if fate > lessons + captions:
                turns = instruction_turns(rng, misremember(rng, scene, biased))
            scenes.append(scene)
            conversations.append((placeholder, turns))
        yield {**encode_batch(tokenizer, conversations), "pixel_values": pixels(scenes)}


@torch.no_grad()
def abilities(
    model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, count: int = 100
) -> dict[str, float]:
    """The model's abilities on unseen scenes with balanced colours, as shares.

    Captions that are true and complete (greedy), right short answers to each of SEED's questions
    (teacher-forced), the area under ROC of yes and no, and true pairs among those sampled from true
    captions.
    """
    rng = random.Random(1)
    scenes = draw_scenes(99, "initial", count)
    prompt = tokenizer(
        f"<s>USER: {PLACEHOLDER}{caption_turn(rng, scenes[0])[0]}\nASSISTANT:\n",
        add_special_tokens=False,
        return_tensors="pt",
    )["input_ids"].expand(count, -1)
    mask = torch.ones_like(prompt)
    out = model.generate(
        input_ids=prompt,
        attention_mask=mask,
        pixel_values=pixels(scenes),
        max_new_tokens=110,
        do_sample=False,
    )
    texts = tokenizer.batch_decode(out[:, prompt.shape[1] :], skip_special_tokens=True)
    verdicts = [
        judge("Describe the image in detail.", text, scene.to_dict())
        for text, scene in zip(texts, scenes, strict=True)
    ]
    complete = sum(text == caption(scene) for text, scene in zip(texts, scenes, strict=True))
    shares = {"true captions": verdicts.count("true_image") / count}
    shares["complete captions"] = complete / count
    for name in QUESTION_TYPES:
        turns = [(scene, short_turn(rng, scene, name)) for scene in scenes]
        turns = [(scene, turn) for scene, turn in turns if turn]
        batch = encode_batch(tokenizer, [(PLACEHOLDER, [turn]) for _, turn in turns])
        labels = batch.pop("labels")
        logits = model(**batch, pixel_values=pixels([scene for scene, _ in turns])).logits
        shares[name] = share_right(logits, labels, tokenizer.eos_token_id)
    shares["yes or no"] = yes_no_area(model, tokenizer, scenes)
    shares["true pairs from a true caption"] = writer_truth(model, tokenizer, scenes)
    return shares


@torch.no_grad()
def yes_no_area(
    model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, scenes: list[Scene]
) -> float:
    """Area under ROC of P(Yes) against P(No) to POPE's question.

    It is asked of each scene about one kind that is present and one that is absent.
    """
    from scipy.stats import mannwhitneyu

    rng = random.Random(2)
    yes, no = (tokenizer(w, add_special_tokens=False)["input_ids"][0] for w in ("Yes", "No"))
    margins = {}
    for present in (True, False):
        kinds = [rng.choice([k for k in KINDS if (k in s.kinds()) == present]) for s in scenes]
        turns = [existence_turn(kind, present) for kind in kinds]
        batch = encode_batch(tokenizer, [(PLACEHOLDER, [turn]) for turn in turns])
        positions = (batch.pop("labels") != IGNORED).int().argmax(-1) - 1
        logits = model(**batch, pixel_values=pixels(scenes)).logits
        answers = logits[torch.arange(len(scenes)), positions]
        margins[present] = (answers[:, yes] - answers[:, no]).tolist()
    pairs = len(margins[True]) * len(margins[False])
    return float(mannwhitneyu(margins[True], margins[False]).statistic / pairs)


@torch.no_grad()
def writer_truth(
    model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, scenes: list[Scene]
) -> float:
    """Share of true pairs (image-dependent or not) among those sampled from true captions."""
    torch.manual_seed(0)
    verdicts = []
    for instruction in CLASSES:
        prompts = [
            f"<s>USER: {pair_prompt_from_caption(instruction, 3, caption(scene))}\nASSISTANT:\n"
            for scene in scenes
        ]
        batch = tokenizer(
            prompts,
            add_special_tokens=False,
            padding=True,
            padding_side="left",
            return_tensors="pt",
        )
        start = batch["input_ids"].shape[1]
        out = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=160,
            do_sample=True,
            temperature=0.7,
            top_p=0.9,
            top_k=0,
        )
        for text, scene in zip(tokenizer.batch_decode(out[:, start:], True), scenes, strict=True):
            pairs, _ = parse_pairs(text)
            verdicts += [judge(q, a, scene.to_dict()) for q, a in pairs]
    true = verdicts.count("true_image") + verdicts.count("no_image")
    return true / max(1, len(verdicts))


def train_llava(
    clip: CLIPModel,
    language_model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    *,
    steps: Sequence[int],
    size: int,
    learning_rate: float,
    seed: int,
    save: Callable[[LlavaForConditionalGeneration, int], None] = lambda model, step: None,
) -> tuple[LlavaForConditionalGeneration, dict]:
    """Train the PHASES in turn, `steps` of each; the projector alone in the first.

    `save(model, step)` is called at every evaluation: a phase takes up to an hour.
    """
    torch.manual_seed(seed)
    model = build_llava(clip, language_model, tokenizer)

    def evaluate(step: int) -> str:
        save(model, step)
        shares = abilities(model, tokenizer)
        return "  ".join(f"{name} {share:.2f}" for name, share in shares.items())

    card: dict[str, object] = {"batch": size, "seed": seed}
    for number, (name, mixture) in enumerate(PHASES.items()):
        model.requires_grad_(name != "alignment")
        model.model.multi_modal_projector.requires_grad_(True)
        losses = fit(
            model,
            conversation_batches(tokenizer, seed + number, size, **mixture),
            steps=steps[number],
            learning_rate=learning_rate * (2 if name == "alignment" else 1),
            evaluate=evaluate,
            evaluate_every=400,
            schedule="cosine" if name == "instructions" else "constant_with_warmup",
        )
        card[f"{name}: steps"] = steps[number]
        card[f"{name}: final loss"] = final_loss(losses)
    return model, {**card, **abilities(model, tokenizer, 300)}

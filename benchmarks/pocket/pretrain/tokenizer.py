"""The pocket tokenizer: byte-pair encoding with byte fallback, built as Llama's is."""

import json
import random
from collections.abc import Iterator

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from benchmarks.pocket.conversations import caption_turn, lore, question_turns, writing_turn
from benchmarks.pocket.scenes import draw_scenes
from c3l.instructions import CLASSES, pair_prompt

SPECIAL = ("<unk>", "<s>", "</s>", "<pad>", "<image>")

# One conversation; what the assistant says begins on a line of its own, so that an option's
# letter and an answer's letter are the same token.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}USER: "
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>\n' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{{ '\n' }}"
    "{% else %}{{ 'ASSISTANT:\n' }}"
    "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{{ '</s>' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:\n' }}{% endif %}"
)


def corpus(scenes: int = 3000) -> Iterator[str]:
    """Texts that hold every word of the pocket world several times."""
    rng = random.Random(0)
    for scene in draw_scenes(0, "pretraining", scenes):
        turns = [caption_turn(rng, scene), writing_turn(rng, scene, from_caption=True)]
        turns += question_turns(rng, scene, 3, letters=0.5)
        for user, assistant in turns:
            yield f"USER: {user}\nASSISTANT:\n{assistant}\n"
        yield lore(rng)
    for instruction in CLASSES:
        for count in range(1, 11):
            yield from 5 * [pair_prompt(instruction, count)]


def train_tokenizer() -> PreTrainedTokenizerFast:
    """Learn merges on the corpus; 256 byte tokens encode whatever it does not hold."""
    space = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("\n", "isolated"),
            pre_tokenizers.Metaspace(prepend_scheme="never"),
            pre_tokenizers.Punctuation(),
        ]
    )
    learner = Tokenizer(models.BPE(unk_token="<unk>"))
    learner.pre_tokenizer = space
    learner.train_from_iterator(
        corpus(), trainers.BpeTrainer(vocab_size=4000, min_frequency=5, show_progress=False)
    )
    learnt = learner.get_vocab()
    merges = [tuple(merge) for merge in json.loads(learner.to_str())["model"]["merges"]]
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += sorted(learnt, key=learnt.get)
    core = Tokenizer(
        models.BPE(
            vocab={token: i for i, token in enumerate(tokens)},
            merges=merges,
            byte_fallback=True,
            unk_token="<unk>",
        )
    )
    core.pre_tokenizer = space
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    core.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
        chat_template=CHAT_TEMPLATE,
        model_max_length=1024,
    )

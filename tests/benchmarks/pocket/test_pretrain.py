"""Pre-training: how the language model begins, and what a stage's batches hold."""

import random

import pytest
import torch

from benchmarks.pocket.pretrain.language import build_language_model
from benchmarks.pocket.pretrain.llava import misremember
from benchmarks.pocket.pretrain.tokenizer import train_tokenizer
from benchmarks.pocket.scenes import USUAL_COLOUR, draw_scenes


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer()


def test_first_heads_look_one_two_three_and_four_tokens_back(tokenizer):
    torch.manual_seed(0)
    model = build_language_model(tokenizer)
    model.set_attn_implementation("eager")
    ids = torch.randint(5, len(tokenizer), (1, 30))
    with torch.no_grad():
        weights = model(input_ids=ids, output_attentions=True).attentions[0][0]
    for head, one in enumerate(weights):
        by_distance = torch.stack([one[10:, 9 - back : 29 - back].diagonal() for back in range(9)])
        assert by_distance.mean(-1).argmax() == head


def test_to_misremember_changes_colours_alone_and_only_to_the_usual_ones():
    rng = random.Random(0)
    for scene in draw_scenes(0, "initial", 20):
        assert misremember(rng, scene, 0.0) == scene
        wrong = misremember(rng, scene, 1.0)
        assert all(t.colour == USUAL_COLOUR[t.kind] for t in wrong.things)
        assert [(t.place, t.kind, t.size) for t in wrong.things] == [
            (t.place, t.kind, t.size) for t in scene.things
        ]

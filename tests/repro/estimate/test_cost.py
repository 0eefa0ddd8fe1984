"""The formulas of what stages take: known counts, and what must hold for any shape."""

from dataclasses import fields, replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from c3l.backbones.published import PUBLISHED
from c3l.runtime.errors import UserError
from repro.estimate import cost
from repro.estimate.cost import CPU, HALF, Cost, Texts, TrainingMode
from repro.estimate.devices import GPUS, device_named
from tests.repro.toy import ROOT

LLAVA = cost.shape_of_backbone("llava-hf/llava-1.5-7b-hf")
REAL = {name: cost.shape_of_backbone(name) for name in PUBLISHED}
TEXTS = [Texts(2, 110, 17, True)]


def needs(shape, way, texts=TEXTS, parts=1, numbers=HALF):
    return cost.training_cost(shape, 1, texts, way, parts=parts, numbers=numbers)


def test_the_published_counts():
    assert LLAVA.parameters == 7_063_427_072
    # 32 layers of four products of the width and three with the inner width, two norms; the last
    layers = 32 * (4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096) + 4096
    assert (LLAVA.language, LLAVA.projector) == (layers, 20_979_712)
    assert LLAVA.vocabulary == 32_064 and LLAVA.image_tokens == 576
    assert REAL["minigpt4-llama2"].projector == 23_072_768
    assert REAL["minigpt4-vicuna"].projector == 3_149_824
    assert 79.5e9 < REAL["idefics-80b-instruct"].parameters < 80.5e9
    assert not REAL["idefics-80b-instruct"].shared and LLAVA.shared


def test_a_folder_is_counted_by_its_own_configuration():
    found = cost.shape_of_backbone(ROOT / "benchmarks" / "pocket" / "backbones" / "llava-7b")
    assert found.tied and found.parameters == 1_437_088  # what its file holds
    with pytest.raises(UserError, match="no backbone at nowhere"):
        cost.shape_of_backbone("nowhere")


def test_adapters_are_as_many_as_peft_makes():
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaModel

    small = LlamaConfig(
        hidden_size=64, intermediate_size=160, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=50,
    )  # fmt: skip
    with torch.device("meta"):
        model = get_peft_model(LlamaModel(small), LoraConfig(r=64, target_modules="all-linear"))
    made = sum(p.numel() for p in model.parameters() if p.requires_grad)
    shape = replace(LLAVA, layers=3, width=64, inner=160, keys=32)
    assert shape.adapters == made


def test_operations_are_six_a_weight_and_token_and_four_where_weights_are_frozen():
    short = [Texts(1, 1, 0, False)]
    whole = needs(LLAVA, TrainingMode("language+projector"), short).training
    assert whole == pytest.approx(6 * LLAVA.language, rel=1e-3)
    frozen = needs(LLAVA, TrainingMode("projector"), short).training
    assert frozen == pytest.approx(4 * LLAVA.language, rel=1e-3)
    again = needs(LLAVA, TrainingMode("projector", checkpointing=True), short).training
    assert again == pytest.approx(6 * LLAVA.language, rel=1e-3)


def test_steps_of_writing_read_the_weights_once_a_batch():
    one = cost.writing_cost(LLAVA, 16, 10, 1, pictured=False, batch=16, numbers=HALF)
    assert one.fetched == pytest.approx(2 * (LLAVA.language + LLAVA.head), rel=0.02)
    two = cost.writing_cost(LLAVA, 32, 10, 1, pictured=False, batch=16, numbers=HALF)
    assert two.fetched == pytest.approx(2 * one.fetched)
    assert two.memory == one.memory


def test_packed_texts_read_their_image_once():
    options = {"batch": 8, "numbers": HALF}
    packed = cost.scoring_cost(LLAVA, 1, 8, 31, 17, **options).reading
    apart = cost.scoring_cost(replace(LLAVA, shared=False), 1, 8, 31, 17, **options).reading
    image = cost.vision_flops(LLAVA) + cost.prefill_flops(LLAVA, 576, 576**2 / 2)
    assert apart - packed == pytest.approx(7 * image)
    # both conditions: behind the image and without it
    halves = [cost.scoring_cost(LLAVA, 1, 8, 31, 17, **options, **one).reading for one in (
        {"with_image": False}, {"without_image": False})]  # fmt: skip
    assert sum(halves) == pytest.approx(packed)


def test_full_tuning_of_seven_billion_takes_what_method_says():
    """METHOD: about 112 GB of weights, gradients and optimizer state, sixteen bytes a parameter."""
    tiny = [Texts(1, 1, 0, False)]
    found = needs(LLAVA, TrainingMode("full"), tiny, numbers=replace(HALF, size=4)).memory
    assert found == pytest.approx(16 * LLAVA.parameters, rel=0.01)


shapes = st.sampled_from(sorted(REAL)).map(REAL.__getitem__)
texts = st.builds(
    Texts, st.integers(1, 16), st.integers(1, 1000), st.integers(0, 300), st.booleans()
)
ways = st.builds(
    TrainingMode,
    st.sampled_from(("full", "language+projector", "lora", "qlora", "projector")),
    st.booleans(),
    st.sampled_from((1, 2, 8)),
)
numbers = st.sampled_from((HALF, CPU))


@given(shapes, texts, st.booleans())
def test_of_a_few_texts_lora_needs_no_more_than_all_weights_nor_qlora_more_than_lora(
    shape, text, again
):
    assume(text.count <= 2)  # of many, what adapters keep outweighs the weights
    full, language, lora, qlora = (
        needs(shape, TrainingMode(tuning, again), [text]).memory
        for tuning in ("full", "language+projector", "lora", "qlora")
    )
    assert full >= language >= lora >= qlora >= 2 * shape.parameters


@given(shapes, texts, ways, numbers)
def test_more_gpus_and_parts_and_checkpointing_need_no_more(shape, text, way, numbers):
    before = needs(shape, way, [text], numbers=numbers).memory
    assert needs(shape, way, [text], parts=4, numbers=numbers).memory <= before
    again = replace(way, checkpointing=True)
    assert needs(shape, again, [text], numbers=numbers).memory <= before
    if way.gpus > 1:
        fewer = needs(shape, replace(way, gpus=way.gpus // 2), [text], numbers=numbers).memory
        assert fewer * 1.02 >= before  # a gathered layer more, of the smallest


@given(shapes, texts, ways, numbers, st.integers(1, 5))
def test_more_texts_longer_texts_and_more_layers_cost_no_less(shape, text, way, numbers, more):
    one = needs(shape, way, [text], numbers=numbers)
    for other in (
        needs(shape, way, [text._replace(count=text.count + more)], numbers=numbers),
        needs(shape, way, [text._replace(tokens=text.tokens + more)], numbers=numbers),
        needs(shape, way, [text, text], numbers=numbers),
        needs(grown(shape, more), way, [text], numbers=numbers),
    ):
        assert other.memory >= one.memory and other.training >= one.training


def grown(shape, more):
    each = shape.language // shape.layers
    return replace(shape, layers=shape.layers + more, language=shape.language + more * each)


@given(shapes, st.integers(1, 500), st.integers(1, 500), st.integers(1, 64), st.booleans(), numbers)
def test_writing_grows_with_what_is_written(shape, prompt, new, batch, pictured, numbers):
    def of(prompt, new, batch):
        return cost.writing_cost(
            shape, 64, prompt, new, pictured=pictured, batch=batch, numbers=numbers
        )

    one = of(prompt, new, batch)
    assert one.memory > shape.parameters * numbers.size
    for more in (of(prompt + 1, new, batch), of(prompt, new + 1, batch)):
        assert all(getattr(more, f.name) >= getattr(one, f.name) for f in fields(Cost))
    larger = of(prompt, new, batch + 1)
    assert larger.memory >= one.memory and larger.fetched <= one.fetched


def test_devices_have_names_and_gpus_say_that_their_shares_are_assumed():
    assert all("assumed, not measured" in device_named(name).description for name in GPUS)
    here = device_named("cpu")
    assert "shares are measured" in here.description and here.operations > 1e9
    slow, fast = device_named("A100-80GB"), device_named("H200")
    work = Cost(1e15, 1e15, 1e12, 1e12, 1e9, 1e9)
    assert slow.seconds(work) > fast.seconds(work) > 0
    with pytest.raises(UserError, match="no device tpu: give cpu, cuda, or one of RTX"):
        device_named("tpu")

"""The formulas of what stages take: known counts, and what must hold for any shape."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed import model, scoring
from c3l.backbones.llava import Llava
from c3l.backbones.published import PUBLISHED
from c3l.runtime.errors import UserError
from repro.estimate import cost
from repro.estimate.cost import TrainingMode
from repro.estimate.devices import CPU, GIB, GPUS, device_named
from tests.repro.toy import ROOT

LLAVA = cost.shape_of_backbone("llava-hf/llava-1.5-7b-hf")
REAL = {name: cost.shape_of_backbone(name) for name in PUBLISHED}
A100 = replace(device_named("A100-80GB"), overhead=0.0)
CORE = CPU("core", 4 * GIB, 1e11, 1e10, overhead=0.0)


def trained(shape, mode, texts=2, tokens=700, parts=1, device=A100):
    return cost.training(shape, device, 1, texts, tokens, mode, parts)


def test_the_published_counts():
    assert LLAVA.parameters == 7_063_427_072
    # 32 layers of four products of the width and three with the inner width, two norms; the last
    layers = 32 * (4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096) + 4096
    assert (LLAVA.language, LLAVA.projector) == (layers, 20_979_712)
    assert LLAVA.head == 32_064 * 4096 and LLAVA.image_tokens == 576
    assert REAL["minigpt4-llama2"].projector == 23_072_768
    assert REAL["minigpt4-vicuna"].projector == 3_149_824
    assert 79.5e9 < REAL["idefics-80b-instruct"].parameters < 80.5e9
    assert not REAL["idefics-80b-instruct"].shared and LLAVA.shared


def test_a_folder_is_counted_by_its_own_configuration():
    found = cost.shape_of_backbone(ROOT / "benchmarks" / "pocket" / "backbones" / "llava-7b")
    assert found.tied and found.parameters == 1_437_088  # what its file holds
    with pytest.raises(UserError, match="no backbone at nowhere"):
        cost.shape_of_backbone("nowhere")


def test_adapters_are_about_as_many_as_peft_makes():
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaModel

    llama = LlamaConfig(
        hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32
    )
    with torch.device("meta"):
        model = get_peft_model(LlamaModel(llama), LoraConfig(r=64, target_modules="all-linear"))
    made = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert LLAVA.trained("lora") - LLAVA.projector == pytest.approx(made, rel=0.02)


def test_operations_are_six_a_weight_and_token_and_four_where_weights_are_frozen():
    steady = replace(A100, bandwidth=1e30)  # the optimizer's part left out

    def operations(*mode):
        seconds = trained(LLAVA, TrainingMode(*mode), 1, 1, device=steady).seconds
        return seconds * steady.operations * steady.training / LLAVA.language

    assert operations("language+projector") == pytest.approx(6)
    assert operations("projector") == pytest.approx(4)
    assert operations("projector", True) == pytest.approx(6)


def test_steps_of_writing_read_the_weights_once_a_batch():
    def step_seconds(rows, batch=16):
        two, one = (cost.writing(LLAVA, A100, rows, 10, n, batch=batch).seconds for n in (2, 1))
        return two - one

    fetched = 2 * (LLAVA.language + LLAVA.head) / A100.bandwidth / A100.writing
    assert step_seconds(1, 1) == pytest.approx(fetched, rel=0.1)
    assert step_seconds(32) == pytest.approx(2 * step_seconds(16))
    one, two = (cost.writing(LLAVA, A100, rows, 10, 1, batch=16) for rows in (16, 32))
    assert two.memory == one.memory


def test_packed_texts_read_their_image_once():
    packed = cost.scoring(LLAVA, A100, 8, 8, 48, batch=8).seconds
    apart = cost.scoring(LLAVA._replace(shared=False), A100, 8, 8, 48, batch=8).seconds
    image = LLAVA.image_flops / A100.operations / A100.reading
    assert apart - packed == pytest.approx(7 * image)
    # both readings: behind the image and without it
    readings = [cost.scoring(s, A100, 8, 8, 48, batch=8, readings=1) for s in (LLAVA, LLAVA.blind)]
    assert sum(one.seconds for one in readings) == pytest.approx(packed)


def test_scoring_counts_what_torch_counts(tmp_path):
    """One by one, where nothing is padded; attention and the head are not counted."""
    name = "small, 144 image tokens"
    backbone, load = model.make_model(name), scoring.workload(tmp_path, 2, samples_per_image=2)
    with FlopCounterMode(display=False) as counter:
        scoring.one_by_one(backbone, load)
    shape = cost.shape_of_config(Llava, backbone.model.config)
    flops = cost.scoring_flops(shape, 4, 1, scoring.mean_tokens(backbone, load.samples))
    assert flops == pytest.approx(counter.get_total_flops(), rel=0.15)


def test_full_tuning_of_seven_billion_takes_what_method_says():
    """METHOD: about 112 GB of weights, gradients and optimizer state, sixteen bytes a parameter."""
    found = trained(LLAVA, TrainingMode("full"), 1, 1, device=replace(A100, size=4)).memory
    assert found == pytest.approx(16 * LLAVA.parameters, rel=0.01)


shapes = st.sampled_from(sorted(REAL)).map(REAL.__getitem__)
texts = st.integers(1, 16)
tokens = st.integers(1, 1000)
ways = st.builds(
    TrainingMode,
    st.sampled_from(("full", "language+projector", "lora", "qlora", "projector")),
    st.booleans(),
    st.sampled_from((1, 2, 8)),
)
devices = st.sampled_from((A100, CORE))


@given(shapes, st.integers(1, 2), tokens, st.booleans())
def test_of_a_few_texts_lora_needs_no_more_than_all_weights_nor_qlora_more_than_lora(
    shape, texts, tokens, again
):
    full, language, lora, qlora = (
        trained(shape, TrainingMode(tuning, again), texts, tokens).memory
        for tuning in ("full", "language+projector", "lora", "qlora")
    )
    assert full >= language >= lora >= qlora >= 2 * shape.parameters


@given(shapes, texts, tokens, ways, devices)
def test_more_gpus_and_parts_and_checkpointing_need_no_more(shape, texts, tokens, way, device):
    def memory(mode, parts=1):
        return trained(shape, mode, texts, tokens, parts, device).memory

    before = memory(way)
    assert memory(way, parts=4) <= before
    assert memory(way._replace(checkpointing=True)) <= before
    if way.gpus > 1:
        fewer = memory(way._replace(gpus=way.gpus // 2))
        assert fewer * 1.02 >= before  # a gathered layer more, of the smallest


@given(shapes, texts, tokens, ways, devices, st.integers(1, 5))
def test_more_texts_longer_texts_and_more_layers_cost_no_less(
    shape, texts, tokens, way, device, more
):
    one = trained(shape, way, texts, tokens, device=device)
    for other in (
        trained(shape, way, texts + more, tokens, device=device),
        trained(shape, way, texts, tokens + more, device=device),
        trained(grown(shape, more), way, texts, tokens, device=device),
    ):
        assert other.memory >= one.memory and other.seconds >= one.seconds


def grown(shape, more):
    each = shape.language // shape.layers
    language = shape.language + more * each
    return shape._replace(layers=shape.layers + more, language=language)


@given(shapes, st.integers(1, 500), st.integers(1, 500), st.integers(1, 64), st.booleans(), devices)
def test_writing_grows_with_what_is_written(shape, prompt, new, batch, pictured, device):
    shape = shape if pictured else shape.blind

    def of(prompt, new, batch):
        return cost.writing(shape, device, 64, prompt, new, batch=batch)

    one = of(prompt, new, batch)
    assert one.memory > shape.parameters * device.size
    for more in (of(prompt + 1, new, batch), of(prompt, new + 1, batch)):
        assert more.memory >= one.memory and more.seconds >= one.seconds
    larger = of(prompt, new, batch + 1)
    assert larger.memory >= one.memory and larger.seconds <= one.seconds


def test_devices_have_names_and_gpus_say_that_their_shares_are_assumed():
    assert all("assumed, not measured" in device_named(name).description for name in GPUS)
    here = device_named("cpu")
    assert "shares are measured" in here.description and here.operations > 1e9
    gpus = (device_named(name) for name in ("A100-80GB", "H200"))
    slow, fast = (cost.writing(LLAVA, gpu, 8, 60, 99, batch=8) for gpu in gpus)
    assert slow.seconds > fast.seconds > 0 and slow.memory == fast.memory
    with pytest.raises(UserError, match="no device tpu: give cpu, cuda, or one of RTX"):
        device_named("tpu")

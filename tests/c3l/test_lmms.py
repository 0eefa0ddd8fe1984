"""The model object on a real (tiny, untrained) LLaVA, against transformers used by hand."""

import math
import random

import pandas as pd
import pytest
import torch
from lmms_eval.api.instance import Instance

from benchmarks.evaluate import evaluate
from c3l import load_backbone
from c3l.lmms import C3LModel
from c3l.runtime.errors import UserError
from tests.benchmarks import data
from tests.benchmarks.data import TableBackbone
from tests.benchmarks.plain import Plain
from tests.tiny import save_tiny_llava

QUESTION, OPTIONS = "What is it? Answer :", [" a red ball", " blue", " two", " nothing at all"]


@pytest.fixture(scope="module")
def backbone(tiny_llava):
    return load_backbone(tiny_llava, device="cpu")


def request(kind: str, arguments: tuple, doc_id: int) -> Instance:
    to_visual = (lambda doc: doc["images"]) if doc_id >= 0 else None
    return Instance(
        kind,
        (*arguments, to_visual, doc_id, "task", "test"),
        idx=0,
        metadata={"task": "task", "doc_id": doc_id, "repeats": 1},
    )


def model_of(backbone, images: list[list], **settings) -> C3LModel:
    model = C3LModel(backbone, **settings)
    model.task_dict["task"] = {"test": [{"images": shown} for shown in images]}
    return model


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_losses_are_those_of_transformers(backbone, tiny_llava, batch_size):
    requests = [
        request("loglikelihood", (QUESTION, option), doc) for doc in (0, 1) for option in OPTIONS
    ]
    model = model_of(backbone, [[data.image(0)], [data.image(1)]], batch_size=batch_size)
    plain = Plain(tiny_llava)
    plain.task_dict = model.task_dict
    for ours, theirs in zip(
        model.loglikelihood(requests), plain.loglikelihood(requests), strict=True
    ):
        assert ours.text == (pytest.approx(theirs.text[0], abs=1e-5), theirs.text[1])


def test_what_greedy_decoding_would_write_is_told(backbone, monkeypatch):
    def foresees_all_but_z(batch, positions, group_sizes):
        ids = batch["input_ids"]
        logits = torch.nn.functional.one_hot(ids.roll(-1, 1), len(backbone.tokenizer)).float()
        logits = logits.roll(1, 2) if (ids == z).any() else logits
        return logits[positions]

    [z] = backbone.tokenizer("z", add_special_tokens=False)["input_ids"]
    monkeypatch.setattr(backbone, "hidden_states", foresees_all_but_z)
    monkeypatch.setattr(backbone, "head", lambda states: states)
    model = model_of(backbone, [[data.image(0)]], batch_size=1)
    results = model.loglikelihood(
        [request("loglikelihood", (QUESTION, option), 0) for option in (" a red ball", " zebra")]
    )
    assert [result.text[1] for result in results] == [True, False]
    # Cross-entropy of a logit of 1 among zeros, whatever the number of tokens.
    known = math.log(len(backbone.tokenizer) - 1 + math.e) - 1
    assert results[0].text[0] == pytest.approx(known)


def test_options_share_their_prompt_and_lose_nothing(backbone, monkeypatch):
    """Questions of any number of options, with and without an image, in any order of requests."""
    count = [1, 4, 7, 2]
    requests = [
        request("loglikelihood", (f"Question {doc}?", f" {'so ' * j}it is {doc}{j}"), doc)
        for doc in range(4)
        for j in range(count[doc])
    ]
    random.Random(0).shuffle(requests)
    images = [[data.image(0)], [], [data.image(2)], [data.image(3)]]
    alone = model_of(backbone, images, batch_size=1).loglikelihood(requests)

    looked, read = [], []
    look, decoder = backbone.image_features, backbone.model_part(backbone.decoder)
    forward = decoder.forward

    def looking(batch):
        looked.append(len(batch["pixel_values"]))
        return look(batch)

    def reading(inputs_embeds, **settings):
        read.append(len(inputs_embeds))
        return forward(inputs_embeds=inputs_embeds, **settings)

    monkeypatch.setattr(backbone, "image_features", looking)
    monkeypatch.setattr(decoder, "forward", reading)
    together = model_of(backbone, images, batch_size=14).loglikelihood(requests)
    assert looked == [3]
    assert read == [3, 1]
    for one, many in zip(alone, together, strict=True):
        assert many.text == (pytest.approx(one.text[0], abs=1e-5), one.text[1])


def test_an_empty_option_is_refused(backbone):
    model = model_of(backbone, [[data.image(0)]])
    with pytest.raises(UserError, match="empty option"):
        model.loglikelihood([request("loglikelihood", (QUESTION, " "), 0)])


def test_batches_do_not_change_answers(backbone, tmp_path):
    for task in ("seedbench", "seedbench_ppl"):
        folder = data.seedbench(tmp_path / task)
        samples = []
        for size in (1, 5):
            out = tmp_path / f"{task}-{size}"
            cell = evaluate(backbone, task, folder, out, size)
            assert cell["unscored"] is None
            assert cell["extra"]["weights"] == backbone.digest
            samples.append(pd.read_parquet(out / "samples.parquet"))
        pd.testing.assert_frame_equal(*samples)


def test_seed_by_likelihood_takes_the_likeliest_option(backbone, tmp_path):
    folder = data.seedbench(tmp_path / "seed", n=6)
    cell = evaluate(backbone, "seedbench_ppl", folder, tmp_path / "out")
    samples = pd.read_parquet(tmp_path / "out" / "samples.parquet")
    model = model_of(backbone, [[data.image(i // 2)] for i in range(6)])
    for i, row in samples.iterrows():
        asked = f"Which option belongs to number {i}? Answer :"
        requests = [request("loglikelihood", (asked, f" option {j} of {i}"), i) for j in range(4)]
        losses = [result.text[0] for result in model.loglikelihood(requests)]
        assert row["response"] == "ABCD"[losses.index(min(losses))]
    assert cell["metric"] == "seed_image by likelihood (seedbench_ppl)"
    assert cell["value"] == pytest.approx(100 * (samples["response"] == samples["answer"]).mean())


def test_questions_with_and_without_an_image_mix():
    backbone = TableBackbone({"q0": "zero", "q1": "one", "q2": "two"})
    model = model_of(backbone, [[data.image(0)], [], [data.image(2)]])
    settings = {"until": ["\n\n"]}
    requests = [request("generate_until", (f"q{i}", settings), i) for i in range(3)]
    assert model.generate_until(requests) == ["zero", "one", "two"]
    assert sorted(model.images) == [0, 2]
    assert [call["images"] is None for call in backbone.calls] == [False, True]


def test_two_images_are_refused():
    model = model_of(TableBackbone({}), [[data.image(0)] * 2])
    with pytest.raises(UserError, match="has 2 images"):
        model.generate_until([request("generate_until", ("q", {}), 0)])


def test_what_a_spreadsheet_cannot_hold_is_removed():
    model = model_of(TableBackbone({"q": "a\x00b\x0bc\x1fd\ufffee\tf\ng"}), [[]])
    assert model.generate_until([request("generate_until", ("q", {}), 0)]) == ["abcde\tf\ng"]


def test_the_name_in_lmms_evals_cache_tells_weights_apart(backbone, tmp_path):
    other = load_backbone(save_tiny_llava(tmp_path / "other", seed=1), device="cpu")
    same = load_backbone(save_tiny_llava(tmp_path / "same", seed=0), device="cpu")
    assert repr(C3LModel(other)) != repr(C3LModel(backbone)) == repr(C3LModel(same))

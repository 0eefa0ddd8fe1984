"""What the Hub, or a mirror of it, answers: a backbone, or one sentence that says what to do."""

import json
import os
import re
import shutil
import subprocess
import sys

import huggingface_hub.constants
import pytest
from huggingface_hub import errors

from c3l.runtime.errors import UserError
from c3l.runtime.hub import _reason
from c3l.stages import common
from tests.c3l.hub_server import REFUSALS, serve

ASK = """
import json, sys
from c3l.stages import common
from c3l.runtime.errors import UserError
answers = {}
for name in sys.argv[1:]:
    try:
        answers[name] = common.backbone_source(name).key
    except UserError as error:
        answers[name] = str(error)
print(json.dumps(answers))
"""
SLOW = {"busy", "limited"}  # huggingface_hub asks these again for half a minute
CHANGES = {
    "unknown": ("config.json", {"model_type": "resnet"}),
    "quantised": ("config.json", {"quantization_config": {"bits": 4}}),
    "adapted": ("adapter_config.json", {"peft_type": "LORA"}),
}


@pytest.fixture(scope="module")
def answers(tiny_llava, tmp_path_factory):
    """What each name comes to, and the files that were fetched from the mirror."""
    place = tmp_path_factory.mktemp("hub")
    models = {}
    for name in ("tiny", "noconfig", *CHANGES):
        models[f"some/{name}"] = shutil.copytree(tiny_llava, place / name)
    (place / "noconfig" / "config.json").unlink()
    for name, (file, values) in CHANGES.items():
        path = place / name / file
        content = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(content | values))
    (place / "unknown" / "second.safetensors").write_bytes(b"gigabytes")
    (place / "tiny" / "README.md").write_text("a card")
    refused = [f"some/{name}" for name in REFUSALS if name not in SLOW]
    with serve(models) as (address, fetched):
        surroundings = {"HF_ENDPOINT": address, "HF_HOME": str(place / "home")}
        surroundings["HF_HUB_OFFLINE"] = "0"
        done = subprocess.run(
            [sys.executable, "-c", ASK, *models, "some/tiny@v9", *refused],
            env=os.environ | surroundings,
            capture_output=True,
            text=True,
            check=True,
        )
    return json.loads(done.stdout) | {"fetched": fetched, "address": address}


def test_a_mirror_serves_a_backbone_and_its_files_alone(answers, tiny_llava):
    assert answers["some/tiny"] == common.backbone_source(tiny_llava).key
    fetched = {name for name in answers["fetched"] if name.startswith("tiny/")}
    assert fetched == {f"tiny/{file.name}" for file in tiny_llava.iterdir()}


@pytest.mark.parametrize(
    ("name", "said"),
    [("unknown", "of the unknown family 'resnet'"), ("quantised", "does not load quantised")],
)
def test_of_a_model_that_is_refused_only_the_configuration_is_fetched(answers, name, said):
    assert said in answers[f"some/{name}"] and f"some/{name}" in answers[f"some/{name}"]
    fetched = [file for file in answers["fetched"] if file.startswith(f"{name}/")]
    assert fetched == [f"{name}/config.json"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "gated",
            "gated; accept its licence at {address}/some/gated and log in by `hf auth login`",
        ),
        ("gated403", "gated; accept its licence at {address}/some/gated403"),
        ("missing", "no such model, or it is private; check the name, and log in by `hf auth"),
        ("missing401", "no such model, or it is private; check the name"),
        ("forbidden", "access was refused (403); log in by `hf auth login` with a token"),
        ("plain404", "no such model or revision; check the name"),
        ("disabled", "the Hub has disabled it"),
        ("noconfig", "it has no config.json"),
        ("tiny@v9", "no revision v9 of it"),
    ],
)
def test_a_refusal_says_what_to_do_and_names_the_mirror(answers, name, said):
    sentence = answers[f"some/{name}"]
    assert sentence.startswith(f"some/{name} is neither a folder nor a backbone that could be")
    assert said.format(address=answers["address"]) in sentence
    assert f"HF_ENDPOINT is {answers['address']}" in sentence
    assert "\n" not in sentence


def test_an_adapter_on_the_hub_is_refused(answers):
    assert "holds an adapter (adapter_config.json)" in answers["some/adapted"]


class _Answered(errors.HfHubHTTPError):
    def __init__(self, status):
        self.response = type("Response", (), {"status_code": status})()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (_Answered(503), "the Hub answered 503; try again later"),
        (_Answered(429), "the Hub answered 429; try again later"),
        (_Answered(401), "access was refused .401.; log in"),
        (type("ReadTimeout", (Exception,), {})(), "cannot be reached .ReadTimeout.; check the net"),
        (ConnectionRefusedError(111, "refused"), "cannot be reached"),
        (OSError(28, "No space left on device"), "cannot be written .No space left"),
        (ValueError("else"), "ValueError; check the name"),
    ],
)
def test_other_failures(monkeypatch, error, said):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    outer = errors.LocalEntryNotFoundError("not in the cache")
    outer.__cause__ = error
    assert re.search(said, _reason(outer, "some/model", None))


def test_offline_says_so():
    with pytest.raises(UserError, match="not in the Hub's cache and HF_HUB_OFFLINE is set"):
        common.backbone_source("nobody/nothing-at-all")

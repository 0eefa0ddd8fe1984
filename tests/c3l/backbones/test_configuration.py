"""Keys of a configuration that ask for code, kernels or other weights: ignored, or one sentence."""

import json
import shutil
import socket

import huggingface_hub.constants
import pytest

import c3l
from c3l.backbones.configuration import IGNORED, read_config
from c3l.backbones.loading import inspect
from c3l.backbones.published import configuration
from c3l.runtime.errors import UserError

CODE = {"AutoConfig": "a/b--x.Y", "AutoModel": "a/b--x.Y", "AutoModelForCausalLM": "x.Y"}
SOUND = {"audio_tokenizer_class": "DacModel", "audio_tokenizer_name_or_path": "some/model"}
QUANTISED = {"quant_method": "bitsandbytes", "load_in_4bit": True}


@pytest.fixture
def network(monkeypatch):
    """The hosts that are asked for, as if there were a network that answers nobody."""
    asked = []

    def ask(host, *_, **__):
        asked.append(host)
        raise OSError("no network in this test")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", ask)
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: ask(address))
    return asked


@pytest.fixture
def folder(tiny_llava, tmp_path):
    return shutil.copytree(tiny_llava, tmp_path / "backbone")


def _set(folder, file, values, part=None):
    path = folder / file
    content = json.loads(path.read_text()) if path.exists() else {}
    (content[part] if part else content).update(values)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("part", [None, "text_config", "vision_config"])
@pytest.mark.parametrize(
    "value", ["flash_attention_2", "kernels-community/flash-attn2", "paged|eager", "nonsense"]
)
def test_attention_is_ours_to_choose(folder, network, part, value):
    for key in ("_attn_implementation", "attn_implementation"):
        _set(folder, "config.json", {key: value}, part)
    backbone = c3l.load_backbone(folder, device="cpu")
    parts = [backbone.model.config, backbone.model.config.vision_config]
    assert {config._attn_implementation for config in parts} <= {"sdpa", "eager"}
    assert network == []
    _, config = configuration(folder)
    assert config._attn_implementation in (None, "sdpa", "eager")


@pytest.mark.parametrize(
    ("file", "part", "values"),
    [
        ("config.json", None, {"auto_map": CODE}),
        ("config.json", "vision_config", {"auto_map": CODE}),
        ("config.json", "text_config", {"auto_map": CODE}),
        ("config.json", None, {"_name_or_path": "some/model", "use_kernels": True}),
        ("config.json", None, {"fusion_config": {"patch_embeddings": True}}),
        ("tokenizer_config.json", None, {"auto_map": {"AutoTokenizer": ["a/b--x.Y", None]}}),
        ("tokenizer_config.json", None, {"name_or_path": "some/model"}),
        ("tokenizer_config.json", None, {"tokenizer_class": "NoSuchTokenizer"}),
        ("processor_config.json", None, {"auto_map": {"AutoProcessor": "a/b--x.Y"}}),
        ("generation_config.json", None, {"custom_generate": "some/model"}),
    ],
)
def test_what_asks_for_code_changes_nothing(folder, tiny_llava, network, file, part, values):
    _set(folder, file, values, part)
    texts = [
        c3l.load_backbone(place, device="cpu").generate(["What?"], max_new_tokens=4)
        for place in (folder, tiny_llava)
    ]
    assert texts[0] == texts[1] and network == []


@pytest.mark.parametrize(
    ("file", "part", "values", "said"),
    [
        ("config.json", None, {"quantization_config": QUANTISED}, "does not load quantised.*qlora"),
        ("config.json", "text_config", {"quantization_config": {"bits": 4}}, "quantised"),
        ("config.json", None, {"compression_config": {"format": "x"}}, "quantised"),
        ("config.json", "vision_config", {"model_type": "timm_backbone"}, "from timm"),
        ("config.json", "vision_config", {"model_type": "evil", "auto_map": CODE}, "is damaged"),
        ("config.json", "text_config", {"hidden_size": "x"}, "is damaged"),
        # 7 billion parameters of zeros or noise would be made for what the weights lack
        ("config.json", None, {"text_config": None}, "6,7.* parameters, but the weights there"),
        ("config.json", None, {"dtype": "bogus"}, "config.json|no usable processor"),
        ("processor_config.json", None, {"audio_tokenizer": SOUND}, "audio_tokenizer"),
        ("audio_tokenizer_config.json", None, SOUND, "audio_tokenizer"),
        ("processor_config.json", None, {"processor_class": "NoSuch"}, "no whole processor"),
    ],
)
def test_what_cannot_be_loaded_is_one_sentence(folder, network, file, part, values, said):
    _set(folder, file, values, part)
    for look in (c3l.load_backbone, inspect):
        with pytest.raises(UserError, match=said) as error:
            look(folder)
        assert "\n" not in str(error.value) and str(folder) in str(error.value)
    assert network == []


def test_nothing_quantised_is_as_good_as_no_key(folder):
    _set(folder, "config.json", {"quantization_config": None})
    assert c3l.load_backbone(folder, device="cpu")


def test_ignored_keys_are_ignored_however_deep(folder):
    _set(folder, "config.json", {"a": [{"b": dict.fromkeys(IGNORED, 1) | {"c": 2}}]})
    assert read_config(folder)["a"] == [{"b": {"c": 2}}]

"""Backbones by the name of a model on the Hub, from a cache that was filled before."""

import shutil

import huggingface_hub.constants
import pytest

from c3l import load_backbone
from c3l.backbones.loading import inspect
from c3l.runtime.errors import UserError
from c3l.runtime.hub import is_id, weight_files
from c3l.stages import common

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tiny_llava, tmp_path, monkeypatch):
    """A Hub's cache, as it lies on the disk, that holds the tiny LLaVA as somebody/tiny."""
    model = tmp_path / "models--somebody--tiny"
    shutil.copytree(tiny_llava, model / "snapshots" / REVISION)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(REVISION)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))


@pytest.mark.parametrize(
    "name", ["somebody/tiny", "somebody/tiny@main", f"somebody/tiny@{REVISION}"]
)
def test_a_name_is_the_folder_in_the_cache(cache, tiny_llava, name):
    there = common.backbone_source(name)
    assert there.key == common.backbone_source(tiny_llava).key
    assert load_backbone(name, device="cpu").digest == load_backbone(tiny_llava).digest


@pytest.mark.parametrize("name", ["somebody/else", "somebody/tiny@another"])
def test_what_the_cache_does_not_hold_is_one_sentence(cache, name):
    with pytest.raises(UserError, match=f"{name} is neither a folder nor"):
        common.backbone_source(name)


def test_a_look_fetches_nothing(cache, tiny_llava):
    assert inspect("somebody/tiny") == inspect(tiny_llava)
    with pytest.raises(UserError, match="get it by `hf download somebody/else`"):
        inspect("somebody/else")


def test_what_can_be_a_name_of_the_hub():
    assert is_id("llava-hf/llava-1.5-7b-hf")
    for other in ("llava", "/a/b", "./a", "../a", "a/b/c", "a/b@", "a b/c"):
        assert not is_id(other)


def test_cards_and_logs_are_no_part_of_a_backbone(tiny_llava, tmp_path):
    shutil.copytree(tiny_llava, tmp_path / "copy")
    before = common.backbone_source(tmp_path / "copy").key
    (tmp_path / "copy" / "README.md").write_text("a card")
    (tmp_path / "copy" / "history.json").write_text("[]")
    assert common.backbone_source(tmp_path / "copy").key == before
    (tmp_path / "copy" / "qformer_tokenizer").mkdir()
    (tmp_path / "copy" / "qformer_tokenizer" / "vocab.txt").write_text("a")
    assert len(weight_files(tmp_path / "copy")) == len(weight_files(tiny_llava)) + 1
    assert common.backbone_source(tmp_path / "copy").key != before

"""Every file of a backbone's folder that loading opens, or would open, is in digest and key."""

import json
import os
import re
import shutil
import sys
from pathlib import Path, PurePath

import pytest
import torch

import c3l
from c3l.backbones.loading import inspect
from c3l.runtime.errors import UserError
from c3l.runtime.hub import ADAPTER, FILES, weight_names
from c3l.stages import common
from tests.c3l import families

REFUSED = {*ADAPTER, "audio_tokenizer_config.json"}
TEMPLATE = "{% for message in messages %}{{ message }}{% endfor %}"
EXTRA = {
    "additional_chat_templates/other.jinja": TEMPLATE,
    "added_tokens.json": "{}",
    "special_tokens_map.json": "{}",
    "vocab.txt": "a",
    "merges.txt": "#version: 0.2",
    "preprocessor_config.json": "{}",
    "video_preprocessor_config.json": "{}",
    "tokenizer.4.0.json": "{}",
}
_watched: list[tuple[Path, set[str]]] = []


def _note(path: object) -> None:
    """Note a path below the folder that is being watched."""
    if not _watched or not isinstance(path, str | bytes | os.PathLike):
        return
    folder, names = _watched[0]
    path = Path(os.fsdecode(path))
    if folder in path.parents:
        names.add(path.relative_to(folder).as_posix())


def _hook(event: str, arguments: tuple) -> None:
    if event == "open":
        _note(arguments[0])


sys.addaudithook(_hook)  # for good: Python takes none away


@pytest.fixture(scope="module", params=["llava", *families.FAMILIES])
def folder(request, tiny_llava, tmp_path_factory):
    folder = tmp_path_factory.mktemp("opened") / request.param
    if request.param == "llava":
        return Path(shutil.copytree(tiny_llava, folder))
    return families.save(request.param, folder)


@pytest.fixture
def loading(monkeypatch):
    """Load a folder and return the names that were opened or looked for in it."""

    def load(folder: Path) -> set[str]:
        names: set[str] = set()
        for module, name in ((os.path, "isfile"), (os.path, "exists"), (os, "stat")):
            plain = getattr(module, name)

            def noted(path, *args, _plain=plain, **settings):
                _note(path)
                return _plain(path, *args, **settings)

            monkeypatch.setattr(module, name, noted)
        _watched[:] = [(folder, names)]
        try:
            c3l.load_backbone(folder, device="cpu")
        finally:
            _watched.clear()
            monkeypatch.undo()
        return names

    return load


def _covered(name: str) -> bool:
    return any(
        PurePath(name).match(pattern) and name.count("/") == pattern.count("/") for pattern in FILES
    )


def test_what_loading_opens_or_looks_for_is_in_the_digest(folder, loading):
    names = loading(folder)
    assert {"config.json", "tokenizer.json", "processor_config.json"} <= names
    assert {"adapter_config.json", "added_tokens.json", "preprocessor_config.json"} <= names
    files = {name for name in names if (folder / name).is_file()}
    assert files <= set(weight_names(folder))
    # So are those that this folder does not have, and another may.
    lacking = {name for name in names if not (folder / name).exists()}
    folders = {"additional_chat_templates", "qformer_tokenizer"}
    folders |= {"qformer_tokenizer/additional_chat_templates"}
    assert [n for n in sorted(lacking - folders - REFUSED) if not _covered(n)] == []


@pytest.mark.parametrize("name", sorted(EXTRA))
def test_each_file_that_may_be_read_changes_digest_and_key(tiny_llava, tmp_path, name):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_llava, folder)
    before = (
        c3l.load_backbone(folder, device="cpu").digest,
        common.backbone_source(folder).key,
    )
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(EXTRA[name])
    assert name in weight_names(folder)
    after = c3l.load_backbone(folder, device="cpu").digest, common.backbone_source(folder).key
    assert before[0] != after[0] and before[1] != after[1]


@pytest.mark.parametrize("name", ADAPTER)
def test_an_adapter_beside_the_weights_is_refused(tiny_llava, tmp_path, name):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_llava, folder)
    (folder / name).write_text("{}")
    for look in (c3l.load_backbone, inspect, common.backbone_source):
        with pytest.raises(UserError, match=f"an adapter .{name}.*merge it first"):
            look(folder)


def test_the_way_to_merge_that_the_refusal_names_works(tiny_llava, tmp_path, monkeypatch):
    from peft import LoraConfig, PeftModel, get_peft_model

    plain = c3l.load_backbone(tiny_llava, device="cpu")
    tuned = get_peft_model(plain.model, LoraConfig(r=2, target_modules=["q_proj"]))
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    tuned.save_pretrained(tmp_path / "ADAPTER")
    folder = tmp_path / "both"
    shutil.copytree(tiny_llava, folder)
    shutil.copytree(tmp_path / "ADAPTER", folder, dirs_exist_ok=True)
    with pytest.raises(UserError) as refusal:
        c3l.load_backbone(folder, device="cpu")
    shutil.copytree(tiny_llava, tmp_path / "BASE")
    monkeypatch.chdir(tmp_path)
    exec(re.search('python -c "(.*?)"', str(refusal.value))[1], {})
    for file in tiny_llava.iterdir():
        if "token" in file.name or "template" in file.name or "processor" in file.name:
            shutil.copy(file, tmp_path / "OUT")
    merged = c3l.load_backbone(tmp_path / "OUT", device="cpu")
    assert isinstance(tuned, PeftModel) and merged.digest != plain.digest
    batch = merged.encode(["What is it?"])
    with torch.no_grad():
        # saved in half precision
        torch.testing.assert_close(
            merged.model(**batch).logits, tuned(**batch).logits, atol=2e-2, rtol=2e-2
        )
        with tuned.disable_adapter():
            assert (merged.model(**batch).logits - tuned(**batch).logits).abs().max() > 0.05


@pytest.mark.parametrize("name", ["sub/other.safetensors", "other.safetensors"])
def test_weights_of_another_name_are_not_followed(tiny_llava, tmp_path, name):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_llava, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"transformers_weights": name}))
    with pytest.raises(UserError, match=r"call the weights model\.safetensors"):
        c3l.load_backbone(folder, device="cpu")


def test_an_index_names_safetensors_alone(tiny_llava, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_llava, folder)
    (folder / "model.safetensors").rename(folder / "model.bin")
    index = {"weight_map": {"lm_head.weight": "model.bin"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"'model\.bin', which is no safetensors file"):
        c3l.load_backbone(folder, device="cpu")

"""What is wrong with published files is said by name, and nothing is left half-written."""

import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Blip2Config, Blip2ForConditionalGeneration, LlamaConfig

from c3l.artifacts.files import digest_file
from c3l.cli.app import main
from c3l.convert import llava, minigpt4, rules, writing
from c3l.convert.converted import model_shapes
from c3l.convert.keys import assemble
from c3l.convert.sources import Source, read_file, read_folder
from c3l.runtime.errors import UserError
from tests.c3l import original, published

ENCODER = [*rules.eva_vit("vision_model"), *rules.q_former()]
LINEAR = rules.minigpt4_projection("language_projection")


@pytest.fixture(scope="module")
def model():
    """The Vicuna kind with a language model of next to nothing."""
    text = LlamaConfig(
        hidden_size=published.WIDTH,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=8,
        pad_token_id=None,
    )
    config = Blip2Config(
        vision_config=published.EVA,
        qformer_config=published.Q_FORMER,
        text_config=text,
        num_query_tokens=published.QUERIES,
    )
    model = Blip2ForConditionalGeneration(config).double().eval()
    model.vision_model.post_layernorm.eps = minigpt4.NORM_EPS
    return model


@pytest.fixture(scope="module")
def shapes(model):
    """Of all but the language model."""
    found = model_shapes(type(model), model.config)
    return {k: v for k, v in found.items() if not k.startswith("language_model.")}


@pytest.fixture
def files():
    torch.manual_seed(0)
    return {
        "eva_vit_g.pth": published.eva_vit(),
        "blip2.pth": published.q_former(),
        "minigpt4.pth": published.minigpt4(12)["model"],
    }


def together(files, shapes):
    parts = [(Source(name, [], tensors), [*ENCODER, *LINEAR]) for name, tensors in files.items()]
    return assemble(parts, shapes)


def test_every_key_is_used_or_named(files, shapes):
    made = together(files, shapes)
    assert list(made.tensors) == list(shapes)
    inv_freq = "llama_model.model.layers.0.self_attn.rotary_emb.inv_freq"
    queries = ["t5_proj.weight", "t5_proj.bias", "Qformer.bert.embeddings.position_ids"]
    assert made.unused == {"eva_vit_g.pth": [], "blip2.pth": queries, "minigpt4.pth": [inv_freq]}
    used = sum(2 if "{q,v}" in name else 1 for _, name in made.origin.values())
    assert used + 4 == sum(map(len, files.values()))


def test_layers_the_model_does_not_have_are_named(files, shapes):
    deeper = published.eva_vit({**published.EVA, "num_hidden_layers": 4})
    made = together({**files, "eva_vit_g.pth": deeper}, shapes)
    assert len(made.unused["eva_vit_g.pth"]) == 13
    assert all("blocks.3." in name for name in made.unused["eva_vit_g.pth"])


def test_each_missing_tensor_is_an_error_that_names_it(files, shapes):
    made = together(files, shapes)
    unused = {name for names in made.unused.values() for name in names}
    target = {origin: name for name, origin in made.origin.items()}
    tried = 0
    for file, tensors in files.items():
        for name in tensors.keys() - unused:
            fewer = {k: v for k, v in tensors.items() if k != name}
            named = target.get((file, name), name)  # a bias that is joined goes by its own name
            with pytest.raises(UserError, match=re.escape(named)):
                together({**files, file: fewer}, shapes)
            tried += 1
    assert tried == sum(map(len, files.values())) - 4


def test_each_misshapen_tensor_is_an_error_that_names_it(files, shapes):
    unused = {name for names in together(files, shapes).unused.values() for name in names}
    for file, tensors in files.items():
        for name in tensors.keys() - unused:
            wrong = {**tensors, name: torch.cat([tensors[name]] * 2)}
            stem = re.escape(name.removesuffix("q_bias").removesuffix("v_bias"))
            with pytest.raises(UserError, match=stem):
                together({**files, file: wrong}, shapes)


def test_two_names_for_one_tensor(files, shapes):
    files["eva_vit_g.pth"]["visual_encoder.cls_token"] = files["eva_vit_g.pth"]["cls_token"]
    with pytest.raises(UserError, match=r"cls_token and visual_encoder\.cls_token"):
        together(files, shapes)


def test_of_two_files_the_later_counts_as_when_loaded_in_turn(files, shapes):
    files["minigpt4.pth"]["ln_vision.weight"] = torch.full((16,), 2.0, dtype=torch.float64)
    made = together(files, shapes)
    assert (made.tensors["vision_model.post_layernorm.weight"] == 2).all()
    assert "ln_vision.weight" in made.unused["blip2.pth"]


SWAPS = [
    ("eva_vit_g.pth", "blocks.0.attn.q_bias", "blocks.0.attn.v_bias"),
    ("eva_vit_g.pth", "blocks.1.norm1.weight", "blocks.1.norm2.weight"),
    ("eva_vit_g.pth", "blocks.0.mlp.fc1.weight", "blocks.2.mlp.fc1.weight"),
    (
        "blip2.pth",
        "Qformer.bert.encoder.layer.2.attention.output.dense.bias",
        "Qformer.bert.encoder.layer.2.crossattention.output.dense.bias",
    ),
    (
        "blip2.pth",
        "Qformer.bert.encoder.layer.1.attention.self.key.weight",
        "Qformer.bert.encoder.layer.1.attention.self.value.weight",
    ),
]


@torch.inference_mode()
def test_two_tensors_swapped_are_another_function(model, files, shapes):
    pixels = torch.randn(2, 3, 28, 28, dtype=torch.float64)
    states = original.eva_vit(files["eva_vit_g.pth"], pixels, 4)
    expected = original.queried(files["blip2.pth"], files["minigpt4.pth"], states, 2)

    def distance(given):
        model.load_state_dict(together(given, shapes).tensors, strict=False)
        found = model.get_image_features(pixel_values=pixels).pooler_output
        return (torch.stack(list(found)) - expected).abs().max()

    assert distance(files) < 1e-8
    for file, one, other in SWAPS:
        tensors = files[file]
        swapped = {**tensors, one: tensors[other], other: tensors[one]}
        assert distance({**files, file: swapped}) > 1e-4, one


def _as_safetensors(folder, to):
    """A folder of the same model whose weights are safetensors, as Llama-2's are."""
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("pytorch_model*"))
    save_file(read_folder(folder).tensors, to / "model.safetensors")


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    torch.manual_seed(0)
    at = tmp_path_factory.mktemp("published")
    torch.save(published.mm_projector(), at / "mm_projector.bin")
    published.save_llama(at / "language")
    published.save_clip(at / "clip")
    _as_safetensors(at / "language", at / "llama-2")
    torch.save(published.eva_vit(), at / "eva_vit_g.pth")
    torch.save(published.minigpt4(64), at / "llama2.pth")
    return at


def test_files_that_cannot_be_read(at, tmp_path):
    class Code:
        pass

    Code.__qualname__ = "Code"
    globals()["Code"] = Code
    torch.save({"model": {"llama_proj.weight": Code()}}, tmp_path / "code.pth")
    with pytest.raises(UserError, match=r"code\.pth is a pickle of more than tensors"):
        read_file(tmp_path / "code.pth")
    whole = (at / "llama2.pth").read_bytes()
    for name, content in (("cut.pth", whole[: len(whole) // 2]), ("empty.safetensors", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            read_file(tmp_path / name)
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    with pytest.raises(UserError, match=r"none\.pth holds no tensors"):
        read_file(tmp_path / "none.pth")
    with pytest.raises(UserError, match="there is no file"):
        read_file(tmp_path / "nowhere.pth")
    with pytest.raises(UserError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        read_folder(tmp_path)


def test_torchs_old_format_is_read(at, tmp_path):
    tensors = read_file(at / "eva_vit_g.pth").tensors
    torch.save(tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    old = read_file(tmp_path / "old.pth").tensors
    assert old.keys() == tensors.keys()
    assert all(torch.equal(old[name], tensors[name]) for name in tensors)


def test_a_shard_that_is_missing(at, tmp_path):
    published.save_llama(tmp_path / "language")
    (tmp_path / "language" / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(UserError, match="pytorch_model-00002-of-00002"):
        llava.convert_projector(at / "mm_projector.bin", tmp_path / "language", at / "clip")


def whole_llava(at, folder, tower=True):
    """The folder of a whole LLaVA, made of the parts."""
    published.save_llama(folder, "llava")
    tensors = dict(read_folder(folder).tensors) | read_file(at / "mm_projector.bin").tensors
    if tower:
        clip = read_folder(at / "clip").tensors
        own = {k: v + 1 for k, v in clip.items() if k.startswith("vision_model.")}
        tensors |= {f"model.vision_tower.vision_tower.{k}": v for k, v in own.items()}
    for file in folder.glob("pytorch_model*"):
        file.unlink()
    published.save_bins(folder, tensors, 3)
    return tensors


@pytest.mark.parametrize("tower", [False, True])
def test_a_whole_llava(at, tmp_path, tower):
    tensors = whole_llava(at, tmp_path / "llava", tower)
    made = llava.convert_checkpoint(tmp_path / "llava", at / "clip").assembled
    to = "model.vision_tower.encoder.layers.0.mlp.fc1.bias"
    name = "vision_model.encoder.layers.0.mlp.fc1.bias"
    clip = read_folder(at / "clip").tensors
    own = tensors.get(f"model.vision_tower.vision_tower.{name}", clip[name])
    assert torch.equal(made.tensors[to], own)
    assert (name in made.unused["clip"]) == tower
    assert "text_model.final_layer_norm.bias" in made.unused["clip"]


def test_another_llava_than_1_5(at, tmp_path):
    whole_llava(at, tmp_path / "llava")
    config = tmp_path / "llava" / "config.json"
    config.write_text(config.read_text()[:-1] + ', "mm_projector_type": "linear"}')
    with pytest.raises(UserError, match="mm_projector_type: 'linear'"):
        llava.convert_checkpoint(tmp_path / "llava", at / "clip")


@pytest.fixture
def convert(at, monkeypatch, capsys):
    """A function that runs `python -m c3l convert` in this process: exit code, what it said."""
    monkeypatch.setattr(minigpt4, "EVA_VIT_G", published.EVA)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["c3l", "convert", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().err.strip()

    return run


def minigpt4_options(at, **changed):
    options = {"vision": "eva_vit_g.pth", "projection": "llama2.pth", "language": "llama-2"}
    given = {name: at / file for name, file in options.items()} | changed
    return [part for name, value in given.items() for part in (f"--{name}", value)]


def test_the_command_writes_a_folder_and_its_card(at, convert, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "SHARD", 100_000)
    out = tmp_path / "out"
    out.mkdir()
    code, said = convert("minigpt4-llama2", *minigpt4_options(at, out=out, dtype="float32"))
    assert not code, said
    assert "6 of the files' keys were not used" in said
    shards = sorted(out.glob("model-*.safetensors"))
    assert len(shards) > 1 and (out / "model.safetensors.index.json").is_file()
    tensors = {k: v for shard in shards for k, v in load_file(shard).items()}
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert not list(out.glob("*.bin")) and list(tmp_path.iterdir()) == [out]
    card = (out / "README.md").read_text()
    for file in ("eva_vit_g.pth", "llama2.pth", "llama-2/model.safetensors"):
        assert f"| {file} | {digest_file(at / file)} |" in card
    assert "llama2.pth: `optimizer`" in card
    assert "`model.vision_tower.post_layernorm.weight`" in card
    assert "| `model.multi_modal_projector.linear.weight` | [32, 64] | float32 |" in card
    assert str(at) not in card and str(tmp_path) not in card


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["llava", "--vision", "x", "--out", "y"], "give either --checkpoint, or --projection"),
        (["minigpt4-llama2", "--out", "y"], "Missing option '--vision'"),
        (["minigpt4"], "No such command 'minigpt4'"),
    ],
)
def test_bad_usage_is_one_sentence(convert, options, words):
    code, said = convert(*options)
    assert code == 2
    assert words in said and len(said.splitlines()) == 1


def test_what_is_wrong_is_said_and_nothing_is_left(at, convert, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def refused(words, **changed):
        code, said = convert("minigpt4-llama2", *minigpt4_options(at, **{"out": out} | changed))
        assert (code, len(said.splitlines())) == (2, 1), said
        assert words in said
        assert not out.exists()

    refused("dtype int8 is unknown", dtype="int8")
    refused("there is no file", vision=at / "eva.pth")
    refused("/nowhere is no folder", out="/nowhere/out")
    refused("has no config.json", language=tmp_path)
    refused("where a Llama is needed", language=at / "clip")
    torch.save(published.minigpt4(12), tmp_path / "vicuna.pth")
    refused("llama_proj.weight in vicuna.pth has the shape", projection=tmp_path / "vicuna.pth")
    with monkeypatch.context() as full:
        full.setattr(writing, "save_file", _no_space)
        refused("cannot be written (No space left on device)")
    assert [path.name for path in tmp_path.iterdir()] == ["vicuna.pth"]
    out.mkdir()
    (out / "mine").write_text("kept")
    code, said = convert("minigpt4-llama2", *minigpt4_options(at, out=out))
    assert code == 2 and "exists and is not an empty folder" in said
    assert (out / "mine").read_text() == "kept"


def _no_space(*_, **__):
    raise OSError(28, "No space left on device")

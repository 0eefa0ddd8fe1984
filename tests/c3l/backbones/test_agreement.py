"""A processor that disagrees with its model is one sentence at load; one that does not, loads."""

import json
import re
import shutil

import pytest
from PIL import Image

import c3l
from c3l.backbones.loading import inspect
from c3l.runtime.errors import UserError
from tests.c3l import families

SQUARE = {"height": 24, "width": 24}
CROPPED = {"size": {"shortest_edge": 24}, "do_center_crop": True, "crop_size": SQUARE}
PICTURES = [Image.new("RGB", (40, 20), (9, 80, 200)), Image.new("RGB", (20, 40), (200, 10, 10))]


@pytest.fixture(scope="module")
def folders(tiny_llava, tmp_path_factory):
    place = tmp_path_factory.mktemp("agreement")
    names = ("minigpt4", "blip2", "instructblip", "idefics")
    return {"llava": tiny_llava} | {name: families.save(name, place / name) for name in names}


@pytest.fixture
def changed(folders, tmp_path):
    """A family's folder with other settings; None removes one."""

    def change(family, settings=None, images=None, config=None):
        folder = tmp_path / family
        shutil.copytree(folders[family], folder, dirs_exist_ok=True)
        for name, part, values in (
            ("processor_config.json", None, settings),
            ("processor_config.json", "image_processor", images),
            ("config.json", None, config),
        ):
            content = json.loads((folder / name).read_text())
            node = content[part] if part else content
            node |= values or {}
            for key in [key for key, value in (values or {}).items() if value is None]:
                del node[key]
            (folder / name).write_text(json.dumps(content))
        return folder

    return change


def _said(folder) -> str:
    sentences = set()
    for look in (c3l.load_backbone, inspect):
        with pytest.raises(UserError) as error:
            look(folder)
        sentences.add(str(error.value))
    (sentence,) = sentences
    assert "\n" not in sentence and str(folder) in sentence
    return sentence


COUNTED = [
    ("llava", "patch_size", None, "patch_size to 8"),
    ("llava", "patch_size", 16, "patch_size to 8 .it is 16."),
    ("llava", "patch_size", "8", 'patch_size to 8 .it is "8".'),
    ("llava", "patch_size", 8.0, "patch_size to 8 .it is 8.0."),
    ("llava", "num_additional_image_tokens", None, "num_additional_image_tokens to 1 .it is 0."),
    ("llava", "num_additional_image_tokens", 3, "num_additional_image_tokens to 1"),
    ("llava", "vision_feature_select_strategy", "full", 'select_strategy to "default"'),
    ("llava", "vision_feature_select_strategy", None, 'select_strategy to "default"'),
    ("minigpt4", "patch_size", None, "patch_size to 8"),
    ("minigpt4", "patch_size", 4, "patch_size to 8 .it is 4."),
    ("minigpt4", "num_additional_image_tokens", 0, "num_additional_image_tokens to 1"),
    ("blip2", "num_query_tokens", None, "num_query_tokens to 9"),
    ("blip2", "num_query_tokens", 32, "num_query_tokens to 9 .it is 32."),
    ("blip2", "num_query_tokens", 9.0, "num_query_tokens to 9 .it is 9.0."),
    ("instructblip", "num_query_tokens", None, "num_query_tokens to 9"),
]


@pytest.mark.parametrize(("family", "key", "value", "said"), COUNTED)
def test_a_setting_by_which_image_tokens_are_counted(changed, family, key, value, said):
    assert re.search(
        f"set .*{said}.* in .*processor_config.json", _said(changed(family, {key: value}))
    )


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ({"size": {"height": 48, "width": 48}}, '3×48×48 .* 3×24×24 .* size to {"height": 24'),
        (
            {"size": {"shortest_edge": 24}},
            "3×24×48 .* set its do_center_crop to true and crop_size",
        ),
        ({"size": {"shortest_edge": 48}}, 'its size to {"shortest_edge": 24} and do_center_crop'),
        ({"size": {"height": 24, "width": 48}}, '3×24×48 .* set its size to {"height": 24'),
        ({"size": {"longest_edge": 24}}, 'cannot prepare a picture .* size to {"height": 24'),
        ({"do_resize": False}, "3×20×40 .* set its do_resize to true"),
        ({"do_center_crop": True}, "3×224×224 .* set its crop_size to"),
        (CROPPED | {"crop_size": {"height": 20, "width": 24}}, "3×20×24 .* crop_size to"),
        ({"image_std": [0.0, 0.0, 0.0]}, "not finite; its image_std must hold no zero"),
        ({"image_mean": [0.5, 0.5]}, "cannot prepare a picture .*must match the size"),
        ({"resample": 99}, "cannot prepare a picture"),
        ({"image_processor_type": "PixtralImageProcessor"}, "3×16×32 .* but the model reads"),
        ({"image_processor_type": "NoSuchProcessor"}, "no usable processor"),
    ],
)
@pytest.mark.parametrize("family", ["llava", "blip2"])
def test_an_image_processor_that_makes_other_pictures(changed, family, images, said):
    assert re.search(said, _said(changed(family, images=images)))


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ({"image_size": 48}, "3×48×48 .* set its image_size to 24"),
        ({"do_resize": False}, "3×20×40 .* set its do_resize to true$"),
        ({"image_mean": [0.5, 0.5]}, "cannot prepare a picture"),
    ],
)
def test_idefics_has_an_image_processor_of_its_own(changed, images, said):
    assert re.search(said, _said(changed("idefics", images=images)))


HARMLESS = [
    ({}, CROPPED),
    ({}, CROPPED | {"size": {"shortest_edge": 48}}),
    ({}, {"do_normalize": False, "do_rescale": False}),
    ({}, {"crop_size": {"height": 7, "width": 7}, "resample": 0}),
    ({}, {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}),
    ({}, {"image_processor_type": "CLIPImageProcessorFast"}),
    # Other settings that come to the same number of tokens.
    ({"vision_feature_select_strategy": "full", "num_additional_image_tokens": 0}, {}),
    ({"patch_size": 7}, {}),
]


@pytest.mark.parametrize(("settings", "images"), HARMLESS)
def test_what_changes_neither_pixels_nor_tokens_loads_and_runs(changed, settings, images):
    backbone = c3l.load_backbone(changed("llava", settings, images), device="cpu")
    assert len(backbone.generate(["What?", "Why?"], PICTURES, max_new_tokens=2)) == 2


@pytest.mark.parametrize("family", ["llava", "minigpt4", "blip2", "instructblip", "idefics"])
def test_the_remedy_that_is_named_mends_it(changed, family):
    """Done as it says: an image processor of another size, in the older file of its own."""
    folder = changed(family)
    content = json.loads((folder / "processor_config.json").read_text())
    images = content.pop("image_processor")
    key = "image_size" if family == "idefics" else "size"
    good, images[key] = images[key], 48 if family == "idefics" else {"height": 48, "width": 48}
    (folder / "processor_config.json").write_text(json.dumps(content))
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    sentence = _said(folder)
    assert "preprocessor_config.json makes" in sentence
    assert json.loads(re.search(rf"set its {key} to (.*)$", sentence)[1]) == good
    (folder / "preprocessor_config.json").write_text(json.dumps(images | {key: good}))
    backbone = c3l.load_backbone(folder, device="cpu")
    assert len(backbone.generate(["What?", "Why?"], PICTURES, max_new_tokens=2)) == 2


def test_a_strategy_changed_in_the_models_configuration(changed):
    sentence = _said(changed("llava", config={"vision_feature_select_strategy": "full"}))
    assert "9 image tokens" in sentence and "10 features" in sentence
    assert "vision_feature_select_strategy" in sentence and "config.json" in sentence


@pytest.mark.parametrize("layer", [-9, "x"])
def test_a_configuration_that_reads_no_picture(changed, layer):
    assert "config.json" in _said(changed("llava", config={"vision_feature_layer": layer}))


def test_a_tokenizer_with_more_tokens_than_the_model_embeds(changed):
    folder = changed("llava")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["vocab_size"] = 4  # <image> is the fifth
    (folder / "config.json").write_text(json.dumps(config))
    assert "the token <image> at the place 4, but the model embeds 4 tokens" in _said(folder)


@pytest.mark.parametrize(("template", "times"), [("", 0), ("<image><image>", 2)])
def test_a_template_that_leaves_the_picture_out(changed, template, times):
    folder = changed("llava")
    file = folder / "chat_template.jinja"
    file.write_text(file.read_text().replace("<image>", template))
    assert f"writes <image> {times} times for one picture" in _said(folder)

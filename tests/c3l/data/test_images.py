"""What a folder of images lists, and what it names that it does not."""

import os
import sys
from collections import Counter

import pytest
from PIL import Image, features

from c3l.data import images as reading
from c3l.data.images import ImageFolder
from c3l.data.subset import ImageSubset
from c3l.runtime.errors import ImageError, UserError

PICTURE = Image.new("RGB", (8, 6), (200, 10, 10))


def save(path, format="PNG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.save(path, format=format)


def test_a_jfif_is_read_and_an_avif_where_pillow_can(tmp_path):
    save(tmp_path / "a.jfif", "JPEG")
    expected = ["a.jfif"]
    if features.check("avif"):
        save(tmp_path / "b.AVIF", "AVIF")
        expected.append("b.AVIF")
    folder = ImageFolder(tmp_path)
    names, left_out = folder.listed()
    assert (names, left_out) == (expected, [])
    assert all(folder[name].size == (8, 6) for name in names)


def test_what_is_not_listed_is_named_with_its_reason(tmp_path):
    save(tmp_path / "good.png")
    heic = {} if "HEIF" in reading.readable_formats() else {"shot.heic": "image_unsupported"}
    for name in ("clip.MP4", "deep/film.mov", *heic, "raw.cr2", "notes.txt", "data.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"anything")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    save(tmp_path / os.fsdecode(b"caf\xe9.png"))
    save(tmp_path / "café.png")
    names, left_out = ImageFolder(tmp_path).listed()
    assert names == ["café.png", "good.png"] == ImageFolder(tmp_path).names()
    assert {item.name: item.reason for item in left_out} == heic | {
        "clip.MP4": "video",
        "deep/film.mov": "video",
        "raw.cr2": "image_unsupported",
        "gone.png": "image_missing",
        "pipe.png": "image_unreadable",
        os.fsdecode(b"caf\xe9.png"): "not_utf8_name",
    }
    assert {item.place for item in left_out} == {str(tmp_path)}
    pictures = ImageSubset(ImageFolder(tmp_path), tmp_path / "links", 0)
    assert sorted(pictures.remaining()) == names
    assert pictures.unreadable == Counter(item.reason for item in left_out)


@pytest.mark.parametrize(
    ("head", "why", "words"),
    [
        (b"heic", "image_unsupported", "install pillow-heif"),
        (b"isom", "video", "is a video"),
        (None, "image_unreadable", "cannot be read"),
    ],
)
def test_what_is_in_a_file_decides_whatever_it_is_called(tmp_path, head, why, words):
    if head == b"heic" and "HEIF" in reading.readable_formats():
        pytest.skip("pillow-heif is installed")
    content = b"no picture" if head is None else b"\0\0\0\x18ftyp" + head + bytes(32)
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=words) as error:
        ImageFolder(tmp_path)["a.jpg"]
    assert error.value.reason == why


def test_links_to_folders_are_listed_as_they_are_read(tmp_path):
    """Each folder once, by its own name where it has one, and never around in a circle."""
    root, other = tmp_path / "root", tmp_path / "other"
    save(root / "own" / "a.png")
    save(other / "deep" / "b.png")
    (root / "a-link").symlink_to(root / "own")
    (root / "circle").symlink_to(root)
    (root / "out").symlink_to(other)
    (other / "deep" / "back").symlink_to(other)
    folder = ImageFolder(root)
    assert folder.names() == ["out/deep/b.png", "own/a.png"]
    for name in (*folder.names(), "a-link/a.png", "circle/own/a.png"):
        assert folder[name].size == (8, 6)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_folder_that_is_closed_is_named(tmp_path):
    save(tmp_path / "closed" / "a.png")
    (tmp_path / "closed").chmod(0)
    try:
        _, (item,) = ImageFolder(tmp_path).listed()
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert (item.name, item.reason) == ("closed", "folder_unreadable")


def test_a_folder_of_videos_alone_is_a_sentence(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"video")
    with pytest.raises(UserError, match=r"no image in .* that can be read \(video 1\)"):
        ImageSubset(ImageFolder(tmp_path), tmp_path / "links", 0)


def test_heif_is_read_where_pillow_heif_is(tmp_path, monkeypatch):
    """Its opener is registered and its suffixes are listed; a stand-in has no codec."""
    registered = []
    stand_in = type(sys)("pillow_heif")
    stand_in.register_heif_opener = lambda: registered.append(True)
    monkeypatch.setitem(sys.modules, "pillow_heif", stand_in)
    monkeypatch.setattr(reading, "find_spec", lambda name: name == "pillow_heif")
    reading.readable_formats.cache_clear()
    try:
        (tmp_path / "a.HEIC").write_bytes(b"anything")
        assert ImageFolder(tmp_path).names() == ["a.HEIC"] and registered == [True]
    finally:
        reading.readable_formats.cache_clear()

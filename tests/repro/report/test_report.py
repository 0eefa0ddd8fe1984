"""The report's file: what it holds, that data stay data, and what is drawn from them."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from c3l.samples import ImageFolder
from repro.report import cells
from repro.report.page import TEMPLATE, colour_level, render_page, security_policy
from repro.report.samples import draw_sample
from repro.report.thumbnails import SIDE, TextPool, Thumbnails
from tests.repro import made_run
from tests.repro.made_run import HOSTILE


class Page(HTMLParser):
    """The tags with their attributes, the data, and all other text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.data, self.words = "", ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._inside = dict(attributes).get("id", tag) if tag in ("script", "style") else ""

    def handle_endtag(self, tag):
        self._inside = "" if tag in ("script", "style") else self._inside

    def handle_data(self, text):
        if self._inside == "data":
            self.data += text
        elif not self._inside:
            self.words += text

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


@pytest.fixture(scope="module")
def text(tiny_llava, tmp_path_factory):
    return made_run.make(tmp_path_factory.mktemp("report"), tiny_llava)


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_the_file_asks_for_nothing_outside_it(page):
    """Of what a browser would follow without being told to: links in it are within it too."""
    addresses = [
        attributes[name]
        for _, attributes in page.tags
        for name in ("src", "href", "action", "data", "srcset", "poster")
        if attributes.get(name)
    ]
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    (content,) = [a["content"] for _, a in page.tags if "http-equiv" in a]
    assert content.startswith("default-src 'none'; ")
    assert "unsafe" not in content and "http" not in content


def test_no_text_of_the_data_is_markup(page, text):
    assert page.count("script") == 2  # the data and ours
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert "alert(1)" in page.words  # said, not run: in a reason and a claim
    for hostile in HOSTILE[:3]:
        assert hostile in page.words
        assert any(hostile in some for some in json.loads(page.data)["texts"])
    text.encode()  # no half of a surrogate pair is left
    assert "half a pair \ufffd of surrogates" in json.loads(page.data)["texts"]


@settings(max_examples=40)
@given(text=st.text(st.characters(exclude_categories=())))
def test_any_text_comes_out_of_the_data_as_it_went_in(text):
    lists = {name: [] for name in ("tables", "missing", "claims", "pools", "unscored")}
    known = {"tables": [], "versions": {}, "settings": {}, "devices": []}
    page = lists | {"profile": text, "verdicts": {}}
    most = dict.fromkeys(("questions", "pairs", "pool", "seed"), 0)
    page["provenance"] = known | {"interval": "", "artefacts": 0, "most": most}
    contents = SimpleNamespace(page=page, data={"texts": [text]})
    found = Page(render_page(contents))
    whole = re.sub("[\ud800-\udfff]", "\ufffd", text)
    assert json.loads(found.data) == {"texts": [whole]}
    assert (found.count("script"), found.count("b")) == (2, 1)


def test_every_cell_leads_to_its_questions_and_artefacts(page):
    data = json.loads(page.data)
    opened = [a["data-cell"] for _, a in page.tags if "data-cell" in a]
    assert opened == list(data["cells"])
    assert len(opened) == 3 * 3 + 2 + 2 * 3
    for cell in data["cells"].values():
        for run in cell["runs"]:
            artefact = data["artefacts"][run["artefact"]]
            if artefact["stage"] == "unscored":
                assert run["result"] is None
                continue
            result = data["results"][run["result"]]
            shown = data["sets"][result["set"]]
            size = len(shown["id"])
            assert size == shown["total"] > 0
            columns = ("category", "question", "options", "answers", "image")
            assert {len(shown[name]) for name in columns} | {len(result["right"])} == {size}
            assert all(image is not None for image in shown["image"])
            assert all(len(result[name]) == size for name in ("said", "notes") if result.get(name))
    assert max(max(some["image"]) for some in data["sets"]) < len(data["images"])


def test_a_question_has_what_was_asked_said_and_expected(page):
    data = json.loads(page.data)
    first, second = data["cells"]["table4/0/SEED"]["runs"]
    assert (first["name"], second["name"]) == (
        "data seed 0, tuning seed 0",
        "data seed 0, tuning seed 1",
    )
    result, other = (data["results"][run["result"]] for run in (first, second))
    shown = data["sets"][result["set"]]
    assert shown is data["sets"][other["set"]]
    text = data["texts"].__getitem__
    assert text(shown["id"][1]) == "1001"
    assert text(shown["question"][1]) == "Which option belongs to number 1?"
    assert [text(k) for k in shown["options"][1]][3] == "D. option 3 of 1"
    assert text(shown["answers"][1]) == "B. option 1 of 1"
    assert text(result["said"][1]) == "B. option 1 of 1"
    assert text(result["said"][5]) == HOSTILE[2]
    assert "cannot read" in text(result["notes"][5])
    assert result["right"] == "1" * 10 + "0" * 14
    assert other["right"] == "1" * 11 + "0" * 13


def test_an_artefact_leads_to_what_it_was_made_from(page):
    data = json.loads(page.data)
    place = data["cells"]["table4/0/POPE"]["runs"][0]["artefact"]
    chain = []
    while isinstance(place, int):
        artefact = data["artefacts"][place]
        assert len(artefact["key"]) == 64 and artefact["seconds"] >= 0
        chain.append(artefact["stage"])
        inputs = artefact["inputs"]
        place = next((inputs[k] for k in ("weights", "generator", "samples") if k in inputs), None)
    assert chain == ["evaluation", "final", "scores", "filtered"]
    # what no stage made is named, without where it lies on this machine
    assert data["artefacts"][0]["inputs"]["images"][0] == "images"


def test_what_is_not_there_is_said_with_its_reason_and_command(page):
    assert "nobody judged <script>alert(1)</script>" in page.words
    assert "python -m repro table1" in page.words
    assert "1 image missing" in page.words  # a pair of the pool without a score
    assert "2 duplicate" in page.words


def test_figures_claims_and_pools_are_drawn(page):
    plots = [a for tag, a in page.tags if tag == "img" and "plot" in a.get("class", "")]
    assert len(plots) == 3  # figure 3, and histogram and score against length of one pool
    assert all(a["src"].startswith("data:image/svg+xml;base64,") and a["alt"] for a in plots)
    claims = [a["data-verdict"] for tag, a in page.tags if tag == "article"]
    assert claims == ["undecided"] or claims == ["reproduced"]
    assert "up4" in {a.get("class") for tag, a in page.tags if tag == "ruby"}


NUMBERS = st.floats(-1e3, 1e3, allow_subnormal=False)


@given(
    found=st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, st.booleans()), max_size=5),
    zero=st.booleans(),
)
def test_bars_lie_on_their_scale_in_order(found, zero):
    rows = [
        {"value": value, "interval": sorted((a, b)) if known else None}
        for a, b, value, known in found
    ]
    scale = cells.bar_scale(rows, zero=zero)
    bars = [(row, cells.interval_bar(row, scale)) for row in rows]
    for row, bar in bars:
        assert (bar is None) == (scale is None or row["interval"] is None)
        if bar:
            assert 4 <= bar["low"] <= bar["high"] <= 96 and 4 <= bar["value"] <= 96
            assert bar["zero"] is not None or not zero
    if scale:
        places = [bar[end] for _, bar in bars if bar for end in ("low", "high", "value")]
        places += [bar["zero"] for _, bar in bars if bar and bar["zero"] is not None]
        assert (min(places), max(places)) == (4, 96)


def test_every_table_has_a_caption_and_scopes(page):
    assert page.count("table") == page.count("caption") > 4
    assert all(a.get("scope") in ("col", "row") for tag, a in page.tags if tag == "th")


@given(size=st.integers(0, 50), most=st.integers(0, 60), seed=st.integers(0, 9))
def test_a_draw_keeps_the_order_and_holds_what_fits(size, most, seed):
    drawn = draw_sample(range(size), most, seed)
    assert drawn == sorted(set(drawn)) and len(drawn) == min(size, most)
    assert drawn == draw_sample(range(size), most, seed)


def test_an_image_is_kept_once_and_small(tmp_path):
    Image.effect_noise((300, 150), 50).save(tmp_path / "a.png")
    Image.effect_noise((20, 20), 50).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"no image")
    pictures, folder = Thumbnails(), ImageFolder(tmp_path)
    whole = (tmp_path / "a.png").read_bytes()
    assert [pictures.add(whole), pictures.add(whole)] == [0, 0]
    assert [pictures.add_named(folder, "b.png") for _ in range(2)] == [1, 1]
    assert pictures.add(b"no image") is pictures.add(None) is None
    assert pictures.add_named(folder, "c.png") is pictures.add_named(folder, "../d.png") is None
    assert len(pictures.uris) == 2
    with Image.open(io.BytesIO(base64.b64decode(pictures.uris[0].split(",")[1]))) as small:
        assert (small.format, small.size) == ("WEBP", (SIDE, SIDE // 2))


def test_a_text_is_kept_once():
    texts = TextPool()
    assert [texts.add(text) for text in ("a", "b", "a")] == [0, 1, 0]
    assert texts.strings == ["a", "b"]


def test_a_tokens_colour_grows_with_what_it_adds():
    order = [colour_level(adds) for adds in (-1, -0.1, 0, 0.2, 1, 2, 10)]
    assert order == ["down2", "down1", "", "up1", "up2", "up3", "up4"]


def test_the_policy_names_the_style_and_script_that_are_there():
    assert security_policy("a", "b") != security_policy("a", "c") != security_policy("b", "c")


def _luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_words_can_be_told_from_what_they_stand_on(scheme):
    """WCAG 2, level AA: 4.5 to 1."""
    style = (TEMPLATE / "page.css").read_text()
    found = re.findall(r"--(\w+): light-dark\((#\w{6}), (#\w{6})\)", style)
    colour = {name: _luminance(both[scheme]) for name, *both in found}
    pairs = [
        (word, ground)
        for word in ("ink", "muted", "link", "good", "bad", "open")
        for ground in ("paper", "raised")
    ]
    pairs += [("ink", name) for name in colour if re.match("up|down", name)]
    assert len(pairs) == 18
    for pair in pairs:
        low, high = sorted(colour[name] for name in pair)
        assert (high + 0.05) / (low + 0.05) >= 4.5, pair

"""What is looked at before a run, and that each thing missing is found by name."""

import json
import shutil

import pytest
import torchvision

from c3l.runtime.hub import seal_weights
from repro import profile as profiles
from repro.checks import doctor
from tests.repro import toy


@pytest.fixture
def place(tmp_path, tiny_llava):
    """A folder with a toy profile and a backbone of its own, to be broken."""
    shutil.copytree(tiny_llava, tmp_path / "backbone")
    toy.profile(tmp_path, tmp_path / "backbone")
    return tmp_path


def examined(place, *changes) -> dict[str, doctor.Finding]:
    profile = profiles.load(str(place / "toy.yaml"), list(changes))
    return {finding.part: finding for finding in doctor.examine_profile(profile, place / "runs")}


def test_a_whole_profile_lacks_nothing(place):
    done = toy.repro("doctor", "--profile", place / "toy.yaml", "--runs", place / "runs")
    assert done.returncode == 0, done.stderr
    assert "MISSING" not in done.stdout
    for said in ("backbone LLaVA-13B", "6 images are used of", "rows in", "torchvision"):
        assert said in done.stdout
    assert not (place / "runs").exists()


def test_a_missing_thing_is_exit_2_after_all_was_looked_at(place):
    (place / "backbone" / "model.safetensors").unlink()
    done = toy.repro("doctor", "--profile", place / "toy.yaml", "--runs", place / "runs")
    assert done.returncode == 2
    assert done.stdout.count("MISSING") == 2  # both labels stand for this folder
    assert "benchmark MMB" in done.stdout
    assert done.stderr.splitlines() == [
        f"2 of {done.stdout.count(chr(10)) - 2} things are missing: see above."
    ]


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def other_family(path):
    path.write_text(path.read_text().replace('"llava"', '"resnet"'))


def another_shard(path):
    path.write_text(json.dumps({"weight_map": {"a": "model-00002-of-00002.safetensors"}}))


@pytest.mark.parametrize(
    ("file", "harm", "part", "said"),
    [
        ("backbone/model.safetensors", cut, "backbone LLaVA-7B", "cut short"),
        ("backbone/config.json", other_family, "backbone LLaVA-7B", "unknown family 'resnet'"),
        ("backbone/config.json", cut, "backbone LLaVA-7B", "config.json is damaged"),
        ("backbone/tokenizer.json", cut, "backbone LLaVA-7B", "no usable processor"),
        (
            "backbone/model.safetensors.index.json",
            another_shard,
            "backbone LLaVA-7B",
            "model-00002-of-00002.safetensors is missing",
        ),
        ("world/initial/images", shutil.rmtree, "initial images", "no folder"),
        ("world/benchmarks/pope", shutil.rmtree, "benchmark POPE", "no data for pope"),
    ],
)
def test_what_is_broken_is_found_by_name(place, file, harm, part, said):
    harm(place / file)
    found = examined(place)[part]
    assert found.needed and said in found.remedy


def test_a_seal_that_does_not_match_is_found_with_both_remedies(place):
    seal_weights(place / "backbone")
    assert not examined(place)["backbone LLaVA-7B"].remedy
    file = place / "backbone" / "generation_config.json"
    file.write_text(file.read_text() + "\n")
    remedy = examined(place)["backbone LLaVA-7B"].remedy
    assert "generation_config.json does not match its digest" in remedy
    assert "Get it again" in remedy and "if it was edited on purpose, remove" in remedy


def test_damaged_benchmarks_and_too_few_images(place):
    for file in (place / "world" / "benchmarks" / "mmbench").rglob("*.parquet"):
        cut(file)
    found = examined(place, "sizes.final_images=99")
    assert "cannot be read as parquet" in found["benchmark MMB"].remedy
    assert "99 are asked for" in found["final images"].remedy


def test_what_only_leaves_cells_unscored_is_no_obstacle(place):
    shutil.rmtree(place / "world" / "comparison")
    found = examined(place, "scoring.judge=null")
    for part in ("judge", "data set LRV"):
        assert found[part].remedy and not found[part].needed
    assert "MISSING" not in doctor.render_findings(list(found.values()))


def test_a_dead_judge_and_a_key_that_is_not_set(place, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    judge = ("scoring.judge=http://127.0.0.1:9/v1", "scoring.judge_key=NO_SUCH_KEY")
    remedy = examined(place, *judge)["judge"].remedy
    assert "does not judge: Connection error" in remedy and "(NO_SUCH_KEY is not set)" in remedy


def test_a_folder_that_cannot_be_written(place):
    (place / "runs").write_text("a file")
    profile = profiles.load(str(place / "toy.yaml"))
    found = {f.part: f for f in doctor.examine_profile(profile, place / "runs")}["disk"]
    assert "cannot be written; give another folder" in found.remedy


def test_torchvision_of_another_build(place, monkeypatch):
    def broken(*args):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(torchvision.ops, "nms", broken)
    found = examined(place)["torch with torchvision"]
    assert "another build than torch (operator torchvision::nms" in found.remedy


def test_free_disk_is_set_beside_what_is_written(place, monkeypatch):
    profile = profiles.load(str(place / "toy.yaml"))

    def disk(free, seeds=1):
        usage = shutil._ntuple_diskusage(10**12, 0, free)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
        return doctor._disk(profile, place / "runs", seeds)

    need, least = doctor._need(profile, 1)
    assert need < doctor._need(profile, 2)[0] <= 2 * need
    assert not disk(int(need) + 1).remedy
    tight, full = disk(int(least) + 1), disk(int(least) - 1)
    assert tight.remedy.endswith("or run fewer tables or seeds") and not tight.needed
    assert "one model takes" in full.remedy and full.needed
    # what is there already need not be written again
    (place / "runs").mkdir()
    (place / "runs" / "kept").write_bytes(bytes(int(need)))
    assert not disk(int(least) + 1).remedy


def test_packages_of_an_extra_are_named_with_what_installs_them(monkeypatch):
    texts = ["numpy", 'no-a; extra == "eval"', 'no-b; extra == "report"', 'no-c; extra == "test"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: texts)
    found = {finding.part: finding for finding in doctor._packages()}
    assert found["packages"].remedy == ""
    benchmarks = found["packages for benchmarks"]
    assert (benchmarks.status, benchmarks.remedy) == (
        "no-a is not installed",
        "pip install 'c3l[eval]'",
    )
    assert benchmarks.needed and not found["packages for figures and the report"].needed
    assert not any("no-c" in finding.status for finding in found.values())

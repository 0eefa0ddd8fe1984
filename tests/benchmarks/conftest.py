"""What more than one test of the measuring needs."""

import importlib

import pytest


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """The pocket benchmarks about six scenes."""
    folder = tmp_path_factory.mktemp("world")
    build = importlib.import_module("benchmarks.pocket.build")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "BENCHMARK_SCENES", 6)
        build.write_benchmarks(folder / "benchmarks", seed=0)
    return folder

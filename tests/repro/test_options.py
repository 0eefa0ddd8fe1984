"""How many workers there are unless the user says so."""

from repro import options


def test_a_gpu_is_not_shared(tmp_path, monkeypatch):
    monkeypatch.setattr(options.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(options.os, "sysconf", lambda name: 2**17)  # 16 GiB: 2^17 pages of 2^17
    monkeypatch.setattr(options, "GPU", tmp_path / "none")
    assert options.default_jobs() == 8
    monkeypatch.setattr(options.os, "sysconf", lambda name: 2**16)  # 4 GiB
    assert options.default_jobs() == 2
    monkeypatch.setattr(options, "GPU", tmp_path)
    assert options.default_jobs() == 1

"""Devices by name. No accelerator is needed: where one is asked for, torch is made to say so."""

from functools import partial

import pytest
import torch

import c3l
from c3l.backbones import loading
from c3l.backbones.loading import usable_device, usual_dtype
from c3l.backbones.quantisation import quantise
from c3l.runtime import distributed
from c3l.runtime.errors import UserError
from repro.checks import bench

ODD = ["foo", "cuda:x", "", "hpu", "meta", "xpu", "vulkan", "CPU", "privateuseone", "a\nb"]


@pytest.fixture
def apple(monkeypatch):
    """A machine whose torch says that it has an Apple GPU, and cannot use it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)


@pytest.mark.parametrize("name", ODD)
def test_an_unknown_device_is_one_sentence(tiny_llava, name):
    for look in (usable_device, lambda name: c3l.load_backbone(tiny_llava, device=name)):
        with pytest.raises(UserError, match="cannot be used here; try cpu") as error:
            look(name)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["cuda", "cuda:7", "mps", "mps:0"])
def test_an_absent_device_is_one_sentence(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for look in (usable_device, usual_dtype, partial(bench.scoring_report, quick=True)):
        with pytest.raises(UserError, match=f"device {name} cannot be used here; try cpu$"):
            look(name)


def test_an_apple_gpu_is_only_used_when_it_is_named(apple):
    assert usable_device(None).type == "cpu"
    with pytest.raises(UserError, match="cannot be used here; try cpu or mps"):
        usable_device("cuda")


def test_a_named_apple_gpu_is_asked_for(apple, monkeypatch):
    monkeypatch.setattr(
        loading.torch, "empty", lambda *_, device: type("T", (), {"device": device})()
    )
    assert usable_device("mps") == torch.device("mps")
    assert usual_dtype("mps") == "float32"
    with pytest.raises(UserError, match="device mps cannot be used here"):
        bench.scoring_report("mps", quick=True)


def test_several_processes_do_not_share_an_apple_gpu(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with (
        pytest.raises(UserError, match="cannot share an Apple GPU"),
        distributed.process_group("mps"),
    ):
        pass


def test_four_bits_are_refused_on_an_apple_gpu():
    linear = torch.nn.Linear(2, 2)
    linear.weight = type("Weight", (torch.nn.Parameter,), {"device": torch.device("mps")})(
        torch.zeros(2, 2)
    )
    with pytest.raises(UserError, match="no kernels for an Apple GPU; use lora"):
        quantise(torch.nn.Sequential(linear), ["0"])

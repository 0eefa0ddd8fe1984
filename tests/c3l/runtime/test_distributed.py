"""Several processes, without starting them: what is refused, and what the launcher reads."""

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env
from torch.distributed.fsdp import MixedPrecisionPolicy

from c3l.backbones import load_backbone
from c3l.losses import Losses
from c3l.runtime import distributed, fsdp
from c3l.runtime.errors import UserError
from c3l.training import tune
from tests.c3l.training import READINGS, SETTINGS
from tests.repro.toy import ROOT

LAUNCH = ROOT / "c3l" / "launch"


@pytest.fixture
def third_of_three(monkeypatch):
    launch = {"WORLD_SIZE": "3", "RANK": "2", "LOCAL_RANK": "2"}
    for name, value in (launch | {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}).items():
        monkeypatch.setenv(name, value)


def test_a_command_that_was_not_launched_is_alone(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")  # as a batch system may say of other things
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert distributed.world_size() == 1 and distributed.is_main_process()
    assert distributed.all_gather_call(lambda: 5) == [5] and distributed.run_on_all(lambda: 5) == 5
    with distributed.process_group("cuda:1") as device:
        assert device == "cuda:1"
    assert not torch.distributed.is_initialized()


def test_one_speaks(third_of_three):
    assert distributed.world_size() == 3 and not distributed.is_main_process()
    with pytest.raises(UserError, match="score works in one process"):
        distributed.require_single_process("score")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "RANK, WORLD_SIZE, MASTER_PORT, MASTER_ADDR are not"),
        ({"RANK": "0", "WORLD_SIZE": "two"}, "WORLD_SIZE, MASTER_PORT, MASTER_ADDR are not"),
        (dict.fromkeys(["RANK", "WORLD_SIZE", "MASTER_PORT"], "1"), "MASTER_ADDR is not"),
    ],
)
def test_half_a_launch_is_a_sentence(
    monkeypatch, given, words, backbone, samples, images, tmp_path
):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"LOCAL_RANK": "0"} | given).items():
        monkeypatch.setenv(name, value)
    assert distributed.is_main_process() and distributed.world_size() == 1
    with pytest.raises(UserError, match=words), distributed.process_group("cpu"):
        pass
    with pytest.raises(UserError, match=f"{words} a launcher's; unset LOCAL_RANK"):
        tune(backbone, samples, images, SETTINGS, READINGS, 0, tmp_path)


def test_processes_that_cannot_share_a_step_are_told(
    third_of_three, backbone, samples, images, tmp_path
):
    with pytest.raises(UserError, match=r"3 processes .* do not divide batch_size 4; .* of 3 as"):
        tune(backbone, samples, images, SETTINGS, READINGS, 0, tmp_path)


def test_the_launcher_reads_the_configurations():
    for name, kind in (("ddp", "MULTI_GPU"), ("fsdp", "FSDP")):
        config = load_config_from_file(str(LAUNCH / f"{name}.yaml"))
        assert config.distributed_type == kind
        assert config.mixed_precision == "no"


@pytest.fixture
def plugin(monkeypatch):
    """What the training is given where fsdp.yaml is launched."""
    from accelerate.commands.launch import _validate_launch_command

    words = ["--config_file", str(LAUNCH / "fsdp.yaml"), "--num_processes", "2", "script.py"]
    args, *_ = _validate_launch_command(launch_command_parser().parse_args(words))
    for name, value in prepare_multi_gpu_env(args).items():
        if name.startswith("FSDP_"):
            monkeypatch.setenv(name, value)
    return FullyShardedDataParallelPlugin()


def test_shards_are_planned_as_the_configuration_says(plugin, backbone):
    losses = Losses(backbone, None, READINGS)
    assert plugin.fsdp_version == 2 and plugin.reshard_after_forward is True
    assert not plugin.cpu_ram_efficient_loading
    fsdp.prepare_sharding(plugin, losses, "bf16")
    assert plugin.mixed_precision_policy == MixedPrecisionPolicy(
        param_dtype=torch.bfloat16, reduce_dtype=torch.float32
    )
    with pytest.raises(UserError, match="float16 cannot train in shards"):
        fsdp.prepare_sharding(plugin, losses, "fp16")
    plugin.fsdp_version = 1
    with pytest.raises(UserError, match="needs fsdp_version: 2"):
        fsdp.prepare_sharding(plugin, losses, "no")


def test_four_bits_are_not_put_in_shards(plugin, backbone):
    backbone.trainable("qlora")
    with pytest.raises(UserError, match="cannot be sharded"):
        fsdp.prepare_sharding(plugin, Losses(backbone, None, READINGS), "no")


def assert_layers_are_gathered(backbone, plugin):
    """The language model's layers and the vision encoder's are put in shards one by one."""
    losses = Losses(backbone, None, READINGS)
    plugin.set_auto_wrap_policy(losses)
    gathered = plugin.auto_wrap_policy.keywords["transformer_layer_cls"]
    assert type(backbone.model_part(backbone.decoder).layers[0]) in gathered
    assert all(any(isinstance(m, cls) for m in losses.modules()) for cls in gathered)


@pytest.mark.parametrize("tuning", ["lora", "language+projector"])
def test_the_layers_of_llava_are_gathered_one_by_one(backbone, plugin, tuning):
    backbone.trainable(tuning)
    assert_layers_are_gathered(backbone, plugin)


def test_the_layers_of_other_families_are_too(family, plugin):
    assert_layers_are_gathered(load_backbone(family, device="cpu"), plugin)

"""`python -m c3l` as `accelerate launch` starts it, with what only a test asks for.

KILLED_IN=N in the environment: the second process gets a SIGKILL in step N. And where the launcher
asks for FSDP, weights are put in shards on processors too: accelerate ignores it where there is no
GPU, though torch can. This puts its state as it would be with GPUs, and nothing else.
"""

import os
import signal

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

from c3l.cli.app import main
from c3l.trainer import LossTrainer

_made, _step = AcceleratorState.__init__, LossTrainer.training_step


def in_shards(self, *args, fsdp_plugin=None, **settings):
    made_before = bool(AcceleratorState._shared_state)
    _made(self, *args, fsdp_plugin=fsdp_plugin, **settings)
    if fsdp_plugin is not None and not made_before:
        assert self.distributed_type == DistributedType.MULTI_CPU
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP


def killed(self, *args, **settings):
    if self.state.global_step == int(os.environ["KILLED_IN"]) - 1 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return _step(self, *args, **settings)


if __name__ == "__main__":
    AcceleratorState.__init__ = in_shards
    if "KILLED_IN" in os.environ:
        LossTrainer.training_step = killed
    main()

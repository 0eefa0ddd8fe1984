"""`python -m c3l` in shards on processors: what accelerate allows on GPUs only.

accelerate ignores FSDP where there is no GPU, though torch shards there too. This puts its state
as it would be with GPUs, and nothing else.
"""

import os

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

from c3l.cli import main

_made = AcceleratorState.__init__


def _in_shards(self, *args, fsdp_plugin=None, **settings):
    first = not AcceleratorState._shared_state
    _made(self, *args, fsdp_plugin=fsdp_plugin, **settings)
    if first and fsdp_plugin is not None:
        assert self.distributed_type == DistributedType.MULTI_CPU
        if self.mixed_precision != "no":
            fsdp_plugin.set_mixed_precision(self.mixed_precision)
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP


if __name__ == "__main__":
    assert os.environ["ACCELERATE_USE_FSDP"] == "true"
    AcceleratorState.__init__ = _in_shards
    main()

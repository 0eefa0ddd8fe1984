"""Published checkpoints of random weights: `python -m tests.tried.published FOLDER`.

What has its size from its files is tiny, EVA ViT and Q-Former are as large as they are published.
"""

import sys
from pathlib import Path

import torch

from c3l.backbones.published import EVA_VIT_G, Q_FORMER, QUERIES
from tests.c3l import published


def write(folder: Path) -> None:
    """The files that `c3l convert` reads, named as `tests.tried.trials` types them."""
    torch.manual_seed(0)
    folder.mkdir()
    width = EVA_VIT_G["hidden_size"]
    queries = published.q_former(Q_FORMER, width, QUERIES)
    torch.save(halves(published.eva_vit(EVA_VIT_G)), folder / "eva_vit_g.pth")
    torch.save({"model": halves(queries)}, folder / "blip2.pth")
    torch.save(published.minigpt4(4 * width), folder / "llama2.pth")
    torch.save(published.minigpt4(Q_FORMER["hidden_size"]), folder / "vicuna.pth")
    torch.save(published.mm_projector(), folder / "mm_projector.bin")
    published.save_llama(folder / "vicuna")
    published.save_clip(folder / "clip")


def halves(tensors: dict) -> dict:
    return {name: tensor.half() for name, tensor in tensors.items()}


if __name__ == "__main__":
    write(Path(sys.argv[1]))

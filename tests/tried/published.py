"""Published checkpoints, tiny and of random weights: `python -m tests.tried.published FOLDER`."""

import sys
from pathlib import Path

import torch

from tests.c3l import published


def write(folder: Path) -> None:
    """The files that `c3l convert` reads, named as `tests.tried.trials` types them."""
    torch.manual_seed(0)
    folder.mkdir()
    torch.save(published.eva_vit(), folder / "eva_vit_g.pth")
    torch.save({"model": published.q_former()}, folder / "blip2.pth")
    torch.save(published.minigpt4(4 * published.EVA["hidden_size"]), folder / "llama2.pth")
    torch.save(published.minigpt4(published.Q_FORMER["hidden_size"]), folder / "vicuna.pth")
    torch.save(published.mm_projector(), folder / "mm_projector.bin")
    published.save_llama(folder / "vicuna")
    published.save_clip(folder / "clip")


if __name__ == "__main__":
    write(Path(sys.argv[1]))

"""`python -m c3l convert`: published checkpoints to folders that the other commands read."""

import importlib
from pathlib import Path
from typing import Annotated

import typer

from c3l.cli.common import MARKUP, option
from c3l.runtime.errors import UserError
from c3l.runtime.progress import echo

# The converters are imported by the commands: `--help` answers at once.

app = typer.Typer(
    no_args_is_help=False,
    rich_markup_mode=MARKUP,
    help="Convert published checkpoints to folders that --backbone reads.\n\nExample:\n"
    "  python -m c3l convert llava --checkpoint DIR --vision DIR --out DIR",
)

Out = Annotated[Path, option("--out", "DIR", "a new folder, or an empty one")]
Dtype = Annotated[
    str | None, option("--dtype", "NAME", "float32, bfloat16 or float16; otherwise as in the files")
]
Eva = Annotated[Path, option("--vision", "FILE", "eva_vit_g.pth")]
Llama = Annotated[Path, option("--language", "DIR", "its language model, as transformers has it")]
Linear = Annotated[Path, option("--projection", "FILE", "MiniGPT-4's own checkpoint")]


@app.command("minigpt4-llama2")
def minigpt4_llama2(
    vision: Eva, projection: Linear, language: Llama, out: Out, dtype: Dtype = None
) -> None:
    r"""MiniGPT-4 with Llama-2-7b-chat, without a Q-Former.

    Example:
      python -m c3l convert minigpt4-llama2 --vision eva_vit_g.pth \
          --projection pretrained_minigpt4_llama2_7b.pth \
          --language Llama-2-7b-chat-hf --out minigpt4
    """
    _convert("minigpt4", "convert_llama2", [vision, projection, language], out, dtype)


@app.command("minigpt4-vicuna")
def minigpt4_vicuna(
    vision: Eva,
    qformer: Annotated[Path, option("--qformer", "FILE", "blip2_pretrained_flant5xxl.pth")],
    projection: Linear,
    language: Llama,
    out: Out,
    dtype: Dtype = None,
) -> None:
    r"""MiniGPT-4 with Vicuna and BLIP-2's Q-Former.

    Example:
      python -m c3l convert minigpt4-vicuna --vision eva_vit_g.pth \
          --qformer blip2_pretrained_flant5xxl.pth \
          --projection prerained_minigpt4_7b.pth \
          --language vicuna-7b --out minigpt4-vicuna
    """
    _convert("minigpt4", "convert_vicuna", [vision, qformer, projection, language], out, dtype)


@app.command("llava")
def llava(
    vision: Annotated[Path, option("--vision", "DIR", "CLIP, as transformers has it")],
    out: Out,
    checkpoint: Annotated[
        Path | None, option("--checkpoint", "DIR", "a full LLaVA as its authors publish it")
    ] = None,
    projection: Annotated[
        Path | None, option("--projection", "FILE", "or a projector alone: mm_projector.bin")
    ] = None,
    language: Annotated[
        Path | None, option("--language", "DIR", "with the projector: its Vicuna")
    ] = None,
    dtype: Dtype = None,
) -> None:
    r"""LLaVA 1.5: a full model, or a stage-1 projector on its Vicuna.

    Example:
      python -m c3l convert llava --projection mm_projector.bin \
          --language vicuna-7b-v1.5 --vision clip-vit-large-patch14-336 \
          --out llava-stage-1
    """
    pair = projection is not None and language is not None
    if (checkpoint is None) != pair or (checkpoint and (projection or language)):
        raise UserError("give either --checkpoint, or --projection with --language")
    if checkpoint is not None:
        _convert("llava", "convert_checkpoint", [checkpoint, vision], out, dtype)
    else:
        _convert("llava", "convert_projector", [projection, language, vision], out, dtype)


def _convert(module: str, function: str, sources: list[Path], out: Path, dtype: str | None) -> None:
    """Write what a function of `c3l.convert` makes of the sources.

    Raises UserError for arguments that cannot work.
    """
    for path in sources:  # at once: torch takes seconds to import
        if not path.exists():
            raise UserError(f"there is no file or folder {path}; give what was published")
    from c3l.backbones.loading import named_dtype
    from c3l.convert.writing import require_free, save_converted

    require_free(out)
    precision = None if dtype is None else named_dtype(dtype)
    converter = importlib.import_module(f"c3l.convert.{module}")
    converted = getattr(converter, function)(*sources)
    save_converted(converted, out, precision)
    echo(f"{len(converted.assembled.tensors)} tensors are in {out}; its README.md says where from.")
    if unused := sum(map(len, converted.assembled.unused.values())):
        echo(f"{unused} of the files' keys were not used; they are listed there.")

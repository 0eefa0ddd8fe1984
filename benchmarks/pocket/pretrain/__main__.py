"""Rebuild the pocket backbones stage by stage; each stage writes a folder for the next."""

import json
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.pocket.scenes import WORLD_VERSION
from c3l.runtime.hub import seal_weights

BACKBONES = Path(__file__).resolve().parent.parent / "backbones"
STAGES = ("language", "vision")

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
WorkOption = Annotated[Path, typer.Option(help="Where the stages keep what they make.")]
DEFAULT_WORK = Path("runs/pretraining")


@app.command()
def language(
    work: WorkOption = DEFAULT_WORK,
    steps: int = 500,
    batch: int = 32,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> None:
    """Stage 1: the tokenizer and the language model, on text alone (7 minutes on two cores)."""
    from benchmarks.pocket.pretrain.language import train_language_model
    from benchmarks.pocket.pretrain.tokenizer import train_tokenizer

    tokenizer = train_tokenizer()
    model, card = train_language_model(
        tokenizer, steps=steps, size=batch, learning_rate=learning_rate, seed=seed
    )
    tokenizer.save_pretrained(work / "language")
    model.save_pretrained(work / "language")
    (work / "language" / "card.json").write_text(json.dumps(card, indent=2))


@app.command()
def vision(
    work: WorkOption = DEFAULT_WORK,
    steps: int = 800,
    batch: int = 128,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> None:
    """Stage 2: the CLIP vision encoder, on images with captions (5 minutes on one core)."""
    from benchmarks.pocket.pretrain.tokenizer import train_tokenizer
    from benchmarks.pocket.pretrain.vision import train_clip

    tokenizer = train_tokenizer()
    model, card = train_clip(
        tokenizer, steps=steps, size=batch, learning_rate=learning_rate, seed=seed
    )
    model.save_pretrained(work / "vision")
    (work / "vision" / "card.json").write_text(json.dumps(card, indent=2))


@app.command()
def llava(
    work: WorkOption = DEFAULT_WORK,
    out: Annotated[Path, typer.Option(help="Where the backbone is written.")] = BACKBONES
    / "llava-7b",
    alignment_steps: int = 60,
    caption_steps: int = 1200,
    lesson_steps: int = 300,
    sight_steps: int = 1500,
    instruction_steps: int = 1100,
    batch: int = 32,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> None:
    """Stages 3 and 4: align the connector, tune the whole (25 minutes on two cores)."""
    from transformers import AutoTokenizer, CLIPModel, LlamaForCausalLM

    from benchmarks.pocket.pretrain.llava import build_processor, train_llava

    tokenizer = AutoTokenizer.from_pretrained(work / "language")
    model, card = train_llava(
        CLIPModel.from_pretrained(work / "vision"),
        LlamaForCausalLM.from_pretrained(work / "language"),
        tokenizer,
        steps=(alignment_steps, caption_steps, lesson_steps, sight_steps, instruction_steps),
        size=batch,
        learning_rate=learning_rate,
        seed=seed,
        save=lambda model, step: model.save_pretrained(work / "llava-so-far"),
    )
    stages = {name: json.loads((work / name / "card.json").read_text()) for name in STAGES}
    save_backbone(model, build_processor(tokenizer), out, stages | {"llava": card})


@app.command()
def relatives(
    names: Annotated[list[str] | None, typer.Argument(help="Which; default: all.")] = None,
    llava: Annotated[Path, typer.Option(help="What they come from.")] = BACKBONES / "llava-7b",
    out: Annotated[Path, typer.Option(help="Where their folders are written.")] = BACKBONES,
    sight_steps: int = 2500,
    query_steps: int = 1500,
    tuning_steps: int = 300,
    batch: int = 32,
    learning_rate: float = 5e-4,
    seed: int = 0,
) -> None:
    """The other families and sizes from the finished LLaVA (MiniGPT-4 first: its EVA ViT serves
    the others; about ten minutes each on one core)."""
    from benchmarks.pocket.pretrain import relatives
    from c3l.backbones import load_backbone

    teacher = load_backbone(llava, device="cpu")
    for name in names or relatives.RELATIVES:
        eva = None
        if name != "minigpt4":
            eva = load_backbone(out / "minigpt4", device="cpu").model.model.vision_tower
        backbone = relatives.build_relative(name, teacher.model, eva, teacher.tokenizer, seed)
        card = relatives.train_relative(
            backbone,
            teacher,
            new_encoder=eva is None,
            sight_steps=sight_steps if eva is None else query_steps,
            tuning_steps=tuning_steps,
            size=batch,
            learning_rate=learning_rate,
            seed=seed,
        )
        stages = {f"from {llava.name}": card}
        save_backbone(backbone.model, backbone.processor, out / name, stages)


def save_backbone(model, processor, out: Path, stages: dict[str, dict]) -> None:
    """Write the backbone as fp16 safetensors with its processor and its card."""
    for config in (model.config, *(getattr(model.config, k) for k in model.config.sub_configs)):
        config._name_or_path = ""  # transformers would write where on this machine it came from
    model.half().save_pretrained(out)
    processor.save_pretrained(out)
    lines = [
        f"# Pocket {out.name}",
        "",
        f"A `{type(model).__name__}` of {sum(p.numel() for p in model.parameters()):,} parameters,",
        f"pre-trained on world version {WORLD_VERSION} by `python -m benchmarks.pocket.pretrain`;",
        "stored as fp16, run as float32. What it was taught, stage by stage:",
    ]
    for name, facts in stages.items():
        lines += ["", f"## {name}", "", "| | |", "|---|---|"]
        lines += [
            f"| {fact} | {value:.3f} |" if isinstance(value, float) else f"| {fact} | {value} |"
            for fact, value in facts.items()
        ]
    (out / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    seal_weights(out)


if __name__ == "__main__":
    app()

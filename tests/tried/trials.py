"""What a new user types, in this order, in a clean clone.

A trial shares what those before it have made, as a reader's commands do.
"""

from dataclasses import dataclass

HOME = "/home/you"
"""Stands for the machine's own folders on the page."""

SMALL = (
    "--runs small --set sizes.initial_images=10 --set sizes.final_images=10"
    " --set sizes.final_samples=30 --set sizes.tuning_seeds=1"
    " --set scoring.tasks.SEED=seedbench"
)
POCKET = "benchmarks/pocket/backbones/llava-7b"
# What the pocket profile trains its models with: too small for LoRA at the paper's step size.
POCKET_TRAINING = "--set tuning=language+projector --set training.learning_rate=2e-4"
# And writes: it fills as many tokens as it is given, and the defaults are a real model's.
POCKET_WRITING = (
    "--set generation.caption_tokens=96 --set generation.pair_tokens=160"
    " --set generation.pairs_per_class=3"
)
WORLD = "runs/store/pocket-world/*"
PUBLISHED = "published"


@dataclass(frozen=True)
class Trial:
    """One command line."""

    line: str
    """As typed, on one line of a shell."""
    about: str
    """What it is for, in a sentence."""
    code: int = 0
    """The exit code that it must have."""
    shown: bool = True
    """Whether the page has what was printed."""
    number: bool = False
    """Whether a number of a table must come: how long the first one took stands on the page."""


@dataclass(frozen=True)
class Section:
    title: str
    about: str
    trials: tuple[Trial, ...]
    lines: tuple[int, int] = (5, 1)
    """First and last lines shown of an output that has more."""


def table(name: str, about: str) -> Trial:
    return Trial(f"python -m repro {name} --seeds 1 $SMALL", about, number=True)


INSTALL = Trial(
    "python3.11 -m venv .venv && . .venv/bin/activate && "
    "pip install -c constraints.txt -e '.[eval,quant,report]'",
    "Installs all that is needed, into a folder of the clone.",
    shown=False,
)

FIRST = Section(
    "The first table",
    "At its real size, with one seed.",
    (
        INSTALL,
        Trial("python -m repro --help", "Lists the commands.", shown=False),
        Trial("python -m repro doctor", "Whether all that the tables need is there."),
        Trial(
            "python -m repro plan table4 --seeds 1", "What a table would take, without making it."
        ),
        Trial(
            "python -m repro table4 --seeds 1",
            "The paper's ablation, from making the data to scoring the models.",
            number=True,
        ),
        Trial(
            "python -m repro table4 --seeds 1",
            "The same again: everything is stored.",
            number=True,
        ),
        Trial(
            "python -m repro compare table4 --seeds 1",
            "Which of the paper's claims about it hold.",
        ),
        Trial("python -m repro report", "One HTML file of what has been run."),
    ),
)

TABLES = Section(
    "Every table, small",
    "At full size `all` takes over an hour ([results.md](../results.md)). Ten images to learn "
    "from, 30 samples to tune on, one model a row and the quicker kind of SEED show in minutes "
    "what each command prints; **the numbers mean nothing**, for so few samples teach a model "
    "next to nothing. Set once:",
    (
        Trial(
            "python -m repro plan all --seeds 1 $SMALL",
            "What all tables would take, and how much of it they share.",
        ),
        table("table4", "The ablation, for the time to a number that means nothing."),
        table("table1", "The paper's eleven rows on four benchmarks."),
        table("table2", "How large our data are beside sets that others made, and how long."),
        table("table3", "What tuning on our data gives beside tuning on those sets."),
        table("table5", "Other ways to select the data."),
        table("table6", "Each form of the score against the truth of the pairs that it ranks."),
        table("table7", "The full method with one reading of the paper changed at a time."),
        table("figure3", "How much of the data is selected, as a table and a plot."),
        table("figure4", "Pairs made without and with C³L about the same images."),
        table("all", "All of them but table 7; here everything is stored already."),
        Trial("python -m repro compare all --seeds 1 $SMALL", "All the paper's claims at once."),
        Trial("python -m repro report $SMALL", "The HTML report with all tables in it."),
    ),
    lines=(2, 1),
)

CHECKS = Section(
    "Checks",
    "Of a model, of the pocket world, of speed.",
    (
        Trial(
            f"python -m repro regress --backbone {POCKET}"
            " --baseline benchmarks/pocket/baselines/llava-7b.json --benchmarks POPE,MMB",
            "Whether a model still does what it did when its baseline was written.",
        ),
        Trial(
            "python -m repro criteria $SMALL",
            "What the pocket world is frozen by, before any row of a table.",
        ),
        Trial("python -m repro bench --quick", "Whether the measurement of speed runs."),
    ),
)

OWN = Section(
    "The method alone",
    "On a folder of images. Here pictures of the pocket world stand for one's own, and a pocket "
    "model for a real one.",
    (
        Trial(f"cp -r {WORLD}/initial/images photos", "Some images.", shown=False),
        Trial("python -m c3l --help", "Lists the commands.", shown=False),
        Trial(
            f"python -m c3l generate --backbone {POCKET} --images photos --out data --n 100"
            f" --initial 40 {POCKET_TRAINING} {POCKET_WRITING}",
            "Instruction data about one's own images: the whole method.",
        ),
        Trial("head -n 30 data/README.md", "The card that comes with the data."),
        Trial(
            f"python -m c3l score data/data.json --backbone {POCKET} --images photos"
            " --out scored.jsonl",
            "I²C scores of data that one has.",
        ),
        Trial("head -n 1 scored.jsonl", "A scored sample."),
        Trial(
            f"python -m c3l train --backbone {POCKET} --data data/data.json --images photos"
            f" --out tuned {POCKET_TRAINING}",
            "A model tuned on the data.",
        ),
        Trial(
            f"python -m c3l train --generator --backbone {POCKET} --data scored.jsonl"
            f" --images photos --out generator --set share=0.2 {POCKET_TRAINING}",
            "A generator that learns from the best of scored data.",
        ),
    ),
)

CONVERT = Section(
    "Published checkpoints",
    "The published files are tens of gigabytes. These have their layout and every tensor, EVA ViT "
    "and Q-Former at their true size, but random weights and the narrowest of language models "
    "(`tests/c3l/published.py`).",
    (
        Trial(f"python -m tests.tried.published {PUBLISHED}", "The files.", shown=False),
        Trial(
            f"python -m c3l convert llava --projection {PUBLISHED}/mm_projector.bin"
            f" --language {PUBLISHED}/vicuna --vision {PUBLISHED}/clip --out llava-stage-1",
            "LLaVA's stage-1 projector and its language model, as one folder.",
        ),
        Trial(
            f"python -m c3l convert minigpt4-llama2 --vision {PUBLISHED}/eva_vit_g.pth"
            f" --projection {PUBLISHED}/llama2.pth --language {PUBLISHED}/vicuna --out minigpt4",
            "MiniGPT-4 with Llama 2.",
        ),
        Trial(
            f"python -m c3l convert minigpt4-vicuna --vision {PUBLISHED}/eva_vit_g.pth"
            f" --qformer {PUBLISHED}/blip2.pth --projection {PUBLISHED}/vicuna.pth"
            f" --language {PUBLISHED}/vicuna --out minigpt4-vicuna",
            "MiniGPT-4 with Vicuna and a Q-Former.",
        ),
    ),
)

# lmms-eval's own task reads the Hub; this is the same task on a folder.
TASK = (
    "mkdir tasks && printf 'include: %s\\ntask: pocket_pope\\ndataset_path: %s\\n"
    "dataset_kwargs: {cache_dir: cache}\\n'"
    ' "$(python -c "import importlib.util as u;'
    " print(*u.find_spec('lmms_eval').submodule_search_locations)\")/tasks/pope/pope.yaml\""
    f' "$(realpath {WORLD}/benchmarks/pope)" > tasks/pope.yaml'
)
LMMS_EVAL = Section(
    "lmms-eval",
    "It fetches its benchmarks from the Hub. Without a network it reads a task of one's own: here "
    "its POPE, on the pocket world's questions.",
    (
        Trial(TASK, "The task.", shown=False),
        Trial(
            "lmms-eval --model c3l --model_args pretrained=tuned,dtype=float32"
            " --tasks pocket_pope --include_path tasks --batch_size 16",
            "Scores a model that `c3l train` has written.",
        ),
    ),
)


def wrong(line: str, about: str) -> Trial:
    return Trial(line, about, code=2)


MISTAKES = Section(
    "Mistakes",
    "What is wrong is said in one sentence, with exit code 2 (130 after Ctrl-C), and nothing is "
    "left half-written.",
    (
        wrong("python -m repro", "Nothing to do."),
        wrong("python -m repro table9", "A table that does not exist."),
        wrong("python -m repro plan table9", "Likewise."),
        wrong("python -m repro table4 --seed 1", "An option misspelt."),
        wrong("python -m repro table4 --seeds one", "A word for a number."),
        wrong("python -m repro table4 --set sizes.images=20", "A setting that there is not."),
        wrong("python -m repro table4 --set sizes.final_images=few", "A value of the wrong kind."),
        wrong("python -m repro table4 --set seeds", "No value."),
        wrong("python -m repro table4 --profile papre", "A profile that there is not."),
        wrong("python -m repro table1 --profile practical --seeds 1", "Data that are not there."),
        wrong("python -m repro doctor --profile practical", "What is missing, before a real run."),
        wrong("python -m repro compare table4 --runs nowhere", "Nothing has been run."),
        wrong("python -m repro compare table6", "The paper has no such claim."),
        wrong("python -m repro report --runs nowhere", "Nothing has been run."),
        wrong("python -m repro table4 --runs README.md", "A file for a folder."),
        wrong(f"python -m repro regress --backbone {POCKET}", "Nothing to compare with."),
        wrong("python -m repro bench --device tpu", "A device that there is not."),
        wrong("python -m repro data --coco ~/coco/train2014 --out data/coco", "COCO is not there."),
        wrong("python -m c3l", "Nothing to do."),
        wrong("python -m c3l generate --images photos --out more", "No model."),
        wrong(
            "python -m c3l generate --backbone llava-7b --images photos --out more",
            "A folder that there is not.",
        ),
        wrong(
            f"python -m c3l generate --backbone {POCKET} --images holiday --out more",
            "Images that are not there.",
        ),
        wrong(
            f"python -m c3l generate --backbone {POCKET} --images photos --out more --n 0",
            "Nothing asked for.",
        ),
        wrong(
            f"python -m c3l score mine.json --backbone {POCKET} --images photos --out scored.json",
            "Samples that are not there.",
        ),
        wrong(
            f"python -m c3l score README.md --backbone {POCKET} --images photos --out scored.json",
            "A file of another kind.",
        ),
        wrong(
            f"python -m c3l score data/data.json --backbone {POCKET} --images photos"
            " --out scored.json --set score_form=product",
            "A reading that there is not.",
        ),
        wrong(
            f"python -m c3l train --generator --backbone {POCKET} --data data/data.json"
            " --images photos --out another --scores mine.parquet",
            "Scores that are not there.",
        ),
        wrong(
            "python -m c3l convert llava --vision clip --checkpoint llava-v1.5-7b --out llava",
            "A checkpoint that is not there.",
        ),
        wrong(
            "lmms-eval --model c3l --model_args pretrained=nowhere --tasks pocket_pope"
            " --include_path tasks --batch_size 16",
            "A model that is not there.",
        ),
        Trial(
            "timeout --preserve-status -s INT 25 python -m repro table4 --seeds 1 --runs stopped",
            "Ctrl-C, after 25 seconds.",
            code=130,
        ),
    ),
)

SECTIONS = (FIRST, TABLES, CHECKS, OWN, CONVERT, LMMS_EVAL, MISTAKES)

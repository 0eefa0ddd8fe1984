"""The stages of the project's own table 6: a pool of pairs ranked by a score, and the controls.

    samples → shuffled or constant → c3l.pipeline.scores → ranking

A control scores the same pairs behind a wrong image. What a score still tells of the truth then,
the text alone has told it.
"""

import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

from c3l import stages
from c3l.readings import ScoreForm
from c3l.samples import write_samples
from c3l.store import Job, Source, Stage

if TYPE_CHECKING:
    import pandas as pd

# IFD (Li et al. 2024) would add nothing: the ratio of an answer's perplexities with and without
# what it is conditioned on is exp(-logratio_mean), which ranks as that form does.
Rival = Literal["random", "likelihood", "text_likelihood", "self_instruct"]
RANKERS: tuple[str, ...] = get_args(ScoreForm) + get_args(Rival)

GREY = "images/grey.png"


def shuffled(samples: Stage, seed: int) -> Stage:
    """The samples, every image's about another image of the pool: one seeded cycle of them all."""
    return Stage("shuffled", 1, run_shuffled, {}, {"samples": samples}, seed)


def run_shuffled(job: Job) -> dict:
    samples = stages.read(job)
    images = sorted({sample.image for sample in samples})
    if len(images) < 2:
        return {"unscored": "the samples have no second image to be shown with"}
    random.Random(job.seed).shuffle(images)
    other = dict(zip(images, images[1:] + images[:1], strict=True))
    shown = [replace(sample, image=other[sample.image]) for sample in samples]
    write_samples(job.out / stages.SAMPLES, shown)
    return {"samples": len(shown), "images": len(images)}


def constant(samples: Stage) -> Stage:
    """The samples, all about one grey image, which the artefact holds too: it is samples and image
    folder of `c3l.pipeline.scores` at once."""
    return Stage("constant", 1, run_constant, {}, {"samples": samples})


def run_constant(job: Job) -> dict:
    from PIL import Image

    samples = stages.read(job)
    (job.out / GREY).parent.mkdir()
    Image.new("RGB", (224, 224), (128, 128, 128)).save(job.out / GREY)
    write_samples(job.out / stages.SAMPLES, (replace(sample, image=GREY) for sample in samples))
    return {"samples": len(samples)}


def ranking(
    samples: Stage,
    scores: Stage,
    graphs: Source,
    *,
    by: str,
    share: float,
    seed: int | None = None,
) -> Stage:
    """The pairs with their verdicts, a value each, and which are chosen by it.

    `scores` may be those of a control: verdicts are about the images of `samples`. `by` is a form
    of eq. 1 or a rival: "random" (which needs the seed), "likelihood" (mean log p^v of a token, the
    selection by perplexity), "text_likelihood" (mean log p^d: what the answer's text tells alone)
    or "self_instruct" (1 for a survivor of that filter, 0 for the others). Chosen are the best
    `share` of the pool, in the case of Self-Instruct its survivors.

    Raises ValueError for another `by`, or a random order without a seed.
    """
    if by not in RANKERS:
        raise ValueError(f"{by!r} is none of {', '.join(RANKERS)}.")
    if by == "random" and seed is None:
        raise ValueError("A random order needs a seed.")
    inputs = {"samples": samples, "scores": scores, "graphs": graphs}
    config = {"by": by, "share": share}
    return Stage("ranking", 1, run_ranking, config, inputs, seed if by == "random" else None)


def run_ranking(job: Job) -> dict:
    import numpy as np
    import pandas as pd

    from benchmarks.pocket.truth import VERDICTS, judge
    from c3l.selection import top_share
    from c3l.self_instruct import survivors

    by, samples = job.config["by"], stages.read(job)
    table = pd.read_parquet(job.inputs["scores"] / "scores.parquet").set_index("id")
    pool = [sample for sample in samples if sample.id in table.index]
    facts = {
        "metric": f"pairs ranked by {by}",
        "n": len(pool),
        "not_scored": len(samples) - len(pool),
    }
    if not pool:
        return facts | {"unscored": "no sample of the pool has a score"}
    table = table.loc[[sample.id for sample in pool]]
    match by:
        case "random":
            rng = random.Random(job.seed)
            values = [rng.random() for _ in pool]
        case "likelihood":
            values = [tokens.mean() for tokens in table["logp_visual"]]
        case "text_likelihood":
            values = [tokens.mean() for tokens in table["logp_direct"]]
        case "self_instruct":
            passed = {sample.id for sample in survivors(samples)[0]}
            values = [float(sample.id in passed) for sample in pool]
        case _:
            values = _i2c(table, by)
    if by == "self_instruct":
        chosen = passed
    else:
        chosen = {sample.id for sample in top_share(pool, values, job.config["share"])}
    lines = job.inputs["graphs"].read_text(encoding="utf-8").splitlines()
    graphs = {graph["image"]: graph for graph in map(json.loads, lines)}
    frame = pd.DataFrame(
        {
            "id": [sample.id for sample in pool],
            "image_id": [sample.image for sample in pool],
            "verdict": [judge(s.question, s.answer, graphs[s.image]) for s in pool],
            "tokens": [len(tokens) for tokens in table["logp_visual"]],
            "value": np.asarray(values, dtype=float),
            "chosen": [sample.id in chosen for sample in pool],
        }
    )
    frame.to_parquet(job.out / "samples.parquet", index=False)
    finite = frame[np.isfinite(frame["value"])]
    of_verdict = {
        "verdicts": 100 * frame["verdict"].value_counts(normalize=True),
        "chosen": 100 * frame.loc[frame["chosen"], "verdict"].value_counts(normalize=True),
        "mean_value": finite.groupby("verdict")["value"].mean(),
    }
    extra = {
        name: {verdict: float(found[verdict]) for verdict in VERDICTS if verdict in found}
        for name, found in of_verdict.items()
    }
    return facts | {"extra": extra}


def _i2c(table: "pd.DataFrame", form: str) -> list[float]:
    """Scores of one form for each row, from the stored arrays, all at once."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    from c3l.relevance import i2c

    visual, direct, kl = (
        pad_sequence([torch.tensor(tokens) for tokens in table[name]], batch_first=True)
        for name in ("logp_visual", "logp_direct", "kl")
    )
    lengths = torch.tensor([len(tokens) for tokens in table["kl"]])
    mask = torch.arange(visual.shape[1]) < lengths.unsqueeze(1)
    return i2c(visual, direct, mask, form, kl=kl).tolist()

"""POPE's two rules for reading an answer, and F1 per category of negatives.

lmms-eval takes exactly "yes" or "no" for an answer; what is neither vanishes from precision, recall
and F1 (accuracy counts it wrong). LLaVA's evaluation script, which the published numbers come from,
calls an answer "no" when its first sentence holds the word no or not, and "yes" otherwise.
"""

import numpy as np
import pandas as pd

CATEGORIES = ("random", "popular", "adversarial")


def lmms_eval_reading(response: str) -> str | None:
    """ "yes", "no", or None for an answer that lmms-eval's rule cannot read."""
    text = response.lower().strip()
    return text if text in ("yes", "no") else None


def llava_reading(response: str) -> str:
    """ "yes" or "no" as LLaVA's `eval_pope.py` reads it: every answer is one of the two."""
    first_sentence = response.split(".")[0].replace(",", "")
    words = first_sentence.split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def f1(answers: np.ndarray, readings: np.ndarray) -> float:
    """F1 of "yes", 0 to 1; 0 where precision and recall are both 0 or undefined.

    Args:
        answers: [n] reference answers, "yes" or "no".
        readings: [n] "yes", "no" or None; None counts neither as found nor as missed, as in
            lmms-eval.
    """
    found = np.sum((answers == "yes") & (readings == "yes"))
    false = np.sum((answers == "no") & (readings == "yes"))
    missed = np.sum((answers == "yes") & (readings == "no"))
    # 2PR / (P + R), and 0 where P + R is 0.
    return float(2 * found / (2 * found + false + missed)) if found else 0.0


def mean_f1(samples: pd.DataFrame, reading: str = "reading") -> float:
    """Mean of F1 over random, popular and adversarial negatives, 0 to 1 (the paper's number).

    `samples` has the columns category, answer and the one named by `reading`.
    """
    parts = [samples[samples["category"] == category] for category in CATEGORIES]
    return float(np.mean([f1(p["answer"].to_numpy(), p[reading].to_numpy()) for p in parts]))

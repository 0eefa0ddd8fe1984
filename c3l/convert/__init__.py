"""Published checkpoints to folders that `c3l.load_backbone` reads: `python -m c3l convert`.

A converter is a table of renames for each published file (rules.py), one check that what they give
is the model, no more and no less (keys.py), and the processor with the published prompts
(processors.py).
"""

"""The steps of section 3.4 as stages of the store: writing, scoring, selecting, training.

In each file a stage's declaration (a function that returns a `Stage`) stands directly above the
function that runs it. A declaration costs nothing and imports no torch, so that a run can be
planned. A running stage reads and writes folders only (`c3l.artifacts.stage.Job`), so that any
process can run it; what it needs of torch it imports itself.

Raise a stage's version (its second field) when the same inputs would give another result.
"""

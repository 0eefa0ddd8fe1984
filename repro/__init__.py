"""The driver: every row of the paper's tables, run, scored and printed."""

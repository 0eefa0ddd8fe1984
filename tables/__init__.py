"""The paper's numbers as data, and markdown and CSV from a finished table."""

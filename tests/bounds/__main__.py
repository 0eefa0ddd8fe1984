"""Print the lowest declared and the installed version of each direct dependency.

The tox environments `lowest` and `newest` do so before their tests (docs/python.md).
"""

from importlib.metadata import version

from tabulate import tabulate

from tests.bounds.declared import extras, lower_bound, requirements

found = requirements() | extras()["eval"] | extras()["quant"] | extras()["report"]
rows = [(name, lower_bound(some), version(name)) for name, some in sorted(found.items())]
print(tabulate(rows, ["package", "declared", "installed"], "github", disable_numparse=True))

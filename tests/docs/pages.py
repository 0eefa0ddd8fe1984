"""README and the pages of docs, and the Python examples on them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
PAGES += sorted(ROOT.glob("benchmarks/*/README.md"))
# tests/tried and tests/faults write two of them; what they name is of its day.
RECORDS = sorted(ROOT.glob("docs/records/*.md"))


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a page in a language; "" is a block that names none."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [text for name, text in fenced if name == language]


def python_examples() -> dict[str, tuple[str, list[str]]]:
    """Return each script's text and the words of the command below it, by its file's name.

    A block without a command below it is run by itself, under its page's name.
    """
    examples = {}
    for page in PAGES:
        if page.name == "python.md":  # tests/c3l/test_python_api.py runs it, beside some images
            continue
        parts = re.split(r"^```python\n", page.read_text(), flags=re.MULTILINE)[1:]
        for number, part in enumerate(parts):
            script, _, rest = part.partition("\n```\n")
            command = re.match(r"\n```sh\n(python .*)\n```", rest)
            words = command[1].split() if command else ["python", f"{page.stem}_{number}.py"]
            [name] = [word for word in words if word.endswith(".py")]
            examples[name] = (script + "\n", words)
    return examples

"""`python -m repro`."""

import sys
from importlib.util import find_spec
from pathlib import Path


def shadowed_package() -> Path | None:
    """Return the file in the current directory that hides one of this project's packages.

    `python -m` puts the current directory first on the search path; the script c3l-repro does not.
    """
    root = Path(__file__).resolve().parents[1]
    for name in ("benchmarks", "c3l"):
        spec = find_spec(name)
        path = Path(spec.origin).resolve() if spec and spec.origin else root / name / "__init__.py"
        if path.is_relative_to(Path.cwd()) and path != root / name / "__init__.py":
            return path
    return None


if __name__ == "__main__":  # worker processes import this file under another name
    if path := shadowed_package():
        print(
            f"{path} hides this project's own package of that name: run c3l-repro instead, or "
            "python -m repro in another directory.",
            file=sys.stderr,
        )
        raise SystemExit(2)
    try:
        from repro.cli import main
    except KeyboardInterrupt:  # nothing has begun, and nobody else would catch it yet
        raise SystemExit(130) from None
    main()

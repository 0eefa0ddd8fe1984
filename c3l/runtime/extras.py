"""Packages that only some commands need, each in an extra of pyproject.toml."""

from importlib.util import find_spec

from c3l.runtime.errors import UserError

EXTRAS = {
    "lmms_eval": ("lmms-eval", "eval"),
    "loguru": ("loguru", "eval"),
    "openai": ("openai", "eval"),
    "tenacity": ("tenacity", "eval"),
    "bitsandbytes": ("bitsandbytes", "quant"),
    "matplotlib": ("matplotlib", "report"),
    "jinja2": ("jinja2", "report"),
    "markupsafe": ("markupsafe", "report"),
    "ray": ("ray", "ray"),
}
"""Distribution and extra by the module that is imported."""


def hint(error: ModuleNotFoundError, user: str = "This command") -> str | None:
    """Sentence about the package that `user` needs, or None where no extra has it."""
    module = (error.name or "").partition(".")[0]
    if module not in EXTRAS:
        return None
    distribution, extra = EXTRAS[module]
    return f"{user} needs {distribution}: pip install 'c3l[{extra}]'"


def require(module: str, user: str) -> None:
    """Raise UserError where `user` needs a module that is not installed."""
    if find_spec(module) is None:
        raise UserError(hint(ModuleNotFoundError(name=module), user))

"""The page: one HTML file from a strict, autoescaped template; styles and scripts inside it."""

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from repro.report.contents import Contents

TEMPLATE = Path(__file__).with_name("template")
SCRIPTS = ("page.js", "cell.js")  # one script on the page, in this order
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def render_page(contents: Contents) -> str:
    """Render the file. Data are text on it, whatever they look like."""
    style = (TEMPLATE / "page.css").read_text(encoding="utf-8")
    script = "".join((TEMPLATE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    page = _template().render(
        contents.page,
        data=contents.data,
        # the only ones that a browser applies, by their digests in the policy
        style=Markup(style),
        script=Markup(script),
        policy=security_policy(style, script),
    )
    return LONE_SURROGATE.sub("\ufffd", page)  # no file can hold one


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # jinja's tojson escapes <, >, & and quotes: no text can end the element that it stands in.
    environment.policies["json.dumps_kwargs"] = {
        "ensure_ascii": False,
        "allow_nan": False,
        "separators": (",", ":"),
    }
    environment.filters["level"] = colour_level
    environment.globals["levels"] = LEVELS
    return environment.get_template("page.html.j2")


def security_policy(style: str, script: str) -> str:
    """A content security policy that admits only these two and images within the page."""

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; style-src {digest(style)}; script-src {digest(script)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


LEVELS = (("down2", -0.2), ("down1", -0.02), ("", 0.05), ("up1", 0.5), ("up2", 1.5), ("up3", 4.0))
"""A token's colour by its contribution to I²C in nats: the upper end of each; beyond, "up4"."""


def colour_level(contribution: float) -> str:
    return next((name for name, limit in LEVELS if contribution <= limit), "up4")

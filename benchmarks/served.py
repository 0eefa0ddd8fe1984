"""A model behind an OpenAI-compatible address: for a row whose weights cannot be loaded here.

Nothing here imports lmms-eval; `benchmarks.served_model` does.
"""

import base64
import io

from PIL import Image
from pydantic import Field

from benchmarks.keys import key_in
from c3l.record import Record


class Served(Record):
    """Where a model is served and under which name. None of it is secret."""

    model: str = Field(min_length=1)
    url: str = Field(pattern=r"^https?://[^\s@?#]+$")
    """The address to which "/chat/completions" is added. Never with a key: it stands in every
    manifest."""
    key_variable: str = Field("OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """The environment variable that holds the key, if the address asks for one."""

    @property
    def name(self) -> str:
        """What stands in a cell."""
        return f"{self.model} at {self.url}"

    @property
    def key(self) -> str:
        """The key (`key_in`)."""
        return key_in(self.key_variable)


def probe(served: Served, timeout: float = 60.0, retries: int = 0) -> str | None:
    """Ask about a grey image; a reason if no text came back, or None. No reason holds the key. A
    server that is busy is asked again, `retries` times."""
    from openai import OpenAI, OpenAIError

    file = io.BytesIO()
    Image.new("RGB", (64, 64), "grey").save(file, "PNG")
    picture = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    content = [
        {"type": "text", "text": "What colour is it?"},
        {"type": "image_url", "image_url": {"url": picture}},
    ]
    client = OpenAI(base_url=served.url, api_key=served.key, timeout=timeout, max_retries=retries)
    try:
        reply = client.chat.completions.create(
            model=served.model, messages=[{"role": "user", "content": content}], max_tokens=16
        )
        said = reply.choices[0].message.content
    except OpenAIError as error:
        return str(error).replace(served.key, "***")
    # Servers send anything with status 200.
    except (AttributeError, IndexError, TypeError, ValueError):
        said = None
    return None if isinstance(said, str) else "its reply is no chat completion with a text"

"""A model behind an OpenAI-compatible address: a row whose weights cannot be loaded here.

Nothing here imports lmms-eval; `benchmarks.served_model` does.
"""

import base64
import io
from functools import partial
from typing import Annotated

from PIL import Image
from pydantic import AfterValidator, Field

from benchmarks.api.address import ADDRESS_HINT, parse_base_url, parse_model_name
from benchmarks.api.keys import read_key
from c3l.runtime.record import Record

_DESCRIPTION = f"address of a served model: {ADDRESS_HINT}"


class Served(Record):
    """A served model's address and name; nothing here is secret."""

    model: Annotated[str, AfterValidator(parse_model_name)]
    url: Annotated[str, AfterValidator(partial(parse_base_url, description=_DESCRIPTION))]
    """The address to which "/chat/completions" is added. It holds no key: every manifest has it."""
    key_variable: str = Field("OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """The environment variable that holds the key, if the address asks for one."""

    @property
    def name(self) -> str:
        """The model's name in a cell."""
        return f"{self.model} at {self.url}"

    @property
    def key(self) -> str:
        """The key, from the environment."""
        return read_key(self.key_variable)


def check_server(served: Served, timeout: float = 60.0, retries: int = 0) -> str | None:
    """Ask about a grey image; return the reason if no text came back.

    No reason holds the key. A busy server is asked again, `retries` times.
    """
    from benchmarks.api.client import NO_COMPLETION, NoCompletionError, complete, make_client

    file = io.BytesIO()
    Image.new("RGB", (64, 64), "grey").save(file, "PNG")
    image = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    content = [
        {"type": "text", "text": "What colour is it?"},
        {"type": "image_url", "image_url": {"url": image}},
    ]
    messages = [{"role": "user", "content": content}]
    try:
        with make_client(served.url, served.key, timeout, retries) as client:
            completion = complete(
                client, served.key, model=served.model, messages=messages, max_tokens=16
            )
    except NoCompletionError as error:
        return str(error)
    return None if isinstance(completion.choices[0].message.content, str) else NO_COMPLETION

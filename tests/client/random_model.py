"""A terminal on a random-weight model: real tokens of a real architecture, and nothing learnt that could help."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic

from tests.support.home import LIMIT, Home, Machine
from tests.support.models import make_tiny
from tests.support.place import Session


class RandomModel:
    """The official SDK, pointed at it."""

    def __init__(self, session: Session, name: str) -> None:
        self.session = session
        self.name = name
        self.client = anthropic.Anthropic(
            base_url=f"http://127.0.0.1:{session.port}",
            auth_token=session.token,
            http_client=anthropic.DefaultHttpxClient(trust_env=False),
            max_retries=0,
            timeout=LIMIT,
        )
        self.client.api_key = None

    def ask(self, messages: Any, max_tokens: int = 400, **more: Any) -> Any:
        return self.client.messages.create(model=self.name, max_tokens=max_tokens, messages=messages, **more)

    def stream(self, messages: Any, max_tokens: int = 400, **more: Any) -> Any:
        return self.client.messages.stream(model=self.name, max_tokens=max_tokens, messages=messages, **more)


@contextmanager
def random_model(folder: Path, family: str, **changes: Any) -> Iterator[RandomModel]:
    """`family`: a chat template's manners, see tests/support/models.py; `changes` go into config.json."""
    path = make_tiny(folder, family, **changes)
    machine = Machine(grace=600)
    machine.environment["CLAUDE_LOCAL_MODEL"] = str(path)
    home = Home("home", machine)
    try:
        session = Session(home)  # type: ignore[arg-type]  # it needs no more of a place than `start`
        with RandomModel(session, str(path)).client as client:
            model = RandomModel(session, str(path))
            model.client = client
            yield model
    finally:
        home.close()
        machine.remove()

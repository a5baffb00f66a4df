"""A look at the schema meets a server that is not there yet."""

from typing import NoReturn

import asyncpg
import pytest

from orchestrator.domain.errors import StoreUnavailable
from orchestrator.store import migrations


async def test_a_server_that_just_starts_is_one_to_wait_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(*_: object, **__: object) -> NoReturn:
        raise asyncpg.CannotConnectNowError("the database system is starting up")

    monkeypatch.setattr(asyncpg, "connect", refuse)

    with pytest.raises(StoreUnavailable, match="starting up"):
        await migrations.current("postgresql://nobody@localhost/none")

"""A data folder for the apps, and sessions on it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from meter_batch_analytics.session import Identity, Session, open_data

from ..data_site import ALL, NOW, build

LATER = NOW + timedelta(minutes=6)
"""When what came by midnight is due."""


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("apps"))


@pytest.fixture
def session(data: Path) -> Callable[..., Session]:
    """`session(identity, key="value", …)`: with what stands in the page's address."""

    def opened(identity: Identity = ALL, **query: str) -> Session:
        return open_data(data, identity, query={key: [text] for key, text in query.items()}, now=lambda: LATER)

    return opened

"""A server with a model of random weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from toy_server import Running, running
from toy_stream import streaming_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "bundle"
    streaming_bundle().save(folder)
    return folder


@pytest.fixture(scope="module")
def served(bundle: Path) -> Iterator[Running]:
    """A server of one toy model, with the default limits."""
    with running({"toy": str(bundle)}) as found:
        yield found

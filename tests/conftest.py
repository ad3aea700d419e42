"""Fixtures that several test files share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pictures import make_folder


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests keep decoded pictures in a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TELLAPART_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def class_folder(tmp_path: Path) -> Path:
    """A folder of three class folders with twelve learnable 12 x 12 pictures each."""
    return make_folder(tmp_path / "pets")

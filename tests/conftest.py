"""Fixtures that several test files share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from pictures import make_folder

settings.register_profile("tellapart", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tellapart")  # a busy machine is no fault


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests keep decoded pictures in a folder of their own, and see no weights that torch has fetched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
        patch.setenv("TELLAPART_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def class_folder(tmp_path: Path) -> Path:
    """A folder of three class folders with twelve learnable 12 x 12 pictures each."""
    return make_folder(tmp_path / "pets")

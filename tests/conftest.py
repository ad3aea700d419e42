"""Fixtures that several test files share."""

from pathlib import Path

import pytest
from pictures import make_folder


@pytest.fixture
def class_folder(tmp_path: Path) -> Path:
    """A folder of three class folders with twelve learnable 12 x 12 pictures each."""
    return make_folder(tmp_path / "pets")

"""The digits that come with tellapart are scikit-learn's, value for value, and need no other library."""

import gzip
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tellapart import names
from tellapart.data.catalogue import CATALOGUE
from tellapart.data.index import NO_PART
from tellapart.data.official import default_root
from tellapart.data.sources import SOURCES, open_source
from tellapart.data.sources.digits import stored
from tellapart.errors import UsageError


def test_embedded_values_are_those_of_scikit_learn():
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        pytest.skip("scikit-learn is not installed")
    with gzip.open(Path(found.origin).parent / "datasets/data/digits.csv.gz", "rt") as file:
        theirs = np.loadtxt(file, delimiter=",")
    values, labels = stored()
    np.testing.assert_array_equal(values, theirs[:, :64])
    np.testing.assert_array_equal(labels, theirs[:, 64])


def test_index_of_the_digits():
    index = open_source("digits")
    assert (len(index), index.name, index.classes) == (1797, "digits", tuple("0123456789"))
    assert index.counts().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert (index.parts == NO_PART).all()
    assert index.labels.dtype == np.int64
    assert (index.keys[0], index.keys[-1]) == ("digits/0000", "digits/1796")


def test_pixels_are_the_values_scaled_to_a_byte():
    index, (values, _) = open_source("digits"), stored()
    for row in (0, 17, 1796):
        picture = index.store.read(row)
        assert isinstance(picture, np.ndarray)
        assert (picture.shape, picture.dtype) == ((8, 8, 1), np.uint8)
        assert picture.ravel().tolist() == [round(int(value) * 255 / 16) for value in values[row]]


def test_opening_the_digits_imports_neither_torch_nor_scikit_learn():
    code = (
        "import sys; from tellapart.data.sources import open_source; open_source('digits');"
        "bad = {'torch', 'torchvision', 'sklearn', 'PIL', 'pandas'} & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": _source()}
    )
    assert (done.returncode, done.stderr) == (0, "")


def _source() -> str:
    import tellapart

    return str(Path(next(iter(tellapart.__path__))).parent)


def test_the_tables_of_names_agree():
    assert tuple(SOURCES) == names.NAMED_SOURCES
    assert tuple(entry.name for entry in CATALOGUE if entry.available) == names.NAMED_SOURCES
    coco = next(entry for entry in CATALOGUE if entry.name == "coco")
    assert not coco.available
    assert "detection" in coco.task
    assert "not classification" in coco.missing


def test_unknown_name_is_answered_with_the_nearest_one():
    with pytest.raises(UsageError) as caught:
        open_source("fashion_mnist")
    assert caught.value.message == "Unknown data set 'fashion_mnist', and no folder 'fashion_mnist' exists here."
    assert caught.value.hint == "Did you mean 'fashion-mnist'?"


def test_default_root_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("TELLAPART_DATA", raising=False)
    monkeypatch.delenv("TELLAPART_CACHE", raising=False)
    assert default_root() == tmp_path / ".cache/tellapart/data"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_root() == tmp_path / "cache/tellapart/data"
    monkeypatch.setenv("TELLAPART_DATA", str(tmp_path / "sets"))
    assert default_root() == tmp_path / "sets"

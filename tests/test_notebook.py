"""The notebook in examples/: valid, without outputs, and every code cell runs without a network."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).resolve().parents[1] / "examples" / "quickstart.ipynb"


@pytest.fixture(scope="module")
def notebook() -> dict[str, Any]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))


def code_of(notebook: dict[str, Any]) -> list[str]:
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_it_is_a_notebook_of_format_4_without_outputs(notebook):
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


def test_it_installs_nothing_by_itself_and_holds_no_address(notebook):
    for line in "\n".join(code_of(notebook)).splitlines():
        assert not line.lstrip().startswith(("%", "!"))
    assert "://" not in NOTEBOOK.read_text(encoding="utf-8")


def test_its_cells_train_read_the_log_and_predict(notebook, tmp_path, monkeypatch, capsys):
    def refused(*_: object) -> None:
        raise AssertionError("the notebook reached for the network")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setattr(socket.socket, "connect", refused)
    names: dict[str, Any] = {"__name__": "notebook"}
    for source in code_of(notebook):
        exec(compile(source, NOTEBOOK.name, "exec"), names)
    said = capsys.readouterr().out
    assert "epoch 2: train loss" in said
    assert "test accuracy" in said
    assert [record["step"] for record in names["steps"]] == [10, 20, 30, 40]
    assert names["guess"].error == ""
    assert sum(share for _, _, share in names["guess"].top) <= 1.0001
    assert [run.name for run in (tmp_path / "runs").iterdir() if (run / "status.json").is_file()] == [
        names["verdict"].run
    ]

"""The documents are run: every `$ tellapart …` of a console block, and the Python of the README."""

import re
import shlex
import shutil
import tarfile
from pathlib import Path

import pytest
from commands import tellapart
from marked import make_marked
from pictures import make_folder

from tellapart.cli import VERBS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def commands(page: Path) -> list[str]:
    """The tellapart commands of the console blocks of a page, in order."""
    return re.findall(r"^\$ (tellapart .*)$", "\n".join(blocks(page, "console")), re.M)


def write_examples(at: Path) -> None:
    """The sources that docs/data.md speaks of, small."""
    make_folder(at / "flowers", classes=("daisy", "rose", "tulip"))
    make_folder(at / "elsewhere", classes=("daisy", "rose"), size=11)
    shutil.make_archive(str(at / "flowers"), "zip", at, "flowers")
    pictures = [(path, path.parent.name) for path in sorted((at / "flowers").rglob("*.png"))]
    for folder in ("pets", "shards", "insects/ants_image", "insects/ants_label"):
        (at / folder).mkdir(parents=True)
    for n, (path, name) in enumerate(pictures):
        shutil.copy(path, at / "pets" / f"{name}.{n:03}.png")
        shutil.copy(path, at / "insects/ants_image" / f"{n}.png")
        (at / "insects/ants_label" / f"{n}.txt").write_text(name)
    relative = [(path.relative_to(at).as_posix(), name) for path, name in pictures]
    (at / "labels.csv").write_text("\n".join(["id,breed", *(f"{key},{name}" for key, name in relative)]))
    (at / "list.txt").write_text("\n".join(f"{key}\t{name}" for key, name in relative))
    with tarfile.open(at / "shards" / "a.tar", "w") as archive:
        for path, name in pictures:
            archive.add(path, f"{name}/{path.name}")


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.name)
def test_every_command_shown_works(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLAPART_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TELLAPART_CODE", "")
    if page.name == "export.md":
        for library in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(library, reason=f"{library} is not installed")
    if page.name == "data.md":
        write_examples(tmp_path)
    if page.name == "several.md":
        make_marked(tmp_path / "shapes")
    if page.name == "own-network.md":
        (tmp_path / "my_net.py").write_text(blocks(page, "python")[0], encoding="utf-8")
    for command in commands(page):
        done = tellapart(tmp_path, *shlex.split(command, comments=True)[1:])
        assert done.code == 0, f"{command} ended with {done.code}: {done.err}"


@pytest.mark.parametrize("page", PAGES[:2], ids=lambda page: page.name)
def test_the_python_of_the_readme_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), {})  # the document's own code
    assert "Verdict(" in capsys.readouterr().out


def test_every_verb_is_shown_somewhere() -> None:
    shown = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [verb for verb in VERBS if f"tellapart {verb}" not in shown] == []


def test_both_readmes_show_the_same_commands() -> None:
    assert commands(PAGES[0]) == commands(PAGES[1])
    assert blocks(PAGES[0], "sh") == blocks(PAGES[1], "sh")


def test_the_readme_maps_every_wing_and_word() -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    places = [path for path in (ROOT / "src" / "tellapart").iterdir() if not path.name.startswith(("_", "."))]
    names = [
        f"{path.name}/" if path.is_dir() else path.name for path in places if path.name not in ("py.typed", "recipes")
    ]
    assert [name for name in names if name not in text] == []


def test_ci_runs_the_readmes_own_commands() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    first, second = (re.search(r"uv run .*", block) for block in blocks(PAGES[0], "sh"))
    assert first is not None
    assert second is not None
    assert first.group() in script
    assert second.group() in script


def test_links_between_documents_lead_somewhere() -> None:
    broken = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            if not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert broken == []

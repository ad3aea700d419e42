"""The ledger of what the notes ask for: complete, honest about what is open, every named proof exists; and the facts
that are shown by the documents stating them, or by the code not containing something.
"""

import ast
import csv
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEST = re.compile(r"(tests/test_\w+\.py)::(test_\w+)")
CLOSED = {
    *("A", "B", "C", "D", "E", "G", "H", "I", "J", "L", "M", "N", "O", "P", "Q", "R", "S120"),
    *("S099", "S100", "S101", "S102", "S103", "S104", "S105", "S106", "S107", "S108", "S114"),
}
"""Areas and rows that are closed: none of them may be open again."""
STILL_OPEN: dict[str, str] = {}
"""Rows of closed areas that are open all the same, with what is missing."""


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with (ROOT / "docs" / "requirements.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_requirement_has_one_row_in_order(rows: list[dict[str, str]]) -> None:
    """How to read docs/requirements.csv: one row for each thing the notes ask for (S), get wrong (M) or wonder (Q).

    `area` groups the S rows by letter, `asks` says what is asked for (of an M row: the right fact), and `shown_by`
    names the tests that show it, or says why there is nothing to show (`n/a because …`), or that it is `open`.
    """
    numbers = [*(f"S{n:03}" for n in range(1, 321)), *(f"M{n:03}" for n in range(1, 123))]
    assert [row["id"] for row in rows] == [*numbers, *(f"Q{n}" for n in range(1, 31))]
    assert set(rows[0]) == {"id", "area", "asks", "shown_by"}
    kinds = {"M": "mistake", "Q": "question"}
    for row in rows:
        assert re.fullmatch(kinds.get(row["id"][0], "[A-T]"), row["area"]), row
        assert 0 < len(row["asks"]) <= 90, row


def test_what_shows_a_row_has_one_of_three_forms(rows: list[dict[str, str]]) -> None:
    for row in rows:
        names = row["shown_by"].split(" ")
        tests = all(TEST.fullmatch(name) for name in names) and len(set(names)) == len(names)
        assert tests or row["shown_by"] == "open" or re.fullmatch(r"n/a because \S.{9,}", row["shown_by"]), row


def test_every_named_test_exists(rows: list[dict[str, str]]) -> None:
    known = set()
    for path in (ROOT / "tests").glob("test_*.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        known |= {(f"tests/{path.name}", node.name) for node in body if isinstance(node, ast.FunctionDef)}
    named = {match for row in rows for match in TEST.findall(row["shown_by"])}
    assert named - known == set()


def test_what_is_closed_stays_closed(rows: list[dict[str, str]]) -> None:
    closed = {row["id"] for row in rows if {row["id"], row["area"]} & CLOSED}
    assert {row["id"] for row in rows if row["shown_by"] == "open"} & closed == set(STILL_OPEN)
    assert {row["id"] for row in rows} | {row["area"] for row in rows} >= CLOSED


def test_it_names_no_address_host_or_machine() -> None:
    text = (ROOT / "docs" / "requirements.csv").read_text(encoding="utf-8")
    assert not re.search(r"://|www\.|@|\b[\w-]+\.(com|org|net|io|cn|dev|edu)\b", text)
    assert not re.search(r"(?<![\w.])(/|~/|[A-Z]:\\)(work|home|tmp|root|usr|Users|mnt|data)\b", text)


# --- facts in documents and in the code -------------------------------------------------------------------------------


def says(page: str, *phrases: str) -> None:
    """The page states each of these, wherever its lines are broken."""
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    assert [phrase for phrase in phrases if phrase not in text] == []


def test_the_code_uses_no_outdated_way() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    outdated = ("torch.Tensor(", "torch.norm(", "pretrained=", "size_average", "reduce=False", "is_avaliable")
    assert [word for word in outdated if word in source] == []
    assert not re.search(r"\.forward\(", source)
    assert "vector_norm(" in source
    assert "[tool.pyright]" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_guide_makes_environments_with_one_bare_version() -> None:
    text = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    made = re.findall(r"^conda create.*", text, re.M)
    assert made
    assert all(re.fullmatch(r"conda create -n \S+ python=3\.\d+", line) for line in made)
    assert "python=python" not in text
    says("docs/install.md", "conda activate tellapart", "conda deactivate", "a bare version number")


def test_the_guide_tells_mirrors_kernels_and_the_three_cudas() -> None:
    says("docs/install.md", "`-i` is pip's; conda has no `-i`", "`global.trusted-host` takes the name of a host only")
    says("docs/install.md", "--from ./cifar-10-binary.tar.gz", "python -m ipykernel install --user --name tellapart")
    says("docs/install.md", "The **driver**", "The **CUDA runtime**", "The **torch build**")
    says("docs/install.md", "An integrated graphics chip is not used", "no TensorFlow and no OpenCV")


def test_the_questions_on_data_are_answered() -> None:
    says("docs/faq.md", "A dataset is the collection", "A loader packs", "`loader[0]` raises a TypeError")
    says("docs/faq.md", "it is a number of processes", "a number of threads that decode pictures")
    says("docs/faq.md", 'guarded by `if __name__ == "__main__":` on Windows')
    says("docs/faq.md", "Not always. A larger batch", "The learning rate has to be scaled with it")
    says("docs/faq.md", "on Linux and macOS a backslash is an ordinary letter", "not the folder of the script")


def test_the_questions_on_wrong_and_many_pictures_are_answered() -> None:
    says("docs/faq.md", "That is undersampling; it has nothing to do with downsampling")
    says("docs/faq.md", "No. `check --labels-out doubts.csv` writes the doubtful ones", "no file is touched")
    says("docs/data.md", "There are seven ways for pictures of your own", "| `doubtful-labels` |")


def test_the_questions_on_pixels_are_answered() -> None:
    says("docs/faq.md", "CHW (channel, height, width) is PyTorch's convention", "Neither is faster as such")
    says("docs/faq.md", "a float array keeps its values", "in the order BGR and has to be converted to RGB")
    says("docs/faq.md", "the standard deviation, not the variance", "nothing becomes a normal distribution")
    says("docs/faq.md", "Inputs around zero and of one scale", "not that a bias would grow large")
    says("docs/faq.md", "It is a choice of range and says nothing about the data", "0 becomes −1 and 1 becomes 1")
    says("docs/faq.md", "A PNG may be grey, grey with transparency, palette, RGB, RGBA or 16-bit")


def test_the_questions_on_training_are_answered() -> None:
    says("docs/faq.md", "mean and variance of the current mini-batch (for each channel", "keeps running averages")
    says("docs/faq.md", "sets each activation to zero with probability p and multiplies the others by 1 / (1 − p)")
    says("docs/faq.md", "one logit for each class, any real number; cross entropy contains the softmax")
    says("docs/faq.md", "chosen by the validation part, and so its number becomes a little too good")
    says("docs/faq.md", "The test part has taken no part in anything", "makes it a second validation part")
    says("docs/course.md", "`backward` computes gradients; only the optimiser's step changes the weights")
    says("docs/course.md", "cleared before each `backward`, which would otherwise add to them")


def test_the_page_on_one_step_bounds_its_scope() -> None:
    says("docs/step.md", "Distance functions and embeddings that are trained for similarity are out of scope")
    says("docs/step.md", "`tellapart check` names equal and nearly equal pictures")


def test_the_questions_on_files_and_devices_are_answered() -> None:
    says("docs/faq.md", "A state dict is a dictionary from names to tensors", "`load_state_dict` fills a network")
    says("docs/faq.md", "torch itself refuses it since 2.6 unless told `weights_only=False`", "can run any code")
    says("docs/faq.md", "`map_location` tells `torch.load` on which device", "`cuda` is the current CUDA device")


def test_no_page_calls_a_norm_a_regularisation() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        text = " ".join(page.read_text(encoding="utf-8").lower().split())
        assert not re.search(r"regulari[sz]ation layer|正则化层", text), page.name
    says("docs/faq.md", "Batch normalisation uses the mean and variance")


def test_the_readme_bounds_the_scope_and_the_course_has_seven_chapters() -> None:
    says("README.md", "Still pictures only: no video, no detection")
    chapters = re.findall(r"^## (\d) ", (ROOT / "docs" / "course.md").read_text(encoding="utf-8"), re.M)
    assert chapters == list("1234567")


def test_the_nine_steps_name_files_that_exist() -> None:
    table = (ROOT / "docs" / "course.md").read_text(encoding="utf-8").split("## The nine steps of a training")[1]
    assert re.findall(r"^\| (\d) ", table, re.M) == list("123456789")
    named = re.findall(r"`([\w/]+\.py)`", table)
    assert len(named) > 10
    assert [name for name in named if not (ROOT / "src" / "tellapart" / name).is_file()] == []

"""`tellapart search` from two processes at once, over a real PostgreSQL server that the test starts and stops."""

import csv
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import process, tellapart

SECRET = "s3cret-word"
WORDS = ("search", "digits", "--try", "optim.lr=0.001..0.3", "--try", "model.width=4,8", "--run", "both", "--json")
TINY = ("--set", "train.max_steps=2", "--limit", "120", "--device", "cpu", "--trials", "4")


def programs() -> Path | None:
    """The folder of initdb and pg_ctl, which Debian keeps out of the PATH."""
    found = [shutil.which("initdb"), *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")))]
    return next((Path(path).resolve().parent for path in found if path), None)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a fresh database, with its password."""
    at = programs()
    if at is None:
        pytest.skip("no initdb here: apt-get install postgresql")
    owner = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}  # it refuses to run as root
    with tempfile.TemporaryDirectory(prefix="tellapart-pg-", ignore_cleanup_errors=True) as folder:
        (Path(folder) / "password").write_text(SECRET)
        if owner:
            for path in (folder, f"{folder}/password"):
                shutil.chown(path, **owner)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        made = ["initdb", "-D", f"{folder}/data", "-U", "me", "-A", "scram-sha-256", f"--pwfile={folder}/password"]
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        control = [str(at / "pg_ctl"), "-D", f"{folder}/data", "-w"]
        how = {"check": True, "cwd": folder, "stdout": subprocess.DEVNULL, "timeout": 60, **owner}
        subprocess.run([str(at / made[0]), *made[1:], "--no-sync"], **how)
        subprocess.run([*control, "-l", f"{folder}/log", "-o", options, "start"], **how)
        try:
            yield f"postgresql://me:{SECRET}@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], **how)


def test_two_machines_search_together_and_no_trial_is_made_twice(server: str, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    running = []
    for folder in folders:
        folder.mkdir()
        words, environment = process(*WORDS, *TINY, "--storage", server)
        running.append(subprocess.Popen(words, env=environment, cwd=folder, stdout=-1, stderr=-1, text=True))
    ended = [one.communicate(timeout=120) for one in running]
    assert [one.returncode for one in running] == [0, 0], ended
    made = [sorted(path.name for path in (folder / "runs/both").glob("trial-*")) for folder in folders]
    assert all(made), "one process made all of them"
    assert len(made[0] + made[1]) == len({*made[0], *made[1]}) == 4
    again = tellapart(folders[0], *WORDS, *TINY, "--storage", server)
    assert again.code == 0, again.err
    with (folders[0] / "runs/both/trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["finished"] * 4
    assert len({(row["optim.lr"], row["model.width"]) for row in rows}) == 4
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]
    assert SECRET not in "".join(text for both in ended for text in both) + again.out + again.err
    assert "postgresql+psycopg://me@127.0.0.1" in (folders[0] / "runs/both/command.txt").read_text()


@pytest.mark.parametrize("change", [(SECRET, f"{SECRET}-wrong"), ("/postgres", "/nowhere"), (":me:", ":me:")])
def test_a_password_is_not_in_what_goes_wrong(server: str, tmp_path: Path, change: tuple[str, str]) -> None:
    if change[0] == change[1]:  # nobody listens there
        host, _, rest = server.rpartition(":")
        server = f"{host}:1/{rest.partition('/')[2]}"
    done = tellapart(tmp_path, *WORDS, *TINY, "--storage", server.replace(*change))
    assert done.code == 4
    assert "The database postgresql+psycopg://me@127.0.0.1" in done.err
    assert SECRET not in done.err
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]

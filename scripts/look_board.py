"""Photograph what TensorBoard shows of a log folder: one PNG per tab, to be looked at.

    python scripts/look_board.py LOGDIR OUTPUT_FOLDER

Exit code 0: every tab was photographed. 2: chromium or tensorboard is missing. 1: the server or a picture failed.
"""

import argparse
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

TABS = ("timeseries", "scalars", "images", "graphs", "text")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = (  # nothing on the screen, nothing over the network
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--window-size=1500,1300",
)


def main() -> int:
    parser = argparse.ArgumentParser(description="Photograph what TensorBoard shows of a log folder.")
    parser.add_argument("logdir", type=Path)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None or find_spec("tensorboard") is None:
        print("needs chromium (Debian: apt-get install -y chromium) and tensorboard (pip install tensorboard)")
        return 2
    options.output.mkdir(parents=True, exist_ok=True)
    with serving(options.logdir) as url:
        seen = [photograph(browser, f"{url}/#{tab}", options.output / f"{tab}.png") for tab in TABS]
    return 0 if all(seen) else 1


@contextmanager
def serving(logdir: Path) -> Iterator[str]:
    """TensorBoard on a free loopback port, its data loaded; stopped on the way out."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--host", "127.0.0.1"]
    server = subprocess.Popen([*words, "--port", str(port)], stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for_data(f"{url}/data/runs", server)
        yield url
    finally:
        server.terminate()
        server.wait()


def wait_for_data(address: str, server: "subprocess.Popen[bytes]", *, seconds: float = 60) -> None:
    """Return when a run is listed: an empty list only means that the folder is still being read."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            if urllib.request.urlopen(address, timeout=5).read().strip() not in (b"", b"[]"):
                return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.3)
    raise SystemExit(f"TensorBoard listed no run at {address}")


def photograph(browser: str, url: str, file: Path) -> bool:
    """One screenshot after the page has had time to draw itself; says where it is, or why there is none."""
    file.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="look-board-", ignore_cleanup_errors=True) as profile:
        words = [browser, *QUIET, f"--user-data-dir={profile}", f"--screenshot={file}", "--virtual-time-budget=20000"]
        try:
            done = subprocess.run([*words, url], capture_output=True, text=True, timeout=90)
            said = done.stderr
        except subprocess.TimeoutExpired:
            said = "the browser did not finish in 90 s"
    print(file if file.exists() else f"{url}: no picture\n{said}")
    return file.exists()


if __name__ == "__main__":
    sys.exit(main())

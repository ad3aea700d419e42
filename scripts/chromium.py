"""A headless Chromium that is spoken to over a pipe: pages opened, their words read, their pictures taken."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = (  # nothing on the screen, nothing over the network; WebGL by the processor
    "--headless",
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--window-size=1500,1300",
    "--remote-debugging-pipe",
)
WORDS = """(() => { const found = []; const walk = node => {
  if (node.nodeType === 3) found.push(node.data);
  if (['SCRIPT', 'STYLE', 'TEMPLATE'].includes(node.tagName)) return;
  if (node.shadowRoot) walk(node.shadowRoot);
  if (node.tagName === 'IFRAME' && node.contentDocument) walk(node.contentDocument);
  node.childNodes.forEach(walk); };
  walk(document); return found.join(' '); })()"""
"""Every text of a page, inside shadow roots and frames too."""


def installed() -> str | None:
    """The browser's file, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """The far end of the pipe (Chrome DevTools Protocol): commands out, answers in, each ended by a zero byte."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write, self._sent, self._rest = read, write, 0, b""

    def call(self, method: str, *, session: str = "", **params: Any) -> dict[str, Any]:
        """One command and its answer. Raises RuntimeError when the browser refuses it, or is gone."""
        self._sent += 1
        said = {"id": self._sent, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._write, json.dumps(said).encode() + b"\0")
        while (heard := self._heard()).get("id") != self._sent:
            pass
        if "error" in heard:
            raise RuntimeError(f"{method}: {heard['error']['message']}")
        return heard["result"]

    def _heard(self, *, seconds: float = 60) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._read, 2**16) if select.select([self._read], [], [], seconds)[0] else b""
            if not more:
                raise RuntimeError("the browser does not answer")
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\0")
        return json.loads(line)

    def photographed(self, address: str, words: tuple[str, ...], file: Path, *, seconds: float = 20) -> list[str]:
        """A picture of a page as soon as all words stand on it; those that never came are returned."""
        target = self.call("Target.createTarget", url=address)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        end, lacking = time.monotonic() + seconds, list(words)
        while lacking and time.monotonic() < end:
            time.sleep(0.2)
            answer = self.call("Runtime.evaluate", session=session, expression=WORDS, returnByValue=True)
            text = _dense(answer["result"].get("value", ""))
            lacking = [word for word in words if _dense(word) not in text]
        time.sleep(1.5)  # what is drawn is drawn a little after its words
        picture = self.call("Page.captureScreenshot", session=session, format="png")["data"]
        file.write_bytes(base64.b64decode(picture))
        self.call("Target.closeTarget", targetId=target)
        return lacking


def _dense(text: str) -> str:
    """A text without its spaces: a page may divide a name among its elements."""
    return "".join(text.split())


@contextmanager
def browsing(program: str) -> Iterator[Browser]:
    """A browser with a profile of its own, ended on the way out."""
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (*os.pipe(), *os.pipe())]
    theirs, ours, read, write = ends[0], ends[1], ends[2], ends[3]

    def pipes() -> None:
        os.dup2(theirs, 3)
        os.dup2(write, 4)

    with tempfile.TemporaryDirectory(prefix="look-board-", ignore_cleanup_errors=True) as profile:
        words = [program, *QUIET, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(words, preexec_fn=pipes, pass_fds=(3, 4), stderr=subprocess.DEVNULL)
        try:
            yield Browser(read, ours)
        finally:
            process.terminate()
            process.wait()
            for end in ends:
                os.close(end)

# SPDX-License-Identifier: GPL-2.0-or-later
"""A real browser, headless, driven by the DevTools protocol over two pipes: what a page does is seen from outside."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
_DEADLINE_S = 60.0
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


def find() -> str | None:
    """The browser's program, if there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One open page. `problems` are script errors and messages of errors, `requests` the addresses asked for."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.problems: list[str] = []
        self.requests: list[str] = []
        for domain in ("Runtime", "Log", "Network", "Page"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """A DevTools command for this page."""
        return self._browser.call(method, self._session, self._note, **arguments)

    def size(self, width: int, height: int, dark: bool = False) -> None:
        """Be so large, as a phone or a desktop is, by day or by night."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )

    def open(self, path: Path) -> None:
        """Open a file and wait until its script is through, or has failed."""
        self.call("Page.navigate", url=path.as_uri())
        end = time.monotonic() + _DEADLINE_S
        while not (self.problems or self.evaluate("document.documentElement?.dataset.drawn") == "yes"):
            assert time.monotonic() < end, "the page's script did not come to its end"

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def click(self, x: float, y: float) -> None:
        """Press and release the mouse there."""
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG file."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def _note(self, message: dict[str, Any]) -> None:
        if message.get("sessionId") != self._session:
            return
        said = message["params"]
        match message["method"]:
            case "Runtime.exceptionThrown":
                self.problems.append(json.dumps(said["exceptionDetails"]))
            case "Log.entryAdded" if said["entry"]["level"] == "error":
                self.problems.append(said["entry"]["text"])
            case "Runtime.consoleAPICalled" if said["type"] == "error":
                self.problems.append(json.dumps(said["args"]))
            case "Network.requestWillBeSent":
                self.requests.append(said["request"]["url"])


class Browser:
    """The browser's process and its pipes."""

    def __init__(self, process: subprocess.Popen[bytes], to_fd: int, from_fd: int) -> None:
        self._process = process
        self._to_fd = to_fd
        self._from_fd = from_fd
        self._number = 0
        self._unread = b""

    def call(
        self, method: str, session: str | None = None, note: Any = lambda message: None, **arguments: Any
    ) -> dict[str, Any]:
        """Send a command, and wait for its result; events that come meanwhile are handed to `note`."""
        self._number += 1
        command: dict[str, Any] = {"id": self._number, "method": method, "params": arguments}
        if session is not None:
            command["sessionId"] = session
        data = json.dumps(command).encode() + b"\0"
        while data:
            data = data[os.write(self._to_fd, data) :]
        while True:
            message = self._next()
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                return dict(message["result"])
            if "method" in message:
                note(message)

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + _DEADLINE_S
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._from_fd], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            data = os.read(self._from_fd, 1 << 20)
            assert data, f"the browser is gone, with status {self._process.poll()}"
            self._unread += data
        message, _, self._unread = self._unread.partition(b"\0")
        return dict(json.loads(message))


@contextlib.contextmanager
def browser(program: str, folder: Path) -> Iterator[Browser]:
    """A browser whose profile is `folder`, which must be empty; all its processes are gone afterwards."""
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()

    def place_pipes() -> None:
        # The browser reads commands from descriptor 3 and writes to 4; either may be in the other's way.
        read, write = os.dup(to_read), os.dup(from_write)
        high = [os.dup2(fd, number) for fd, number in ((read, 60), (write, 61))]
        os.dup2(high[0], 3)
        os.dup2(high[1], 4)

    environment = os.environ | {"HOME": str(folder), "DBUS_SESSION_BUS_ADDRESS": "disabled:"}
    process = subprocess.Popen(
        (program, *_FLAGS, f"--user-data-dir={folder}"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        preexec_fn=place_pipes,
        pass_fds=(3, 4),
        start_new_session=True,
    )
    os.close(to_read)
    os.close(from_write)
    try:
        yield Browser(process, to_write, from_read)
    finally:
        os.close(to_write)
        os.close(from_read)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def browsed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page in a browser; the test is skipped where there is none."""
    program = find()
    if program is None:
        pytest.skip(f"there is no browser to look at pages with: none of {', '.join(NAMES)} on PATH")
    with browser(program, tmp_path_factory.mktemp("profile")) as running:
        yield Page(running)

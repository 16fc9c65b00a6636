"""A headless Chromium for tests of pages, driven over two pipes with the DevTools protocol: no port, no driver."""

from __future__ import annotations

import base64
import json
import os
import selectors
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip


def find_chromium() -> str | None:
    """Path of a Chromium on this machine; None where there is none."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Chromium:
    """One page of a browser with an empty profile; `with Chromium(profile) as browser: browser.open(file)`.

    What the page did is in `requests` (URLs), `console` (messages and uncaught errors) and `dialogs`.
    """

    def __init__(self, profile: Path, timeout_s: float = 60.0) -> None:
        executable = find_chromium()
        assert executable is not None
        profile.mkdir(parents=True)
        self.timeout_s = timeout_s
        self.requests: list[str] = []
        self.console: list[str] = []
        self.dialogs: list[str] = []
        self._number = 0
        self._rest = b""
        their_in, self._out = os.pipe()
        self._in, their_out = os.pipe()
        command = f'exec "$0" "$@" 3<&{their_in} 4>&{their_out}'  # the protocol is spoken on 3 and 4
        self._process = subprocess.Popen(
            ["bash", "-c", command, executable, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(their_in, their_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(their_in)
        os.close(their_out)
        self._session: str | None = None
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Network.setCacheDisabled", cacheDisabled=True)

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *error) -> None:
        try:
            self._session = None
            self.call("Browser.close")
        except (OSError, TimeoutError):
            pass
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def open(self, url: str, settle_s: float = 1.0) -> None:
        """Load a page, wait until it is whole and then a little, in which a late request or error would come."""
        self._loaded = False
        self.call("Page.navigate", url=url)
        self._listen(lambda: self._loaded)
        quiet = time.monotonic() + settle_s
        while (left := quiet - time.monotonic()) > 0:
            self._take(left)

    def evaluate(self, expression: str) -> Any:
        """Value of a JavaScript expression in the page, as the debugger sees it, whatever the page forbids itself."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise ValueError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def resize(self, width: int, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def screenshot(self, file: Path, top: int = 0, height: int | None = None) -> None:
        """A PNG of the page, or of `height` pixels of it from `top` on."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": top, "width": size["width"], "height": height or size["height"] - top, "scale": 1}
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
        file.write_bytes(base64.b64decode(data))

    def print_pdf(self, file: Path) -> None:
        answer = self.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
        file.write_bytes(base64.b64decode(answer["data"]))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer of one command of the protocol."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        content = json.dumps(message).encode() + b"\0"
        while content:
            content = content[os.write(self._out, content) :]
        self._answer: dict[str, Any] | None = None
        self._listen(lambda: self._answer is not None)
        assert self._answer is not None
        if "error" in self._answer:
            raise ValueError(f"{method}: {self._answer['error']['message']}")
        return self._answer["result"]

    def _listen(self, until) -> None:
        deadline = time.monotonic() + self.timeout_s
        while not until():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"Chromium said nothing more within {self.timeout_s:g} s")
            self._take(left)

    def _take(self, wait_s: float) -> None:
        """Read what the browser has to say, for at most `wait_s`."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._in, selectors.EVENT_READ)
            if not selector.select(wait_s):
                return
        data = os.read(self._in, 1 << 20)
        if not data:
            raise OSError("Chromium ended")
        *messages, self._rest = (self._rest + data).split(b"\0")
        for message in messages:
            self._note(json.loads(message))

    def _note(self, message: dict[str, Any]) -> None:
        if "id" in message:
            if message["id"] == self._number:
                self._answer = message
            return
        method, told = message["method"], message["params"]
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.console.append(f"exception: {told['exceptionDetails']['text']}")
        elif method == "Runtime.consoleAPICalled":
            self.console.append(f"{told['type']}: {told['args']}")
        elif method == "Log.entryAdded":
            self.console.append(f"{told['entry']['level']}: {told['entry']['text']}")
        elif method == "Page.javascriptDialogOpening":
            self.dialogs.append(told["message"])

"""Chromium without a window, on pages of a server of this machine, by its DevTools protocol.

The protocol is spoken over a pipe (``--remote-debugging-pipe``: JSON texts that end in NUL, on
descriptors 3 and 4), which needs no library.
"""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

from tests.conftest import require_tool

Json = dict[str, Any]
_SECONDS: Final = 120
_FLAGS: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--disable-dev-shm-usage", "--remote-debugging-pipe"),
)


class Tab:
    """A page that is open.

    Attributes:
        problems: what the console and the content security policy complained of.
    """

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive = send, receive
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.problems: list[str] = []

    def attach(self) -> Self:
        """Take hold of a new tab."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        return self

    def call(self, method: str, **parameters: Any) -> Json:
        """One call of the protocol."""
        self._number += 1
        message: Json = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == self._number:
                assert "error" not in found, found
                result: Json = found["result"]
                return result

    def show(self, *, width: int, height: int, dark: bool = False, scripts: bool = True) -> None:
        """How the next page is shown."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 500)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)

    def open(self, url: str) -> None:
        """Open a page, and wait for it."""
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def until(self, expression: str) -> None:
        """Wait for something to be true."""
        end = time.monotonic() + _SECONDS
        while not self.value(expression):
            assert time.monotonic() < end, f"never: {expression}"
            time.sleep(0.02)

    def value(self, expression: str) -> Any:
        """What a script says; its promises are waited for."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """Press a key."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key,
                      windowsVirtualKeyCode=code)  # fmt: skip

    def picture(self, path: Path) -> None:
        """A picture of the whole page, as PNG."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def _next(self) -> Json:
        end = time.monotonic() + _SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._receive], [], [], max(0, end - time.monotonic()))
            data = os.read(self._receive, 1 << 16) if ready else b""
            assert data, "chromium ended, or says nothing"
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        found: Json = json.loads(text)
        self._note(found)
        return found

    def _note(self, found: Json) -> None:
        parameters = found.get("params", {})
        if found.get("method") == "Log.entryAdded":
            self.problems.append(parameters["entry"]["text"])
        elif found.get("method") == "Runtime.exceptionThrown":
            self.problems.append(parameters["exceptionDetails"]["text"])


@contextmanager
def chromium(profile: Path) -> Iterator[Tab]:
    """A tab in a browser of its own."""
    program = require_tool("chromium")
    to_browser, send = os.pipe()
    receive, from_browser = os.pipe()

    # the protocol is spoken on these two numbers
    command = f'exec 3<&{to_browser} 4>&{from_browser}; exec "$@"'
    child = subprocess.Popen(
        ["/bin/bash", "-c", command, "sh", program, *_FLAGS, f"--user-data-dir={profile}"],
        pass_fds=(to_browser, from_browser),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(to_browser)
    os.close(from_browser)
    try:
        tab = Tab(send, receive)
        yield tab.attach()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, 9)
        child.wait()
        os.close(send)
        os.close(receive)

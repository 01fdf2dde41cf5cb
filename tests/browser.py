"""A headless Chromium for tests, spoken to in its DevTools protocol over a websocket.

    https://chromedevtools.github.io/devtools-protocol/

Tests that want it are skipped where Chromium or the package websocket-client is missing.
"""

import base64
import json
import shutil
import subprocess
import time

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
)
PATIENCE = 60.0  # seconds, on a busy machine


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """``browser(url, width=1200, height=900, dark=False) -> Page``."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Chromium here: " + ", ".join(NAMES))
    websocket = pytest.importorskip("websocket", reason="pip install websocket-client")
    profile = tmp_path_factory.mktemp("chromium")
    log = (profile / "stderr").open("wb")
    with (
        log,
        subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
        ) as process,
    ):
        connection = None
        try:
            connection = _connect(websocket, process, profile)
            talk = Talk(connection)
            yield lambda url, **look: Page(talk, url, **look)
        finally:
            if connection is not None:
                connection.close()
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _connect(websocket, process, profile):
    """A connection, once the port is written where Chromium writes it."""
    file, began = profile / "DevToolsActivePort", time.monotonic()
    while not (file.is_file() and len(file.read_text().splitlines()) == 2):
        said = (profile / "stderr").read_bytes()[-2000:].decode(errors="replace")
        assert process.poll() is None, said
        assert time.monotonic() - began < PATIENCE, said
        time.sleep(0.05)
    port, path = file.read_text().splitlines()
    return websocket.create_connection(
        f"ws://127.0.0.1:{port}{path}", timeout=PATIENCE, suppress_origin=True
    )


class Talk:
    """Commands and their answers; events are kept for whom they belong to."""

    def __init__(self, connection):
        self.connection, self.number, self.events = connection, 0, []

    def ask(self, method, session=None, **params):
        """The answer to a command."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        self.connection.send(json.dumps(message | ({"sessionId": session} if session else {})))
        while True:
            answer = json.loads(self.connection.recv())
            if answer.get("id") == self.number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)


class Page:
    """A page that has been opened."""

    def __init__(self, talk, url, *, width=1200, height=900, dark=False):
        self.talk = talk
        target = talk.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = talk.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")
        phone = width < 600
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def ask(self, method, **params):
        """The answer to a command for this page."""
        return self.talk.ask(method, self.session, **params)

    def run(self, script):
        """The value of an expression; a promise is waited for."""
        answer = self.ask(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, script):
        """The value of an expression once it is true."""
        began = time.monotonic()
        while not (value := self.run(script)):
            assert time.monotonic() - began < PATIENCE, f"never: {script}; {self.problems()}"
            time.sleep(0.05)
        return value

    def events(self, *methods):
        """What has happened on this page."""
        self.run("0")  # whatever came before has come
        return [
            event
            for event in self.talk.events
            if event.get("sessionId") == self.session and event["method"] in methods
        ]

    def problems(self):
        """Exceptions, console errors and warnings, and what the browser itself complains of."""
        found = self.events("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [
            event["params"]
            for event in found
            if event["method"] == "Runtime.exceptionThrown"
            or event["params"].get("type") in ("error", "warning", "assert")
            or event["params"].get("entry", {}).get("level") in ("error", "warning")
        ]

    def requests(self):
        """The addresses that were asked for, but for what is inside of the page."""
        urls = [e["params"]["request"]["url"] for e in self.events("Network.requestWillBeSent")]
        return [url for url in urls if not url.startswith(("data:", "blob:"))]

    def too_wide(self):
        """How many pixels the page is wider than its window, and elements that stick out of it."""
        return self.run(
            """(() => {
              const root = document.documentElement, wide = root.clientWidth;
              const clipped = (e) => e && (getComputedStyle(e).overflowX !== "visible" || clipped(e.parentElement));
              const out = [...document.body.querySelectorAll("*")].filter((e) =>
                e.getBoundingClientRect().right > wide + 1 && !clipped(e.parentElement) && !e.closest("svg"));
              return [root.scrollWidth - wide, out.map((e) => e.outerHTML.slice(0, 80))];
            })()"""
        )

    def mouse(self, kind, x, y):
        """A mouse event: Pressed, Moved or Released, with the left button."""
        self.ask(
            "Input.dispatchMouseEvent",
            type=f"mouse{kind}",
            x=x,
            y=y,
            button="left",
            buttons=0 if kind == "Released" else 1,
            clickCount=0 if kind == "Moved" else 1,
        )

    def screenshot(self, path, whole=True):
        """A PNG of it, of all of its length."""
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=whole, **self._clip(whole))
        path.write_bytes(base64.b64decode(shot["data"]))

    def _clip(self, whole):
        if not whole:
            return {}
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": size | {"x": 0, "y": 0, "scale": 1}}

    def pdf(self, path):
        """It as printed."""
        path.write_bytes(
            base64.b64decode(self.ask("Page.printToPDF", preferCSSPageSize=True)["data"])
        )

"""`convax serve` under load, against a plain loop of calls in one process.

In each round the loop and the service at every concurrency have one turn each, in an order drawn
anew. The loop decodes a picture and calls the jitted function, one after the other, as a script
would; the service does that and HTTP, and gathers requests into batches. The load comes from wrk
where it is installed, else from threads of Python, on the same machine: client and service share
its cores.

    python benchmarks/serve.py --quick
    python benchmarks/serve.py --write                 # results/serve-jax0.12.md
    python benchmarks/serve.py --minutes 1             # memory over time, and no lost request
    python benchmarks/serve.py --run RUN --picture FILE.png
"""

import argparse
import contextlib
import http.client
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from contest import Page, progress

LUA = """
wrk.method = "POST"
local file = io.open("{picture}", "rb")
wrk.body = file:read("*a")
file:close()
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\nRESULT {{"requests": %d, "seconds": %f, "errors": %d, "ms": [%f, %f, %f]}}\\n',
    summary.requests, summary.duration / 1e6, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(90) / 1e3, latency:percentile(99) / 1e3))
end
"""


class Load(NamedTuple):
    """What a client saw."""

    requests: int
    seconds: float
    errors: int
    ms: list[float]  # of a request: percentiles 50, 90 and 99

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


class Service:
    """A running `convax serve`."""

    def __init__(self, process: subprocess.Popen[str], port: int):
        self.process, self.port = process, port
        self.said = ""

    def batches(self) -> tuple[float, float]:
        """How many images it has answered, and in how many calls."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            text = answer.read().decode()
        found = [
            re.search(rf"^convax_batch_size_{w} ([\d.e+]+)", text, re.M) for w in ("sum", "count")
        ]
        images, calls = (float(match[1]) if match else 0.0 for match in found)
        return images, calls

    def memory(self) -> float:
        """Its resident memory in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@contextlib.contextmanager
def serving(run: Path) -> Iterator[Service]:
    """The service, from when it is ready until it has stopped."""
    command = [sys.executable, "-m", "convax", "serve", str(run), "--port", "0"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        port, lines = None, []
        for line in process.stdout:
            lines.append(line)
            found = re.search(r" at http://[^/]*:(\d+)/", line)
            port = int(found[1]) if found else port
            if line == "ready\n":
                break
        if port is None or lines[-1] != "ready\n":
            raise SystemExit(f"error: the service did not begin:\n{''.join(lines)}")
        service = Service(process, port)
        try:
            yield service
        finally:
            process.send_signal(signal.SIGTERM)
            service.said = process.stdout.read()


def wrk(service: Service, picture: Path, concurrency: int, seconds: float) -> Load:
    """The load of wrk, which counts time from a request's sending to its answer's end."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text(LUA.format(picture=picture))
        url = f"http://127.0.0.1:{service.port}/predict"
        command = [
            "wrk",
            "-t1",
            f"-c{concurrency}",
            f"-d{max(1, round(seconds))}s",
            "-s",
            str(script),
            url,
        ]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Load(**json.loads(done.stdout.partition("RESULT ")[2]))


def threads(service: Service, picture: Path, concurrency: int, seconds: float) -> Load:
    """The load of threads, each with a connection of its own; all wait for their answers."""
    content, times, errors = picture.read_bytes(), [], []
    end = time.perf_counter() + seconds

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
        while (began := time.perf_counter()) < end:
            try:
                connection.request("POST", "/predict", content)
                answer = connection.getresponse()
                answer.read()
                (times if answer.status == 200 else errors).append(time.perf_counter() - began)
            except OSError:
                errors.append(time.perf_counter() - began)
                connection.close()
        connection.close()

    began = time.perf_counter()
    crew = [threading.Thread(target=ask) for _ in range(concurrency)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    return _load(times, time.perf_counter() - began, len(errors))


def loop(predictor, picture: Path, seconds: float) -> Load:
    """The same picture decoded and answered, again and again."""
    content, times = picture.read_bytes(), []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        predictor(predictor.read(content))
        times.append(time.perf_counter() - began)
    return _load(times, sum(times), 0)


def _load(times: list[float], seconds: float, errors: int) -> Load:
    ms = (1000 * np.percentile(times, [50, 90, 99])).tolist() if times else [float("nan")] * 3
    return Load(len(times), seconds, errors, ms)


def measure(options: argparse.Namespace, page: Page, run: Path, picture: Path) -> None:
    """The table of all turns."""
    import convax

    client = wrk if shutil.which("wrk") and not options.threads else threads
    predictor = convax.load(run)
    loop(predictor, picture, 0.5)
    turns: dict[int, list[Load]] = {0: [], **{c: [] for c in options.concurrency}}  # 0: the loop
    sizes: dict[int, list[float]] = {c: [] for c in options.concurrency}
    with serving(run) as service:
        for concurrency in options.concurrency:
            client(service, picture, concurrency, 1)
        for number in range(options.rounds):
            for who in random.sample(list(turns), len(turns)):
                progress(f"round {number + 1} of {options.rounds}: {who or 'the loop'}")
                if not who:
                    turns[0].append(loop(predictor, picture, options.seconds))
                    continue
                before = service.batches()
                turns[who].append(client(service, picture, who, options.seconds))
                images, calls = (b - a for a, b in zip(before, service.batches(), strict=True))
                sizes[who].append(images / max(calls, 1))
    progress("")
    page.add(
        f"One {picture.suffix[1:]} of {picture.stat().st_size:,} bytes a request; "
        f"{predictor.task.name} of {'x'.join(map(str, predictor.image_shape))}; client: "
        f"{client.__name__}.",
        "",
        "| | requests/s | over the loop | p50 ms | p90 ms | p99 ms | images a call | errors |",
        "|---|---|---|---|---|---|---|---|",
    )
    for who, loads in turns.items():
        ratio = median(a.rate / b.rate for a, b in zip(loads, turns[0], strict=True))
        p50, p90, p99 = (median(load.ms[i] for load in loads) for i in range(3))
        name = f"service, {who} at once" if who else "a loop in one process"
        batch = f"{median(sizes[who]):.1f}" if who else "1"
        page.add(
            f"| {name} | {median(load.rate for load in loads):,.0f} | {ratio:.2f} | {p50:.2f} "
            f"| {p90:.2f} | {p99:.2f} | {batch} | {sum(load.errors for load in loads)} |"
        )
    page.add("", _end_of(service))


def soak(options: argparse.Namespace, page: Page, run: Path, picture: Path) -> bool:
    """Minutes of load: every request is answered, and memory stays where it is."""
    concurrency, seconds, memory = max(options.concurrency), 60 * options.minutes, []
    with serving(run) as service:
        threads(service, picture, concurrency, min(5.0, seconds / 4))
        before, _ = service.batches()
        over = threading.Event()

        def watch() -> None:
            while not over.wait(1.0):
                memory.append(service.memory())

        watcher = threading.Thread(target=watch)
        watcher.start()
        load = threads(service, picture, concurrency, seconds)
        over.set()
        watcher.join()
        answered = int(service.batches()[0] - before)
    fifths = [median(part) for part in np.array_split(memory, 5) if len(part)]
    first, last = fifths[0], fifths[-1]
    fine = load.errors == 0 and answered == load.requests and last < 1.05 * first
    page.add(
        f"{seconds:.0f} s of load, {concurrency} at once (threads): "
        f"{load.requests + load.errors:,} requests, {load.requests:,} answered with 200 as the "
        f"client saw it, {answered:,} images as the service did; "
        f"{load.rate:,.0f} a second, p99 {load.ms[2]:.1f} ms.  ",
        "Resident memory of the service, looked at each second, MiB, medians of five parts of that "
        f"time: {', '.join(f'{part:.1f}' for part in fifths)} ({last / first - 1:+.1%}); least "
        f"{min(memory):.1f}, most {max(memory):.1f}.  ",
        f"{_end_of(service)} {'No request lost, memory flat.' if fine else 'NOT FINE.'}",
    )
    return fine


def _end_of(service: Service) -> str:
    said = service.said.strip().rpartition("\n")[2]
    return f"On SIGTERM: `{said}`, exit code {service.process.returncode}."


def _new_run(folder: Path) -> Path:
    """LeNet-5 after a few steps on scikit-learn's digits: speed asks for no accuracy."""
    import convax
    from convax.training.config.schema import load_config

    progress("training LeNet-5 for a few steps")
    config = load_config(
        "lenet5-digits", ["training.length=20 steps", "training.evaluate_every=20 steps"]
    )
    return convax.train(config, folder / "run").path


def _new_picture(folder: Path, shape: tuple[int, ...]) -> Path:
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (*shape[:2], 3)).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(noise).convert("L" if shape[-1] == 1 else "RGB").save(content, format="PNG")
    file = folder / "picture.png"
    file.write_bytes(content.getvalue())
    return file


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, help="a run; LeNet-5 on the digits without")
    parser.add_argument("--picture", type=Path, help="a file; noise of the run's size without")
    parser.add_argument(
        "--concurrency", type=lambda s: [int(c) for c in s.split(",")], default=[1, 8, 32]
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="of a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, help="of steady load, in place of the table")
    parser.add_argument("--threads", action="store_true", help="the client of threads, not wrk")
    parser.add_argument(
        "--quick", action="store_true", help="one short round, to see that it works"
    )
    parser.add_argument("--write", action="store_true", help="write results/serve-jaxVERSION.md")
    parser.set_defaults(device="cpu")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.rounds = 1.0, 1
    if options.minutes is not None:
        options.rounds = 1
    if min(options.concurrency) < 1:
        parser.error("--concurrency: need whole numbers from 1, as in 1,8,32")
    page = Page("serve" if options.minutes is None else "serve-soak", options)
    names = ("jax", "numpy", "starlette", "uvicorn")
    page.versions = {"python": sys.version.split()[0], **{name: version(name) for name in names}}
    fine = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = options.run or _new_run(folder)
        shape = json.loads((run / "dataset.json").read_text())["image_shape"]
        picture = options.picture or _new_picture(folder, tuple(shape))
        if options.minutes is None:
            measure(options, page, run, picture.resolve())
        else:
            fine = soak(options, page, run, picture.resolve())
    page.finish()
    sys.exit(not fine)


if __name__ == "__main__":
    main()

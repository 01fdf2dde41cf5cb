"""The service: its answers, what it refuses, and its end."""

import asyncio
import base64
import concurrent.futures
import contextlib
import copy
import functools
import io
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import types
import urllib.request

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

import convax
from convax.inference.serve.admission import Limits
from convax.inference.serve.server import allowed_hosts
from convax.training.config.schema import load_config
from tests.fuzz import odd
from tests.tiny import EMBEDDING, untrained, write_tiny
from tests.training.data.test_jpeg_scans import progressive
from tests.training.tasks.test_segmentation import write_scenes

for package in ("starlette", "uvicorn", "python_multipart", "prometheus_client", "httpx"):
    pytest.importorskip(package)


def png(shape=(6, 6), value=90):
    content = io.BytesIO()
    Image.fromarray(np.full(shape, value, np.uint8)).save(content, format="PNG")
    return content.getvalue()


@pytest.fixture(scope="module")
def predictor(whole):
    return convax.load(whole.path)


@functools.cache
def decoders():
    """Processes that decode for all services of this file."""
    from convax.inference.serve.decoder import Decoders

    return Decoders()


@pytest.fixture(scope="module", autouse=True)
def decoders_end():
    yield
    decoders().close()


def serving(predictor, talk, hosts=("testserver",), run=None, **limits):
    """What ``talk(client, service)`` returns, said to a service within this process."""
    import httpx

    from convax.inference.serve.app import Service, make_app

    async def main():
        service = Service(predictor, Limits()._replace(**limits), run, decoders())
        app = make_app(service, hosts)
        async with service.running():
            while not service.ready:
                assert not service.broken
                await asyncio.sleep(0.01)
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as c:
                return await talk(c, service)

    return asyncio.run(main())


def test_one_picture_and_several(predictor):
    async def talk(client, service):
        one = await client.post("/predict?top=2", content=png())
        files = [("file", (f"{i}.png", png(value=40 * i))) for i in range(3)]
        return one, await client.post("/predict", files=[*files, ("file", ("bad.png", b"no"))])

    one, several = serving(predictor, talk)
    assert one.status_code == several.status_code == 200
    (answer,) = one.json()["answers"]
    expected = predictor(np.full((1, *predictor.image_shape), 90, np.uint8))[0]
    assert answer["class"] == predictor.classes[int(expected.argmax())]
    assert answer["probability"] == pytest.approx(float(expected.max()), abs=1e-5)
    assert len(answer["top"]) == 2
    answers = several.json()["answers"]
    assert [a["file"] for a in answers] == ["0.png", "1.png", "2.png", "bad.png"]
    assert ["error" in a for a in answers] == [False, False, False, True]


def test_nothing_is_compiled_for_a_request(predictor):
    async def talk(client, service):
        before = predictor.function._cache_size()
        pending = [client.post("/predict", content=png(value=v)) for v in range(40)]
        assert {r.status_code for r in await asyncio.gather(*pending)} == {200}
        text = (await client.get("/metrics")).text
        return before, predictor.function._cache_size(), text

    before, after, text = serving(predictor, talk)
    assert before == after
    assert "convax_batch_size_sum 40.0" in text
    calls = re.search(r"convax_batch_size_count ([\d.]+)", text)
    assert calls and float(calls[1]) < 40  # gathered


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/predict", b"", 400, "empty body"),
        ("/predict", png()[:40], 422, "image: cannot be read as an image"),
        ("/predict", b"<svg xmlns='http://www.w3.org/2000/svg'/>", 422, "cannot be read"),
        ("/predict", png((30, 40)), 413, "too many pixels: got 30x40, need at most 1,000"),
        ("/predict", bytes(6000), 413, "body too large: need at most 5,000 bytes"),
        ("/predict?top=-1", png(), 400, "top: got '-1', need a whole number from 1"),
        ("/predict?top=nan", png(), 400, "top: got 'nan'"),
        ("/predict?tpo=1", png(), 400, "query: got tpo"),
        ("/nothing", png(), 404, "/nothing: Not Found"),
    ],
)
def test_what_is_refused(predictor, path, body, status, message):
    async def talk(client, service):
        refused = await client.post(path, content=body)
        fine = await client.post("/predict", content=png())
        return refused, fine, service.in_flight

    refused, fine, in_flight = serving(predictor, talk, max_bytes=5000, max_pixels=1000)
    assert refused.status_code == status
    assert message in refused.text
    assert set(refused.json()) <= {"error", "answers"}
    assert refused.headers["x-content-type-options"] == "nosniff"
    assert fine.status_code == 200
    assert (in_flight.images, in_flight.decoding, in_flight.bytes) == (0, 0, 0)


def test_odd_pictures_are_answered_or_refused(predictor):
    """Bombs by their header, without the memory that they ask for."""

    async def talk(client, service):
        said = {n: await client.post("/predict", content=c) for n, c in odd.pictures().items()}
        return said, await client.post("/predict", content=png())

    said, fine = serving(predictor, talk, batch=1)
    assert fine.status_code == 200
    statuses = {name: answer.status_code for name, answer in said.items()}
    assert set(statuses.values()) == {200, 413, 422}, statuses
    for name in ("bomb.png", "bomb.gif", "bomb.bmp", "wide.png", "tile.tif"):
        assert statuses[name] == 413, name
    for name in ("really-text.png", "really-html.jpg", "really-svg.png", "really-postscript.png"):
        assert statuses[name] == 422, name


@pytest.fixture
def hasty():
    """The port of a server that waits half a second, and what it says of its answers."""
    import uvicorn

    from convax.inference.serve.app import Guard
    from convax.inference.serve.metrics import Metrics
    from convax.inference.serve.protocol import http_protocol
    from convax.inference.serve.server import listen

    sent = queue.Queue()

    async def large(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(50_000_000)})

    async def app(scope, receive, send):
        try:
            await Guard(large, types.SimpleNamespace(metrics=Metrics()))(scope, receive, send)
        finally:
            sent.put("over")

    config = uvicorn.Config(app, http=http_protocol(0.5), lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listener.getsockname()[1], sent
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()  # whatever its clients do


def test_a_client_that_does_not_finish_its_headers(hasty):
    port, _ = hasty
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
        assert client.recv(1000) == b""  # closed


def test_a_client_that_does_not_read_its_answer(hasty):
    port, sent = hasty
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(queue.Empty):
            sent.get(timeout=0.3)  # the request is not over while there is hope
        assert sent.get(timeout=10) == "over"
        time.sleep(2)  # and then it would have it all
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while part := client.recv(1 << 20):
                received += len(part)
    assert received < 50_000_000


def test_an_image_is_inside_until_its_answer_is_taken(predictor):
    """A last, empty message is sent when there is room for it."""
    from convax.inference.serve.app import Service, make_app

    async def main():
        service, inside = Service(predictor, Limits(batch=1), None, decoders()), []
        app = make_app(service, ["*"])
        messages = [{"type": "http.request", "body": png(), "more_body": False}]

        async def receive():
            return messages.pop() if messages else await asyncio.sleep(60)

        async def send(message):
            last = not message.get("more_body", True)
            inside.append((last, len(message.get("body", "")) > 0, service.in_flight.images))

        async with service.running():
            while not service.ready:
                await asyncio.sleep(0.01)
            scope = {"type": "http", "method": "POST", "path": "/predict", "headers": []}
            scope |= {"query_string": b"", "http_version": "1.1", "scheme": "http"}
            await app(scope, receive, send)
        return inside, service.in_flight

    inside, after = asyncio.run(main())
    assert inside == [(False, False, 1), (False, True, 1), (True, False, 1)]
    assert (after.images, after.answered) == (0, 1)


def test_a_body_of_no_stated_length_is_cut_off(predictor):
    async def endless():
        for _ in range(1000):
            yield bytes(1000)

    async def talk(client, service):
        return await client.post("/predict", content=endless())

    assert serving(predictor, talk, max_bytes=5000).status_code == 413


def test_a_body_that_comes_too_slowly(predictor):
    async def slow():
        yield png()[:20]
        await asyncio.sleep(60)
        yield png()[20:]

    async def talk(client, service):
        late = await client.post("/predict", content=slow())
        return late, await client.post("/predict", content=png()), service.in_flight

    late, fine, in_flight = serving(predictor, talk, upload_seconds=0.5)
    assert late.status_code == 408
    assert "upload too slow: need the whole body within 0.5 s" in late.json()["error"]
    assert late.headers["connection"] == "close"  # the rest of the body may still come
    assert fine.status_code == 200
    assert (in_flight.images, in_flight.bytes) == (0, 0)


class Alongside:
    """A service within this process on a thread of its own, for many questions one by one."""

    def __init__(self, predictor, **limits):
        self.questions, self.predictor, self.limits = queue.Queue(), predictor, limits

    def __enter__(self):
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.questions.put(None)
        self.thread.join()

    def _run(self):
        async def talk(client, service):
            while (item := await asyncio.to_thread(self.questions.get)) is not None:
                options, future = item
                try:
                    future.set_result(await options(client, service))
                except BaseException as error:
                    future.set_exception(error)

        serving(self.predictor, talk, **self.limits)

    def ask(self, options):
        future = concurrent.futures.Future()
        self.questions.put((options, future))
        return future.result(timeout=120)


@pytest.fixture(scope="module")
def alongside(predictor):
    with Alongside(predictor, max_bytes=5000, batch=1) as service:
        yield service


PARTS = st.sampled_from(
    [
        b"--x\r\n",
        b"--x--\r\n",
        b"\r\n\r\n",
        b"\r\n",
        b'Content-Disposition: form-data; name="a"',
        b'Content-Disposition: form-data; name="a"; filename="',
        b'a.png"',
        b"Content-Type: image/png",
        png(),
        png()[:30],
        b"\x00",
        b"\xff" * 50,
    ]
)


@st.composite
def damaged_pictures(draw):
    """A picture with a few bytes changed, or cut off."""
    content = bytearray(png())
    for place in draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[place] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.integers(0, len(content)))])


@hypothesis.settings(max_examples=60)
@hypothesis.given(
    body=st.one_of(
        st.binary(max_size=300),
        damaged_pictures(),
        st.lists(PARTS, max_size=12).map(b"".join),
        st.integers(4000, 6000).map(bytes),
    ),
    kind=st.sampled_from(
        ["image/png", "multipart/form-data; boundary=x", "multipart/form-data", "", "text/\\"]
    ),
    query=st.sampled_from(["", "?top=2", "?top=-1", "?invert=1", "?a=b", "?top=1&top=2", "?%ff"]),
)
def test_whatever_is_sent_is_answered(alongside, body, kind, query):
    """With a status that says so, and what was admitted leaves again."""

    async def ask(client, service):
        sent = await client.post(f"/predict{query}", content=body, headers={"Content-Type": kind})
        return sent, await client.post("/predict", content=png()), service.in_flight

    sent, fine, in_flight = alongside.ask(ask)
    assert sent.status_code in (200, 400, 413, 422), sent.text
    assert sent.json().keys() <= {"error", "answers"}
    assert fine.status_code == 200
    assert (in_flight.images, in_flight.decoding, in_flight.bytes) == (0, 0, 0)


def test_a_segmentation_says_shares_and_a_mask_of_the_pictures_size(tmp_path):
    run, _ = untrained(write_scenes(tmp_path, 24), tmp_path / "run")
    predictor = convax.load(run.path)
    picture = png((40, 30))

    async def talk(client, service):
        said = await client.post("/predict", content=picture)
        wanted = {"Accept": "image/png"}
        alone = await client.post("/predict", content=picture, headers=wanted)
        files = [("file", ("a.png", picture)), ("file", ("b.png", picture))]
        return said, alone, await client.post("/predict", files=files, headers=wanted)

    said, alone, two = serving(predictor, talk, batch=1)
    (record,) = said.json()["answers"]
    assert list(record["shares"]) == ["ground", "thing"]
    assert sum(record["shares"].values()) == pytest.approx(1)
    mask = Image.open(io.BytesIO(base64.b64decode(record["mask"])))
    assert mask.size == (30, 40)
    pixels = np.asarray(mask)
    assert float((pixels == 1).mean()) == pytest.approx(record["shares"]["thing"])
    # What the network itself says of the picture, at the size of its images.
    found = predictor(predictor.read(picture)).argmax(axis=-1)
    assert set(np.unique(pixels)) <= set(np.unique(found))
    assert (alone.headers["content-type"], alone.status_code) == ("image/png", 200)
    assert alone.content == base64.b64decode(record["mask"])
    assert (two.status_code, "only of one image" in two.text) == (406, True)


def test_an_embedding_says_its_vector_and_what_is_nearest(tmp_path):
    config = load_config(write_tiny(tmp_path), EMBEDDING)
    run, experiment = untrained(config, tmp_path / "run")
    predictor = convax.load(run.path)
    image = experiment.dataset.train.images[5]
    content = io.BytesIO()
    Image.fromarray(image[..., 0]).save(content, format="PNG")

    async def talk(client, service):
        health = await client.get("/health")
        return health, await client.post("/predict?top=2", content=content.getvalue())

    health, said = serving(predictor, talk, run=run.path, batch=1)
    assert (health.json()["task"], health.json()["heatmap"]) == ("embedding", False)
    (record,) = said.json()["answers"]
    np.testing.assert_allclose(record["embedding"], predictor(image), atol=1e-5)
    first, second = record["nearest"]  # top=2
    # It is itself among the training images that are compared with.
    assert first["class"] == predictor.classes[experiment.dataset.train.labels[5]]
    assert 0 <= first["distance"] < 1e-4 < second["distance"]


def test_too_many_at_once_and_too_many_files(predictor):
    async def talk(client, service):
        pending = [client.post("/predict", content=png()) for _ in range(50)]
        codes = [r.status_code for r in await asyncio.gather(*pending)]
        files = [("file", (f"{i}.png", png())) for i in range(9)]
        return codes, await client.post("/predict", files=files)

    codes, many = serving(predictor, talk, max_in_flight=8)
    assert set(codes) == {200, 429}
    assert (many.status_code, "Too many files" in many.text) == (400, True)


def test_another_name_is_refused(predictor):
    async def talk(client, service):
        return await client.get("/health", headers={"Host": "evil.example"})

    assert serving(predictor, talk).status_code == 400


def test_what_a_page_from_elsewhere_sends_is_refused(predictor):
    """Browsers send an image for any page, unasked; that it cannot read the answer saves no work."""

    async def talk(client, service):
        codes = {
            site: (
                await client.post("/predict", content=png(), headers={"Sec-Fetch-Site": site})
            ).status_code
            for site in ("cross-site", "same-site", "same-origin", "none")
        }
        url = f"/heatmap?class={predictor.classes[0]}"
        heat = await client.post(url, headers={"Sec-Fetch-Site": "cross-site"})
        return codes, heat.status_code, service.in_flight.images

    codes, heat, inside = serving(predictor, talk)
    assert codes == {"cross-site": 403, "same-site": 403, "same-origin": 200, "none": 200}
    assert (heat, inside) == (403, 0)


def test_it_answers_to_its_own_address():
    assert "127.0.0.2" in allowed_hosts("127.0.0.2", ())
    assert allowed_hosts("::1", ()) == ["localhost", "127.0.0.1", "[::1]"]
    assert allowed_hosts("0.0.0.0", ()) == ["*"]
    assert {"192.168.1.5", "cats.example"} <= set(allowed_hosts("192.168.1.5", ["cats.example"]))


def test_a_failure_of_one_picture_leaves_nothing_counted(predictor, monkeypatch):
    """The other of its request is still on its way when it fails."""

    async def talk(client, service):
        whole = service._predict_one

        async def one(upload, options, slot):
            if upload.name == "b.png":
                raise MemoryError
            await asyncio.sleep(0.05)
            return await whole(upload, options, slot)

        monkeypatch.setattr(service, "_predict_one", one)
        files = [("file", (name, png())) for name in ("a.png", "b.png")]
        answer = await client.post("/predict", files=files)
        await asyncio.sleep(0.2)
        return answer.status_code, service.in_flight.decoding, service.in_flight.images

    assert serving(predictor, talk) == (500, 0, 0)


def test_a_heat_map_of_one_picture(predictor):
    async def talk(client, service):
        name = predictor.classes[1]
        return [
            await client.post(f"/heatmap?class={k}", content=png()) for k in (name, "no such class")
        ]

    found, unknown = serving(predictor, talk)
    overlay = Image.open(io.BytesIO(base64.b64decode(found.json()["heatmap"])))
    image = predictor.read(png())
    heat = np.asarray(convax.explain.heatmap(predictor, image, 1))
    alpha = np.asarray(overlay)[..., 3]
    assert (overlay.mode, overlay.size) == ("RGBA", predictor.image_shape[1::-1])
    np.testing.assert_allclose(alpha / 255, 0.75 * heat, atol=1 / 255)
    assert alpha.max() > alpha.min()
    assert (unknown.status_code, "need one class of the network" in unknown.text) == (400, True)


def test_no_heat_map_of_several_networks(predictor):
    async def talk(client, service):
        return await client.post(f"/heatmap?class={predictor.classes[0]}", content=png())

    several = copy.copy(predictor)
    several.trained = None
    assert serving(several, talk).status_code == 404


def test_the_page_allows_its_own_script_alone(predictor):
    async def talk(client, service):
        return await client.get("/")

    page = serving(predictor, talk)
    policy = page.headers["content-security-policy"]
    assert "script-src 'sha256-" in policy
    assert "unsafe" not in policy
    assert "<canvas" in page.text


@contextlib.contextmanager
def service_of(run):
    """``(process, address)`` of `convax serve RUN`, once it is ready."""
    command = [sys.executable, "-m", "convax", "serve", str(run), "--port", "0"]
    with subprocess.Popen(
        command,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        address, lines = None, []
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            found = re.search(r"at (http://\S+)/ ", line)
            address = found[1] if found else address
            if line == "ready\n":
                break
        try:
            assert address is not None, lines
            yield process, address
        finally:
            process.terminate()


def test_a_stopped_service_answers_what_it_accepted(whole):
    """SIGTERM with requests in flight, over a socket."""
    with service_of(whole.path) as (process, address):
        codes = []

        def ask():
            with contextlib.suppress(OSError):  # refused: it no longer listens
                for _ in range(300):
                    request = urllib.request.Request(f"{address}/predict", data=png())
                    with urllib.request.urlopen(request, timeout=30) as answer:
                        codes.append(answer.status)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        while len(codes) < 40:
            assert any(thread.is_alive() for thread in threads)
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        rest = process.stdout.read()
        for thread in threads:
            thread.join()
    assert process.returncode == 0, rest
    found = re.search(r"stopped: (\d+) of (\d+) accepted", rest)
    assert found, rest
    answered, accepted = map(int, found.groups())
    assert answered == accepted == len(codes) >= 40  # each reached its client
    assert set(codes) == {200}


def test_a_second_signal_ends_the_service_at_once(monkeypatch):
    """SIGTERM as well as Ctrl-C, while images are being decoded."""
    import uvicorn

    from convax.inference.serve.server import ending_server

    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    server = ending_server(uvicorn.Config("app"))
    server.handle_exit(signal.SIGTERM, None)
    assert server.should_exit and not ended
    server.handle_exit(signal.SIGTERM, None)
    assert ended == [143]


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded():
    """Each request would hold a decoder for seconds."""
    from convax.inference.serve.admission import RequestRejected
    from convax.inference.serve.image_decoding import decode_upload

    content = progressive(1000, more=200)
    with pytest.raises(RequestRejected, match="more than 100 scans in a JPEG") as caught:
        decode_upload("x", content, image_shape=(8, 8, 1), max_pixels=10**8, invert=False)
    assert caught.value.status == 422


def test_a_taken_port_is_one_line(command, whole):
    from convax.inference.serve.server import listen

    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        code, _, err = command("serve", whole.path, "--port", port)
    assert (code, "choose another --port" in err) == (2, True)


def test_small_answers_are_not_held_back():
    """Without TCP_NODELAY an answer's body waits for the client's delayed acknowledgement."""
    from convax.inference.serve.server import listen

    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

"""Processes that decode: what takes too long ends one of them, and nothing else."""

import io
import os
import signal
import threading

import numpy as np
import pytest
from PIL import Image

from convax.inference.serve import decoder
from convax.inference.serve.admission import RequestRejected
from convax.inference.serve.decoder import Decoders
from convax.inference.serve.image_decoding import decode_upload
from convax.training.data.image import quiet_pillow
from tests.training.data.test_jpeg_scans import progressive

HOW = {"image_shape": (6, 8, 3), "max_pixels": 10**7, "invert": False}


def png(size=(9, 12)):
    file = io.BytesIO()
    Image.fromarray(np.arange(size[0] * size[1], dtype=np.uint8).reshape(size)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def decoders(tmp_path_factory):
    """Begun in a folder with a module that must not be imported."""
    folder = tmp_path_factory.mktemp("here")
    (folder / "numpy.py").write_text("raise SystemExit('imported from the folder of the service')")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(os, "cpu_count", lambda: 1)
        made = Decoders()
        made.start()
    yield made
    made.close()


@pytest.mark.parametrize("how", [HOW, HOW | {"invert": True, "letterbox": True}])
def test_a_process_decodes_as_this_one(decoders, how):
    with quiet_pillow():
        here = decode_upload("x", png(), **how)
    there = decoders.decode("x", png(), seconds=10, **how)
    np.testing.assert_array_equal(there.image, here.image)
    assert there.size == here.size == (9, 12)


@pytest.mark.parametrize("content", [b"", b"no", png()[:50], png((400, 400))])
def test_a_process_refuses_as_this_one(decoders, content):
    said = []
    for decode in (decode_upload, lambda *a, **k: decoders.decode(*a, seconds=10, **k)):
        with quiet_pillow(), pytest.raises(RequestRejected) as caught:
            decode("\udce9 'x'.png", content, **HOW | {"max_pixels": 1000})
        said.append((caught.value.status, str(caught.value)))
    assert said[0] == said[1]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no limit of CPU time here")
def test_a_decoder_that_takes_too_long_is_ended_and_the_next_image_decoded(decoders):
    content = progressive(3000, more=80)  # half a second of work
    with pytest.raises(RequestRejected, match=r"x: .*more than 0\.1 s of work; save") as caught:
        decoders.decode("x", content, seconds=0.1, **HOW)
    assert caught.value.status == 422
    assert decoders.decode("x", png(), seconds=10, **HOW).size == (9, 12)
    for _ in range(5):  # each has its own time, which they would pass together
        decoders.decode("x", progressive(1500, more=40), seconds=0.25, **HOW)


def test_a_decoder_that_fails_is_an_answer(decoders):
    decoders.decode("x", png(), seconds=10, **HOW)
    (one,) = decoders._all
    one.process.send_signal(signal.SIGTERM)  # to the whole group: the service says when it ends
    assert decoders.decode("x", png(), seconds=10, **HOW).size == (9, 12)
    for content in (png(), bytes(10**6)):
        one.start()
        one.process.send_signal(signal.SIGSTOP)  # it is killed with the image in hand
        threading.Timer(0.1, one.process.kill).start()
        with pytest.raises(RequestRejected, match=r"x: .*it ends the decoder") as caught:
            decoders.decode("x", content, seconds=10, **HOW)
        assert caught.value.status == 422
    assert decoders.decode("x", png(), seconds=10, **HOW).size == (9, 12)


def test_a_decoder_that_was_killed_at_rest_is_begun_anew(decoders):
    decoders.decode("x", png(), seconds=10, **HOW)
    (one,) = decoders._all
    one.process.kill()
    one.process.wait(20)
    assert decoders.decode("x", png(), seconds=10, **HOW).size == (9, 12)


def test_an_answer_that_was_not_read_is_not_the_next_one(decoders, monkeypatch):
    def interrupted(file):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(decoder, "_read", interrupted)
        with pytest.raises(MemoryError):
            decoders.decode("x", png((5, 5)), seconds=10, **HOW)
    assert decoders.decode("x", png(), seconds=10, **HOW).size == (9, 12)


def test_a_decoder_ends_when_the_service_has(decoders):
    decoders.decode("x", png(), seconds=10, **HOW)
    (one,) = decoders._all
    one.process.stdin.close()
    assert one.process.wait(20) == 0
    assert (one.end(), one.process) == (0, None)

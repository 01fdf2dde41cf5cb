"""Images decoded in processes of their own, which end when one takes too long.

A decoder is C that nobody can interrupt: a small file may ask for a lot of work, and a damaged one
may find a fault in it. Each process decodes one image after the other, by way of its pipes: a
message is the lengths of two parts, JSON, and bytes. It counts its own CPU time, so that a busy
machine makes no image too slow; the system ends it when the time is over, and the next image finds
a new one.
"""

import contextlib
import json
import os
import queue
import signal
import struct
import subprocess
import sys
from typing import IO, Any

import numpy as np

from ...training.data.image import quiet_pillow
from .admission import RequestRejected
from .image_decoding import DecodedImage, decode_upload

_LENGTHS = struct.Struct(">II")
# Pieces of 16 MiB that Pillow keeps for the next image: to get them anew takes a third of the time
# of a large JPEG.
_KEPT = "4"


class Decoders:
    """Processes that decode, as many as there are cores, four at most."""

    def __init__(self) -> None:
        self.count = min(4, os.cpu_count() or 1)
        self._all = [_Decoder() for _ in range(self.count)]
        self._free: queue.LifoQueue[_Decoder] = queue.LifoQueue()
        for decoder in self._all:
            self._free.put(decoder)

    def start(self) -> None:
        """Begin all of them, without waiting until they are there."""
        for decoder in self._all:
            decoder.start()

    def decode(self, name: str, content: bytes, *, seconds: float, **how: Any) -> DecodedImage:
        """Decode as `decode_upload`; threads may ask at the same time.

        Args:
            name: what errors call the image.
            content: the file.
            seconds: of CPU time that it may take, where the system has such a limit (not Windows).
            how: the keywords of `decode_upload`.

        Raises:
            RequestRejected: as `decode_upload`; 422 of what takes longer, or ends the process.
        """
        decoder = self._free.get()
        try:
            return decoder.decode(name, content, seconds, how)
        finally:
            self._free.put(decoder)

    def close(self) -> None:
        """End all of them, whatever they are doing."""
        for decoder in self._all:
            decoder.end()


class _Decoder:
    """One process; begun when it is needed, and anew when it has ended."""

    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self.process is not None and self.process.poll() is not None:
            self.end()  # it was killed while it had nothing to do
        if self.process is None:
            # -P: no module is taken from the folder that the service runs in.
            command = [sys.executable, "-P", "-m", __name__]
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | {"PILLOW_BLOCKS_MAX": _KEPT},
            )

    def decode(
        self, name: str, content: bytes, seconds: float, how: dict[str, Any]
    ) -> DecodedImage:
        self.start()
        assert self.process and self.process.stdin and self.process.stdout
        try:
            _write(self.process.stdin, {"name": name, "seconds": seconds, **how}, content)
            answer = _read(self.process.stdout)
        except OSError:  # it ended before it had read all of it
            answer = None
        except BaseException:  # the next image must not get what is left of this answer
            self.end()
            raise
        if answer is None:
            late = self.end() == -getattr(signal, "SIGPROF", 0)
            why = f"more than {seconds:g} s of work" if late else "it ends the decoder"
            raise RequestRejected(
                422, f"{name}: cannot be read as an image: {why}; save it again, or smaller"
            )
        head, pixels = answer
        if "error" in head:
            raise RequestRejected(head["status"], head["error"])
        image = np.frombuffer(pixels, head["dtype"]).reshape(head["shape"])
        return DecodedImage(image, (head["size"][0], head["size"][1]))

    def end(self) -> int | None:
        """End the process, and return its exit code: that of before, where it had ended."""
        process, self.process = self.process, None
        if process is None:
            return None
        assert process.stdin and process.stdout
        process.stdout.close()
        with contextlib.suppress(OSError):  # what was not written is for nobody
            process.stdin.close()
        try:
            return process.wait(0.1)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def _write(file: IO[bytes], head: dict[str, Any], content: bytes) -> None:
    text = json.dumps(head).encode()
    file.write(_LENGTHS.pack(len(text), len(content)) + text)
    file.write(content)
    file.flush()


def _read(file: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """Return a message; None where the other side has ended, if within one."""
    lengths = file.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    parts = [file.read(length) for length in _LENGTHS.unpack(lengths)]
    if _LENGTHS.pack(*map(len, parts)) != lengths:
        return None
    return json.loads(parts[0]), parts[1]


def _answer(name: str, content: bytes, how: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    try:
        image, size = decode_upload(name, content, **how)
    except RequestRejected as error:
        return {"status": error.status, "error": str(error)}, b""
    except Exception as error:
        return {"status": 500, "error": f"{name}: {type(error).__name__}"}, b""
    return {"shape": image.shape, "dtype": image.dtype.name, "size": size}, image.tobytes()


def main() -> None:
    """Decode what comes on standard input until it ends."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # of the whole group: the service says when
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    limited = hasattr(signal, "setitimer")
    if limited:
        signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, whatever it is doing
    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    with quiet_pillow():
        while (message := _read(sys.stdin.buffer)) is not None:
            how, content = message
            seconds = how.pop("seconds")
            if limited:
                signal.setitimer(signal.ITIMER_PROF, seconds)
            answer = _answer(how.pop("name"), content, how)
            if limited:
                signal.setitimer(signal.ITIMER_PROF, 0)
            try:
                _write(answers, *answer)
            except OSError:  # the service has gone
                return


if __name__ == "__main__":
    main()

"""Downloads, against a server on this machine that misbehaves on request."""

import contextlib
import errno
import fcntl
import gzip
import hashlib
import http.server
import io
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from convax.training.common.file_lock import try_lock
from convax.training.data import DATASETS, DataError, download, fetch, load_cifar

# `convax.training.data.fetch` is the function; this is the module it is in.
MODULE = sys.modules[fetch.__module__]
CHUNK = download._CHUNK
NAME = "numbers.gz"
CONTENT = random.Random(0).randbytes(100_000)  # gzip cannot make it any smaller
PACKED = gzip.compress(CONTENT, mtime=0)
REPACKED = gzip.compress(CONTENT, compresslevel=1, mtime=7)
WRONG = gzip.compress(CONTENT[::-1], mtime=0)
MOST = 101_000


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Remembers what was asked for: (how, first byte)."""

    log: list[tuple[str, int]]
    released: threading.Event
    sent = 0  # by an endless answer
    daemon_threads = True


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves PACKED; the first part of the path says how."""

    server: Server  # type: ignore[assignment]

    def do_GET(self):
        with contextlib.suppress(OSError):  # who asked may be gone
            self.answer()

    def answer(self):
        how = self.path.split("/")[1]
        start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        self.server.log.append((how, start))
        if (misbehave := getattr(self, f"send_{how}", None)) is not None:
            return misbehave()
        body = {"wrong": WRONG, "repacked": REPACKED}.get(how, PACKED)
        if how == "missing":
            return self.send_error(404)
        if how == "hang":
            self.server.released.wait(10)
            return None
        if how in ("plain", "plain-cut"):  # knows nothing of ranges
            start = 0
        if start >= len(body):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        # How far each gets before it hangs up.
        stop = {
            "cut": start + 5 * CHUNK,
            "plain-cut": 4 * CHUNK,
            "dies": 7 * CHUNK - 1,
        }.get(how)
        self.wfile.write(body[start:stop])
        return None

    def send_huge(self):
        """A terabyte, says the head."""
        self.send_response(200)
        self.send_header("Content-Length", str(10**12))
        self.end_headers()
        self.wfile.write(bytes(CHUNK))

    def send_endless(self):
        """As much as is taken."""
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(bytes(2**16))
            self.server.sent += 2**16

    def send_drip(self):
        """A byte now and then, which no limit on a single wait notices."""
        self.send_response(200)
        self.end_headers()
        while not self.server.released.wait(0.02):
            self.wfile.write(b"x")

    def send_head(self):
        """A head that never ends, likewise."""
        self.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
        while not self.server.released.wait(0.02):
            self.wfile.write(b"x")

    def send_called(self):
        """The file, called packed content, as servers do with .gz files."""
        self.encoded("gzip", PACKED)

    def send_again(self):
        """The file, packed twice more on the way, although nobody asked for it."""
        self.encoded("gzip, gzip", gzip.compress(gzip.compress(PACKED)))

    def encoded(self, coding, body):
        self.send_response(200)
        self.send_header("Content-Encoding", coding)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_moved(self):
        """To where it is, at the end of a body without one."""
        self.send_response(302)
        self.send_header("Location", f"/good/{NAME}")
        self.end_headers()
        while self.server.sent < 100 * 2**20:
            self.wfile.write(bytes(2**16))
            self.server.sent += 2**16

    def send_around(self):
        self.send_response(302)
        self.send_header("Location", self.path)
        self.end_headers()

    def send_nowhere(self):
        self.wfile.write(b"HTTP/1.0 302 Found\r\nLocation: http://[\r\n\r\n")

    def send_letters(self):
        self.wfile.write(b"HTTP/1.0 302 Found\r\nLocation: /\xff\r\n\r\n")

    def send_digits(self):
        self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: " + b"1" * 5000 + b"\r\n\r\n")

    def send_held(self):
        """A half, and the other once somebody else has asked, or waits."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(PACKED)))
        self.end_headers()
        self.wfile.write(PACKED[:50_000])
        if len(self.server.log) > 1:
            self.server.released.set()
        self.server.released.wait(10)
        self.wfile.write(PACKED[50_000:])

    def log_message(self, format, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server(("127.0.0.1", 0), Handler) as running:
        running.log, running.released = [], threading.Event()
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.released.set()
        running.shutdown()
        thread.join()


@pytest.fixture
def get(server, tmp_path, monkeypatch):
    """``get(how, ...)`` fetches a dataset of one file from mirrors that behave like that."""
    file = MODULE.RemoteFile(NAME, sha256(PACKED), MOST, sha256(CONTENT))
    monkeypatch.setitem(DATASETS, "numbers", MODULE.Remote((), (file,)))

    def fetch_from(*hows, **options):
        mirrors = [f"http://127.0.0.1:{server.server_port}/{how}/" for how in hows]
        return fetch("numbers", tmp_path, mirrors=mirrors, **options)

    return fetch_from


@pytest.fixture
def target(tmp_path):
    (tmp_path / "numbers").mkdir()
    return tmp_path / "numbers" / NAME


@pytest.fixture
def part(target):
    return target.with_name(f"{NAME}.part")


def test_fetch_downloads_once(get, server, target, part):
    assert get("good") == target.parent
    assert target.read_bytes() == PACKED and not part.exists()
    get("good")
    assert server.log == [("good", 0)]


def test_known_mirrors_come_after_those_named(get, server, target, monkeypatch):
    known = f"http://127.0.0.1:{server.server_port}/good"  # and no slash is needed
    monkeypatch.setitem(DATASETS, "numbers", DATASETS["numbers"]._replace(mirrors=(known,)))
    get("missing")
    assert server.log == [("missing", 0), ("good", 0)] and target.read_bytes() == PACKED


@pytest.mark.parametrize("bad", ["missing", "wrong", "dies"])
def test_fetch_turns_to_the_next_mirror(get, server, target, part, bad):
    get(bad, "good")
    assert target.read_bytes() == PACKED and not part.exists()
    assert server.log[-1][0] == "good"


def test_fetch_continues_where_the_connection_broke(get, server, target):
    get("cut")
    assert target.read_bytes() == PACKED
    assert server.log == [("cut", 0), ("cut", 5 * CHUNK), ("cut", 10 * CHUNK)]


def test_the_next_call_goes_on_where_the_last_one_gave_up(get, server, target, part):
    with pytest.raises(DataError, match="the connection failed"):
        get("dies")
    had = (
        part.read_bytes()
    )  # of what was sent all but a piece, or with some versions of urllib3 all
    assert PACKED.startswith(had) and 6 * CHUNK <= len(had) < 7 * CHUNK and not target.exists()
    get("good")
    assert server.log[-1] == ("good", len(had))
    assert target.read_bytes() == PACKED and not part.exists()


def test_a_server_without_ranges_sends_everything_again(get, server, target, part):
    part.write_bytes(PACKED[:1_000])
    get("plain")
    assert server.log == [("plain", 1_000)] and target.read_bytes() == PACKED


def test_a_server_without_ranges_that_breaks_off_is_given_up(get, server, part):
    with pytest.raises(DataError, match="the connection failed"):
        get("plain-cut")
    assert server.log == [("plain-cut", 0), ("plain-cut", 4 * CHUNK)]
    assert part.read_bytes() == PACKED[: 4 * CHUNK]


def test_fetch_uses_a_part_that_is_complete(get, server, target, part):
    part.write_bytes(PACKED)
    get("good")
    assert server.log == [("good", len(PACKED))] and target.read_bytes() == PACKED


@pytest.mark.parametrize("left", [b"x" * 1_000, PACKED + b"x"], ids=["other bytes", "too long"])
def test_fetch_discards_a_bad_part(get, server, target, part, left):
    part.write_bytes(left)
    get("good")
    assert server.log == [("good", len(left)), ("good", 0)] and target.read_bytes() == PACKED


def test_fetch_accepts_the_same_content_packed_anew(get, server, target):
    get("repacked")
    assert target.read_bytes() == REPACKED != PACKED
    get("good")
    assert len(server.log) == 1


@pytest.mark.parametrize("md5", [None, hashlib.md5(PACKED).hexdigest()], ids=["sha256", "both"])
def test_fetch_checks_a_file_without_a_content_checksum(get, server, target, monkeypatch, md5):
    file = MODULE.RemoteFile(NAME, sha256(PACKED), MOST, md5=md5)
    monkeypatch.setitem(DATASETS, "numbers", DATASETS["numbers"]._replace(files=(file,)))
    get("wrong", "repacked", "good")
    assert target.read_bytes() == PACKED
    assert [how for how, _ in server.log] == ["wrong", "repacked", "good"]


def test_both_checksums_have_to_be_right(get, target, monkeypatch):
    file = MODULE.RemoteFile(NAME, sha256(PACKED), MOST, md5=hashlib.md5(WRONG).hexdigest())
    monkeypatch.setitem(DATASETS, "numbers", DATASETS["numbers"]._replace(files=(file,)))
    with pytest.raises(DataError, match="wrong checksum"):
        get("good")


def test_cifar10_comes_as_it_is_read(server, tmp_path, monkeypatch):
    """`convax fetch cifar10`, then data.path = "cifar10"."""
    (file,) = DATASETS["cifar10"].files
    assert DATASETS["cifar10"].mirrors == ("https://www.cs.toronto.edu/~kriz/",)
    assert (file.name, file.most) == ("cifar-10-binary.tar.gz", 170_052_171)
    assert file.md5 == "c32a1d4ab5d03f1284b67883e8d87530"  # as its authors publish it
    assert file.sha256 == "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
    mirror = f"http://127.0.0.1:{server.server_port}/good"
    wanted = file._replace(sha256=sha256(PACKED), md5=hashlib.md5(PACKED).hexdigest())
    monkeypatch.setitem(DATASETS, "cifar10", MODULE.Remote((mirror,), (wanted,)))
    folder = fetch("cifar10", tmp_path, progress=False)
    assert folder == tmp_path / "cifar10"
    assert (folder / "cifar-10-binary.tar.gz").read_bytes() == PACKED
    with pytest.raises(DataError, match=r"cifar10/cifar-10-binary\.tar\.gz: damaged archive"):
        load_cifar(folder)  # a gzip file, but no tar: it looked there


@pytest.mark.parametrize(
    "content", [WRONG, PACKED[:-5], b"", b"text"], ids=["other", "cut", "empty", "no gz"]
)
def test_a_wrong_file_is_replaced_and_said_so(get, target, content, capsys):
    target.write_bytes(content)
    get("good", progress=False)
    assert target.read_bytes() == PACKED
    assert capsys.readouterr().err == f"{target}: wrong checksum; fetching it again\n"


def test_a_wrong_file_stays_until_there_is_a_right_one(get, target, part):
    target.write_bytes(b"mine")
    with pytest.raises(DataError, match=r"/wrong/numbers\.gz: wrong checksum"):
        get("wrong")
    assert target.read_bytes() == b"mine" and not part.exists()


def test_fetch_gives_the_reason_of_every_mirror(get, server, target, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 1.0)
    nowhere = "http://127.0.0.1:1", "nonsense"
    known = DATASETS["numbers"]._replace(mirrors=nowhere)
    monkeypatch.setitem(DATASETS, "numbers", known)
    with pytest.raises(DataError) as caught:
        get("missing", "wrong", "hang")
    url = f"http://127.0.0.1:{server.server_port}"
    lines = str(caught.value).splitlines()
    assert lines[:-2] == [
        f"{NAME}: no mirror has it:",
        f"  {url}/missing/{NAME}: 404 Not Found",
        f"  {url}/wrong/{NAME}: wrong checksum",
        f"  {url}/hang/{NAME}: no answer in time",
        f"  http://127.0.0.1:1/{NAME}: the connection failed",
    ]
    assert lines[-2].startswith(f"  nonsense/{NAME}: Invalid URL")
    assert lines[-1] == f"put it into {target.parent} by hand, or name another --mirror"


def test_fetch_rejects_unknown_datasets():
    with pytest.raises(DataError, match=r"fetch: unknown dataset: got 'mnits', need one of mnist"):
        fetch("mnits")


def test_fetch_names_a_folder_it_cannot_write(get, tmp_path):
    (tmp_path / "numbers").touch()
    with pytest.raises(DataError, match=r"numbers: File exists; name another --directory"):
        get("good")


def test_fetch_defaults_to_where_data_is_looked_for(get, target, monkeypatch):
    monkeypatch.setenv("CONVAX_DATA", str(target.parent.parent))
    target.write_bytes(PACKED)
    assert fetch("numbers") == target.parent


@pytest.mark.parametrize(
    ("how", "reason"),
    [("huge", r"1,000,000,000,000 bytes, need 101,000 at most"), ("endless", "more than 101,000")],
)
def test_what_is_larger_than_the_file_is_not_taken(get, server, target, part, how, reason):
    with pytest.raises(DataError, match=reason):
        get(how)
    assert server.sent < 50 * 2**20  # sockets have buffers
    assert not part.exists() and not target.exists()


def test_a_gzip_file_is_unpacked_no_further_than_its_content_is_long(get, target, monkeypatch):
    bomb, read = gzip.compress(bytes(8 * 2**20), 1), []
    monkeypatch.setattr(gzip.GzipFile, "read", _counted(gzip.GzipFile.read, read))
    target.write_bytes(bomb)
    get("good")
    assert sum(read) <= 2 * 2**20 and target.read_bytes() == PACKED


def test_nothing_is_unpacked_on_the_way(get, server, target):
    """Which costs what the server likes; a file that is called packed content is one all the same."""
    get("again", "called")
    assert target.read_bytes() == PACKED
    assert [how for how, _ in server.log] == ["again", "called"]


def _counted(read, counts):
    def counted(self, size=-1):
        piece = read(self, size)
        counts.append(len(piece))
        return piece

    return counted


def test_a_redirect_is_followed_without_reading_its_body(get, server, target):
    get("moved")
    assert target.read_bytes() == PACKED and server.sent < 50 * 2**20
    assert [how for how, _ in server.log] == ["moved", "good"]


@pytest.mark.parametrize("how", ["nowhere", "letters", "digits", "around"])
def test_a_head_that_makes_no_sense_is_the_reason_of_its_mirror_alone(get, target, how):
    get(how, "good")
    assert target.read_bytes() == PACKED


@pytest.mark.parametrize("how", ["drip", "head"])
def test_a_server_that_is_too_slow_is_given_up(get, server, target, monkeypatch, how):
    """Each byte comes in time, and all of them never would."""
    monkeypatch.setattr(download, "TIMEOUT", 1.0)
    get(how, "good")
    assert [how for how, _ in server.log] == [how, "good"] and target.read_bytes() == PACKED


def test_all_of_it_has_to_come_within_the_time_limit(get, target, part):
    with pytest.raises(DataError) as caught:
        get("held", time_limit=0.4)
    assert str(caught.value) == (
        f"{NAME}: not all of it was there after 0.4 s; fetch it again, which goes on from there, "
        "with a larger --time-limit or another --mirror"
    )
    assert PACKED.startswith(part.read_bytes()) and not target.exists()
    get("good")
    assert target.read_bytes() == PACKED


def test_of_two_at_once_one_waits_for_the_other(get, server, target, part, monkeypatch):
    """Into one file they would write a mixture, and both fail."""
    said = []
    monkeypatch.setattr(MODULE, "_say", lambda text: (said.append(text), server.released.set()))
    with ThreadPoolExecutor(2) as both:
        done = [both.submit(get, "held", progress=False) for _ in range(2)]
        assert [each.result() for each in done] == [target.parent] * 2
    assert target.read_bytes() == PACKED and not part.exists()
    assert server.log == [("held", 0)]
    assert said == [f"{target.parent}: another process is fetching into it; waiting for it to end"]


def test_waiting_for_another_process_has_an_end(get, server, target):
    with (target.parent / ".lock").open("w") as lock:
        assert try_lock(lock.fileno())
        with pytest.raises(DataError, match=r"another process has been fetching into it for 0.3 s"):
            get("good", time_limit=0.3)
    assert server.log == []


def test_without_locks_each_has_a_part_of_its_own(get, target, part, monkeypatch):
    def no_locks(descriptor, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    part.write_bytes(b"another process writes here")
    with pytest.raises(DataError, match="the connection failed"):
        get("dies")
    get("good")
    assert target.read_bytes() == PACKED and part.read_bytes() == b"another process writes here"
    assert sorted(file.name for file in target.parent.iterdir()) == [".lock", NAME, part.name]


@pytest.mark.parametrize("progress", [True, False])
def test_fetch_shows_progress_in_plain_lines(get, server, progress, capsys):
    get("missing", "good", progress=progress)
    lines = [
        f"fetching http://127.0.0.1:{server.server_port}/{how}/{NAME}"
        for how in ("missing", "good")
    ]
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines() == (lines if progress else [])


def test_fetch_shows_progress_on_a_terminal(get, target, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    get("cut")
    assert target.read_bytes() == PACKED
    drawn = terminal.getvalue()
    assert NAME in drawn and "kB" in drawn


@pytest.mark.parametrize("file", DATASETS["mnist"].files, ids=lambda file: file.name)
def test_dataset_table_matches_the_real_files(data_dir, file):
    path = data_dir / "mnist" / file.name
    if not path.is_file():
        pytest.skip(f"no {path.name} in CONVAX_DATA")
    assert hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest() == file.unpacked
    assert MODULE._is_right(path, file)

"""HTTP as it comes over a socket: requests that two programs may read differently, half a request."""

import socket
import threading
import time

import pytest

from convax.inference.serve.protocol import network_of, strict_connection

pytest.importorskip("uvicorn")
h11 = pytest.importorskip("h11")

HEAD = b"POST /a HTTP/1.1\r\nHost: x\r\n"
GET = b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
PATIENT, HASTY = 3, 0.3  # half-open connections, seconds


@pytest.fixture(scope="module")
def port():
    """That of a server which answers with the method and the length of the body."""
    import uvicorn

    from convax.inference.serve.protocol import http_protocol
    from convax.inference.serve.server import listen

    async def app(scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        said = f"{scope['method']} {len(body)}|".encode()
        headers = [(b"content-length", str(len(said)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": said})

    http = http_protocol(60, half_open=PATIENT, haste=HASTY)
    config = uvicorn.Config(app, http=http, lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


def said(port, request):
    """All that is answered until the server closes, which it does behind the last request."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(request)
        answer = b""
        while part := client.recv(1 << 16):
            answer += part
    return answer


def events_byte_by_byte(request):
    connection, events = strict_connection(), []
    for place in range(len(request)):
        connection.receive_data(request[place : place + 1])
        while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            events.append(event)
    return events


CLOSING = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(
            HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            id="content-length and transfer-encoding",
        ),
        pytest.param(CHUNKED.replace(b"1.1", b"1.0") + b"0\r\n\r\n", id="chunks in HTTP/1.0"),
        pytest.param(b"GET /a HTTP/1.1\nHost: x\n\n", id="bare LF"),
        pytest.param(b"GET /a HTTP/1.1\r\nHost: x\nX: y\r\n\r\n", id="bare LF between headers"),
        pytest.param(b"GET /a HTTP/1.1\r\nHost: x\r\nX: y\n\r\n", id="bare LF before the end"),
        pytest.param(b"GET /a HTTP/1.1\r\nHost: x\r\nX: y\r\n\n", id="bare LF at the end"),
        pytest.param(b"GET /a HTTP/1.1\r\nHost: x\r\nX: y\r\n z\r\n\r\n", id="folded"),
        pytest.param(b"GET /a HTTP/1.1\r\nHost: x\r\nX: y\r\n\tz\r\n\r\n", id="folded by a tab"),
        pytest.param(CHUNKED + b"1\r\na\r\n0\r\n\n", id="bare LF behind the chunks"),
        pytest.param(CHUNKED + b"0\r\nX: y\n\r\n", id="bare LF in a trailer"),
        pytest.param(CHUNKED + b"0\r\nX: y\r\n z\r\n\r\n", id="folded trailer"),
        pytest.param(CHUNKED + b"1\r\naXX0\r\n\r\n", id="chunk without its end"),
        pytest.param(HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\na", id="two lengths"),
        pytest.param(HEAD + b"Transfer-Encoding: identity\r\n\r\na", id="other encoding"),
        pytest.param(b"GET /a HTTP/1.1\r\nHost: x\r\nX : y\r\n\r\n", id="blank before a colon"),
    ],
)
def test_a_request_of_two_readings_is_refused_and_nothing_behind_it_read(port, request_):
    answer = said(port, request_ + CLOSING)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in answer.lower()
    assert answer.count(b"HTTP/1.1 ") == 1
    with pytest.raises(h11.RemoteProtocolError):
        events_byte_by_byte(request_)


def test_what_has_one_reading_is_answered(port):
    several = [
        (GET, b"GET 0|"),
        (CHUNKED + b"2\r\nab\r\n1;c=d\r\nc\r\n0\r\n\r\n", b"POST 3|"),
        (CHUNKED + b"0\r\nX: y\r\n\r\n", b"POST 0|"),
        (HEAD + b"Content-Length: 4\r\n\r\n\n \n ", b"POST 4|"),
        (CLOSING, b"GET 0|"),
    ]
    answer = said(port, b"".join(request for request, _ in several))
    assert answer.count(b"HTTP/1.1 200 OK") == len(several)
    bodies = [line for line in answer.split(b"\r\n") if b"|" in line]
    assert [body.partition(b"HTTP")[0] for body in bodies] == [body for _, body in several]
    for request, _ in several:
        assert isinstance(events_byte_by_byte(request)[-1], h11.EndOfMessage)


def test_half_open_connections_beyond_the_limit_of_an_address_are_soon_closed(port):
    begun = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(PATIENT + 3)]
    for client in begun:
        client.sendall(GET[:9])
    for client in begun[PATIENT:]:
        assert client.recv(100) == b""
    assert said(port, CLOSING).startswith(b"HTTP/1.1 200")  # whoever is quick enough
    for client in begun[:PATIENT]:
        client.sendall(GET[9:])
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    # Those are half-open no more, although they are kept.
    late = socket.create_connection(("127.0.0.1", port), timeout=10)
    time.sleep(2 * HASTY)
    late.sendall(CLOSING)
    assert late.recv(100).startswith(b"HTTP/1.1 200")
    for client in (*begun, late):
        client.close()


def test_an_address_of_ipv6_is_its_network():
    assert network_of("2001:db8:0:1::2") == network_of("2001:db8:0:1:ffff::") == "2001:db8:0:1::"
    assert network_of("::ffff:192.0.2.7") == network_of("192.0.2.7") != network_of("192.0.2.8")
    assert network_of("") == ""

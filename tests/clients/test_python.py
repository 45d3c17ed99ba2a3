"""The stock python-socketio client against the real binary: both transports and the upgrade, over HTTP and TLS."""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request

import aiohttp
import pytest
import socketio

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("TESTED_BINARY", ROOT / "target/release/academy-rt")
SECRET = "a secret of the test suite, long enough"
DEADLINE = 20


def token(**claims):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    now = int(time.time())
    body = part({"alg": "HS256", "typ": "JWT"}) + b"." + part(
        {"userId": 7, "name": "Ann", "role": "learner", "iat": now, "exp": now + 3600, **claims})
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).digest()
    return (body + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


@pytest.fixture(scope="module", params=["http", "https"])
def server(request):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        tls = request.param == "https"
        command = [BINARY, "serve", "--listen", f"127.0.0.1:{port}", "--data-dir", f"{directory}/data"]
        process = subprocess.Popen(
            command + ([] if tls else ["--no-tls"]),
            env={"JWT_SECRET": SECRET, "ACADEMY_RT_STORAGE_MIN_FREE": "0"}, stdout=subprocess.DEVNULL)
        url = f"{request.param}://127.0.0.1:{port}"
        deadline = time.monotonic() + DEADLINE
        context = None
        while True:
            try:
                if tls:
                    context = ssl.create_default_context(cafile=f"{directory}/data/tls/cert.pem")
                urllib.request.urlopen(f"{url}/readyz", context=context).read()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, "the server is not ready"
                time.sleep(0.02)
        yield url, context
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0


class Client:
    """A signed-in client that remembers what it has heard."""

    def __init__(self, server, **claims):
        self.url, self.context = server
        self.claims = claims
        self.heard = asyncio.Queue()
        self.gone = asyncio.Event()

    async def __aenter__(self):
        connector = aiohttp.TCPConnector(ssl=self.context) if self.context else None
        self.session = aiohttp.ClientSession(connector=connector)
        self.io = socketio.AsyncClient(reconnection=False, http_session=self.session)
        self.io.on("*", lambda event, *data: self.heard.put_nowait((event, *data)))
        self.io.on("disconnect", lambda *_: self.gone.set())
        return self

    async def connect(self, transports, auth=None):
        auth = {"token": token(**self.claims)} if auth is None else auth
        await self.io.connect(self.url, socketio_path="/ws", transports=transports, auth=auth)

    async def next(self, event):
        while True:
            heard = await asyncio.wait_for(self.heard.get(), DEADLINE)
            if heard[0] == event:
                return heard[1]

    async def __aexit__(self, *_):
        await self.io.disconnect()
        await self.session.close()


@pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]], ids="-".join)
def test_the_reference_by_python(server, transports):
    async def run():
        async with Client(server, userId=7, name="Ann", role="hr_admin") as ann, Client(server, userId="bob") as bob:
            await ann.connect(transports)
            who = await ann.next("authenticated")
            assert (who["userId"], who["role"], who["rooms"]) == (7, "hr", ["hr", "user:7", "all"])
            await bob.connect(transports)
            await bob.next("authenticated")
            room = f"py-{'-'.join(transports)}"
            for client in (ann, bob):
                assert (await client.io.call("chat:join", {"roomId": room}))["ok"]
            ack = await ann.io.call("chat:message", {"roomId": room, "content": "Bonjour \U0001f980", "type": "text"})
            assert ack["ok"] and ack["seq"] == 1
            message = await bob.next("chat:message")
            assert (message["senderId"], message["content"], message["id"]) == (7, "Bonjour \U0001f980", ack["id"])
            await bob.io.emit("chat:typing", {"roomId": room, "isTyping": True})
            assert (await ann.next("chat:typing"))["userId"] == "bob"
            before = (await ann.io.call("progress:sync", {"lessonId": 42, "progress": 75, "timeSpent": 120}))["syncVersion"]
            updated = await ann.next("progress:updated")
            assert (updated["lessonId"], updated["progress"], updated["syncVersion"]) == (42, 75, before)
            admin = {"Authorization": f"Bearer {token(userId=1, role='admin')}"}
            for event, payload in (("chat:typing", {"isTyping": True}), ("presence:list", {})):
                refused = await bob.io.call(event, {"roomId": "elsewhere", **payload})
                assert (refused["ok"], refused["error"]["code"]) == (False, "not_joined")
            elsewhere = f"elsewhere-{room}"
            assert (await ann.io.call("chat:join", {"roomId": elsewhere}))["ok"]
            posted = await bob.io.call("chat:message", {"roomId": elsewhere, "content": "without a join"})
            assert (posted["ok"], posted["seq"]) == (True, 1)
            message = await ann.next("chat:message")
            while message["id"] == ack["id"]:  # her own
                message = await ann.next("chat:message")
            assert (message["id"], message["roomId"], message["senderId"]) == (posted["id"], elsewhere, "bob")
            private = {"roomId": f"private-{room}", "private": True}
            async with bob.session.post(f"{bob.url}/api/v1/admin/rooms", json=private, headers=admin) as answer:
                assert answer.status == 200
            refused = await bob.io.call("chat:message", {"roomId": private["roomId"], "content": "x"})
            assert (refused["ok"], refused["error"]["code"]) == (False, "forbidden")
            body = {"target": {"user": "bob"}, "title": "T", "message": "M", "messageFr": "F"}
            async with bob.session.post(f"{bob.url}/api/v1/notifications", json=body, headers=admin) as answer:
                assert answer.status == 200
            assert (await bob.next("notification:new"))["messageFr"] == "F"

    asyncio.run(run())


def test_long_answers_to_polls_by_python(server):
    async def run():
        async with Client(server, userId=70) as ann:
            await ann.connect(["polling"])
            await ann.next("authenticated")
            encodings = []

            async def note(_session, _context, parameters):
                encodings.append(parameters.response.headers.get("Content-Encoding"))

            traced = aiohttp.TraceConfig()
            traced.on_request_end.append(note)
            traced.freeze()
            ann.session.trace_configs.append(traced)
            contents = [f"message {number} \U0001f980 " * 40 for number in range(5)]
            for content in contents:
                assert (await ann.io.call("chat:message", {"roomId": "long", "content": content}))["ok"]
            page = await ann.io.call("chat:history", {"roomId": "long"})
            assert [message["content"].strip() for message in page["messages"]] == [content.strip() for content in contents]
            assert "gzip" in encodings, encodings

    asyncio.run(run())


@pytest.mark.parametrize("transports", [["websocket"], ["polling"]], ids="-".join)
def test_a_bad_token_by_python(server, transports):
    async def run():
        async with Client(server) as client:
            await client.connect(transports, auth={"token": "nonsense"})
            assert (await client.next("auth_error"))["code"] == "token_malformed"
            await asyncio.wait_for(client.gone.wait(), DEADLINE)

    asyncio.run(run())


class Restarted:
    """A server of its own that is ended and started again at the same address."""

    def __init__(self, directory):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.directory = directory
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        self.write("")
        self.log = pathlib.Path(self.directory, "log")
        self.process = subprocess.Popen(
            [BINARY, "serve", "--listen", f"127.0.0.1:{self.port}", "--data-dir", f"{self.directory}/data", "--no-tls"],
            env={"JWT_SECRET": SECRET, "ACADEMY_RT_STORAGE_MIN_FREE": "0", "ACADEMY_RT_CONFIG": f"{self.directory}/a.toml"},
            stdout=subprocess.DEVNULL, stderr=self.log.open("w"))
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/readyz").read()
                return
            except OSError:
                assert self.process.poll() is None and time.monotonic() < deadline, "the server is not ready"
                time.sleep(0.02)

    def end(self, how):
        self.process.send_signal(how)
        assert self.process.wait(DEADLINE) == (0 if how == signal.SIGTERM else -how)

    def write(self, text):
        pathlib.Path(self.directory, "a.toml").write_text(text)

    def reload(self, text):
        self.write(text)
        before = len(self.log.read_text())
        self.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "reloaded" in self.log.read_text()[before:], "the reload is logged")

    def leave(self, how):
        """Ends it, or switches Socket.IO off."""
        if how == "flag":
            self.reload("[server]\nwebsocket_enabled = false\n")
        else:
            self.end(how)

    def come_back(self, how):
        """Undoes that."""
        if how == "flag":
            self.reload("")
        else:
            self.start()

    def post(self, content):
        request = urllib.request.Request(
            f"{self.url}/api/v1/rooms/again/messages", json.dumps({"content": content}).encode(),
            {"Authorization": f"Bearer {token(userId=8)}", "Content-Type": "application/json"})
        assert json.load(urllib.request.urlopen(request))["ok"]


def wait_for(condition, what):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"gave up waiting until {what}"
        time.sleep(0.02)


ENDS = pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, "flag"], ids=["SIGTERM", "SIGKILL", "flag"])
WAYS = pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]], ids="-".join)


def contents(joined):
    assert joined["ok"], joined
    return [message["content"] for message in joined["messages"]]


@ENDS
@WAYS
def test_a_client_comes_back_by_itself(transports, how, tmp_path):
    server = Restarted(tmp_path)
    client = socketio.Client(reconnection_delay=0.05, reconnection_delay_max=0.2)
    seen, reasons, live = [], [], []
    client.on("authenticated", seen.append)
    client.on("disconnect", reasons.append)
    client.on("chat:message", live.append)
    try:
        client.connect(server.url, socketio_path="/ws", transports=transports, auth={"token": token()})
        wait_for(lambda: len(seen) == 1, "it is signed in")
        last = client.call("chat:join", {"roomId": "again"})["lastId"]
        server.leave(how)
        wait_for(lambda: reasons, "it has lost the server")
        if how == "flag":
            server.post("while it was off")
        server.come_back(how)
        wait_for(lambda: len(seen) == 2, f"it is back: {reasons}")
        server.post("before it is in its room")
        expected = [*(["while it was off"] if how == "flag" else []), "before it is in its room"]
        assert contents(client.call("chat:join", {"roomId": "again", "after": last})) == expected
        server.post("behind")
        wait_for(lambda: live, "it hears what is said")
        assert [message["content"] for message in live] == ["behind"]
    finally:
        client.disconnect()
        client.shutdown()
        server.end(signal.SIGTERM)


@ENDS
@WAYS
def test_an_asynchronous_client_comes_back_by_itself(transports, how, tmp_path):
    async def run():
        server = Restarted(tmp_path)
        client = socketio.AsyncClient(reconnection_delay=0.05, reconnection_delay_max=0.2)
        seen, reasons, live = [], [], []
        client.on("authenticated", lambda who: seen.append(who))
        client.on("disconnect", lambda reason: reasons.append(reason))
        client.on("chat:message", lambda message: live.append(message["content"]))

        async def until(condition, what):
            deadline = time.monotonic() + DEADLINE
            while not condition():
                assert time.monotonic() < deadline, f"gave up waiting until {what}"
                await asyncio.sleep(0.02)

        try:
            await client.connect(server.url, socketio_path="/ws", transports=transports, auth={"token": token()})
            await until(lambda: len(seen) == 1, "it is signed in")
            last = (await client.call("chat:join", {"roomId": "again"}))["lastId"]
            await asyncio.to_thread(server.leave, how)
            await until(lambda: reasons, "it has lost the server")
            if how == "flag":
                await asyncio.to_thread(server.post, "while it was off")
            await asyncio.to_thread(server.come_back, how)
            await until(lambda: len(seen) == 2, f"it is back: {reasons}")
            await asyncio.to_thread(server.post, "before it is in its room")
            expected = [*(["while it was off"] if how == "flag" else []), "before it is in its room"]
            assert contents(await client.call("chat:join", {"roomId": "again", "after": last})) == expected
            await asyncio.to_thread(server.post, "behind")
            await until(lambda: live, "it hears what is said")
            assert live == ["behind"]
        finally:
            await client.shutdown()
            await asyncio.to_thread(server.end, signal.SIGTERM)

    asyncio.run(run())

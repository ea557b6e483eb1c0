"""A peer of protocol v1: relay, agent or client, on websockets and uvicorn.

Clauses in the comments are those of spec/v1/README.md. Every event of a link goes to stderr, a JSON object per line.
"""

import argparse
import asyncio
import base64
import json
import os
import pathlib
import signal
import sys
import uuid

import uvicorn
from uvicorn.protocols.websockets.websockets_impl import WebSocketProtocol
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.frames import Opcode

SPEC = pathlib.Path(__file__).resolve().parents[2] / "spec" / "v1" / "constants.json"
V1 = {entry["name"]: entry["value"] for entry in json.loads(SPEC.read_text())["constants"]}


def report(event, **details):
    print(json.dumps({"event": event, **details}), file=sys.stderr, flush=True)


def message(kind, **fields):
    return json.dumps({"inner": {"kind": kind, **fields}}, separators=(",", ":"), ensure_ascii=False)


def inner(text):
    return json.loads(text)["inner"]


def encode(payload):
    return base64.b64encode(payload).decode()


def report_frame(frame, path):
    """Reports the control frames, which the libraries answer by themselves, with the path of the link."""
    if getattr(frame, "opcode", None) in (Opcode.PING, Opcode.PONG):
        report(frame.opcode.name.lower(), path=path, length=len(frame.data))


# ---- relay ----------------------------------------------------------------------------------------------------------


class ReportingProtocol(WebSocketProtocol):
    async def read_frame(self, max_size):
        frame = await super().read_frame(max_size)
        report_frame(frame, self.path)
        return frame


class Refused(Exception):
    """A link that the relay ends, with this code and reason."""


class Link:
    """One accepted WebSocket, as ASGI sees it."""

    def __init__(self, receive, send):
        self._receive, self._send = receive, send

    async def next_text(self):
        """The next message, or None once the link has ended."""
        event = await self._receive()
        if event["type"] == "websocket.disconnect":
            report("closed", code=event["code"], reason=event.get("reason"))
            return None
        if event.get("text") is None:
            raise Refused(V1["CLOSE_UNSUPPORTED"], "")
        return event["text"]

    async def send(self, text):
        await self._ignoring_the_end({"type": "websocket.send", "text": text})

    async def close(self, code, reason=""):
        await self._ignoring_the_end({"type": "websocket.close", "code": code, "reason": reason})

    async def _ignoring_the_end(self, event):
        try:
            await self._send(event)
        except Exception as error:  # uvicorn raises several kinds once the link has ended
            report("unsent", type=event["type"], error=type(error).__name__)


class Stream:
    def __init__(self, client):
        self.id = str(uuid.uuid4())  # S-2
        self.client = client
        self.answered = asyncio.Event()
        self.ok = False

    async def end(self, code, reason=""):
        self.answered.set()
        await self.client.close(code, reason)


class Agent:
    def __init__(self, link):
        self.link = link
        self.streams = {}


class Relay:
    def __init__(self, credentials):
        self.credentials = credentials
        self.agents = {}

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-type", b"application/json")]})
            await send({"type": "http.response.body", "body": b'{"detail":"Not Found"}'})
            return
        await receive()  # websocket.connect
        serve = {V1["AGENT_PATH"]: self.serve_agent, V1["CLIENT_PATH"]: self.serve_client}.get(scope["path"])
        if serve is None:
            await send({"type": "websocket.close"})  # H-8
            return
        offers = [value.decode() for name, value in scope["headers"] if name == b"sec-websocket-extensions"]
        report("upgrade", path=scope["path"], offers=offers)
        await send({"type": "websocket.accept"})
        link = Link(receive, send)
        try:
            first = await link.next_text()
            if first is not None:
                await serve(link, self.start_of(first))
        except Refused as refused:
            await link.close(*refused.args)

    @staticmethod
    def start_of(text):
        try:
            start = inner(text)
        except (ValueError, KeyError) as error:
            raise Refused(V1["CLOSE_INVALID"], "") from error
        report("message", kind=start.get("kind"), fields=[key for key in start if key != "kind"])
        if start.get("kind") != "start":
            raise Refused(V1["CLOSE_POLICY"], "")
        return start

    async def serve_agent(self, link, start):
        name = start.get("name")
        if name is None or self.credentials["edge-agents"].get(name) != start.get("secret"):
            raise Refused(V1["CLOSE_POLICY"], V1["REASON_BAD_CREDENTIALS"])
        if name in self.agents:
            raise Refused(V1["CLOSE_NAME_IN_USE"], "name in use")
        agent = self.agents[name] = Agent(link)
        report("registered", name=name, last_error=start.get("last_error"))
        keep_alive = asyncio.create_task(self.keep_alive(link))
        try:
            while (text := await link.next_text()) is not None:
                await self.from_agent(agent, inner(text))
        finally:
            keep_alive.cancel()
            del self.agents[name]
            report("unregistered", name=name)
            for stream in list(agent.streams.values()):
                await stream.end(V1["CLOSE_AGENT_LOST"], V1["REASON_AGENT_LOST"])

    @staticmethod
    async def keep_alive(link):
        while True:
            await asyncio.sleep(OPTIONS.keep_alive or V1["RELAY_KEEP_ALIVE_INTERVAL"])
            await link.send(message("keep_alive"))

    async def from_agent(self, agent, msg):
        if msg["kind"] != "tcp_data":
            report("message", kind=msg["kind"])
        stream = agent.streams.get(msg.get("connection_id"))
        if stream is None:
            return  # S-13, or a keep_alive
        if msg["kind"] == "tcp_data":
            await stream.client.send(message("tcp_data", data_base64=msg["data_base64"]))
        elif msg["kind"] == "initiate_connection_ok":
            stream.ok = True
            await stream.client.send(message("start_ok"))  # before any data of the agent: S-8 is not played
            stream.answered.set()
        elif msg["kind"] == "initiate_connection_error":
            del agent.streams[stream.id]
            await stream.client.send(message("error", message=V1["ERROR_INITIATE_PREFIX"] + msg["message"]))
            await stream.end(V1["CLOSE_NORMAL"])
        elif msg["kind"] == "connection_reset":
            del agent.streams[stream.id]
            clean = msg["message"] == V1["TARGET_CLOSED_MESSAGE"]
            await self.tell_closed(agent, stream)
            await stream.end(*((V1["CLOSE_NORMAL"],) if clean else (V1["CLOSE_TARGET_RESET"], msg["message"])))

    async def serve_client(self, link, start):
        if start["secret"] not in self.credentials["access-client-secrets"]:
            return await self.refuse_client(link, V1["ERROR_BAD_SECRET"])
        agent = self.agents.get(start["connection_target"])
        if agent is None:
            return await self.refuse_client(link, V1["ERROR_AGENT_NOT_REGISTERED"])
        stream = Stream(link)
        agent.streams[stream.id] = stream
        asked = {key: start[key] for key in ("target_ip", "target_port", "protocol")}
        await agent.link.send(message("initiate_connection", **asked, connection_id=stream.id))
        await stream.answered.wait()
        try:
            while (text := await link.next_text()) is not None:
                msg = inner(text)
                if msg["kind"] == "tcp_data" and stream.id in agent.streams:
                    data = msg["data_base64"]
                    await agent.link.send(message("tcp_data", connection_id=stream.id, data_base64=data))
        finally:
            if agent.streams.pop(stream.id, None) and stream.ok:
                await self.tell_closed(agent, stream)

    @staticmethod
    async def refuse_client(link, text):
        await link.send(message("error", message=text))
        await link.close(V1["CLOSE_NORMAL"])

    @staticmethod
    async def tell_closed(agent, stream):
        text = message("connection_close", message=V1["CONNECTION_CLOSE_MESSAGE"], connection_id=stream.id)
        await agent.link.send(text)


def run_relay():
    relay = Relay(json.loads(pathlib.Path(OPTIONS.credentials_file).read_text()))
    headers = [(V1["RELAY_HEADER"], "python-peer/1")] if OPTIONS.announce else []  # H-12
    config = uvicorn.Config(
        relay, host=OPTIONS.host, port=OPTIONS.port, ws=ReportingProtocol, headers=headers, lifespan="off",
        ws_ping_interval=OPTIONS.ping_interval, ws_ping_timeout=OPTIONS.ping_timeout, log_level="info",
        timeout_graceful_shutdown=2,
    )
    uvicorn.Server(config).run()


# ---- agent and client -----------------------------------------------------------------------------------------------


class ReportingConnection(ClientConnection):
    def process_event(self, event):
        report_frame(event, self.request.path if self.request else None)
        super().process_event(event)


def dial():
    return connect(
        OPTIONS.relay_url, create_connection=ReportingConnection, max_size=OPTIONS.max_size,
        ping_interval=OPTIONS.ping_interval, ping_timeout=OPTIONS.ping_timeout,
        compression="deflate" if OPTIONS.compression else None,
    )


def report_connected(socket):
    headers = socket.response.headers  # any case will do
    report("connected", extensions=headers.get("Sec-WebSocket-Extensions"), header=headers.get(V1["RELAY_HEADER"]))


def report_closed(socket):
    report("closed", code=socket.close_code, reason=socket.close_reason)


class AgentSide:
    def __init__(self, socket):
        self.socket, self.writers, self.tasks = socket, {}, set()

    def start(self, coroutine):
        task = asyncio.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def run(self):
        last_error = None
        name, secret = OPTIONS.name, OPTIONS.secret
        await self.socket.send(message("start", last_error=last_error, name=name, secret=secret))
        self.start(self.keep_alive())
        try:
            async for text in self.socket:
                await self.from_relay(inner(text))
        finally:
            for task in self.tasks:
                task.cancel()
            for writer in self.writers.values():
                writer.close()

    async def keep_alive(self):
        while True:
            await asyncio.sleep(OPTIONS.keep_alive or V1["AGENT_KEEP_ALIVE_INTERVAL"])
            await self.socket.send(message("keep_alive"))

    async def from_relay(self, msg):
        if msg["kind"] != "tcp_data":
            report("message", kind=msg["kind"])
        name = msg.get("connection_id")
        if msg["kind"] == "initiate_connection":
            self.start(self.serve(msg))  # S-6
        elif msg["kind"] == "tcp_data" and name in self.writers:
            self.writers[name].write(base64.b64decode(msg["data_base64"]))
        elif msg["kind"] == "connection_close" and name in self.writers:
            self.writers.pop(name).close()

    async def serve(self, msg):
        name = msg["connection_id"]
        try:
            if msg["protocol"] != V1["PROTOCOL_TCP"]:
                raise OSError(f"Unsupported protocol: {msg['protocol']}")
            reader, writer = await asyncio.open_connection(msg["target_ip"], msg["target_port"])
        except (OSError, OverflowError) as error:
            await self.socket.send(message("initiate_connection_error", message=str(error), connection_id=name))
            return
        self.writers[name] = writer
        await self.socket.send(message("initiate_connection_ok", connection_id=name))
        try:
            while payload := await reader.read(OPTIONS.chunk):
                data = encode(payload)
                await self.socket.send(message("tcp_data", connection_id=name, data_base64=data))
            end = V1["TARGET_CLOSED_MESSAGE"]
        except OSError as error:
            end = f"Target reset the connection: {error}"
        if self.writers.pop(name, None):
            if not self.socket.response.headers.get(V1["RELAY_HEADER"]):
                await asyncio.sleep(V1["LINGER"])
            await self.socket.send(message("connection_reset", message=end, connection_id=name))
            writer.close()


async def run_agent():
    while True:
        try:
            async with dial() as socket:
                report_connected(socket)
                try:
                    await AgentSide(socket).run()
                except ConnectionClosed:
                    pass
                report_closed(socket)
        except (OSError, WebSocketException, TimeoutError) as error:
            report("not_connected", error=str(error))
        await asyncio.sleep(0.2)


def exit_now(status):
    """Ends the process even while a thread waits for stdin."""
    sys.stdout.flush()
    os._exit(status)


async def run_client():
    async with dial() as socket:
        report_connected(socket)
        start = {"connection_target": OPTIONS.agent, "target_ip": OPTIONS.target_ip, "target_port": OPTIONS.target_port}
        await socket.send(message("start", **start, protocol=OPTIONS.protocol, secret=OPTIONS.secret))
        sender = None
        try:
            async for text in socket:
                msg = inner(text)
                if msg["kind"] == "tcp_data":
                    sys.stdout.buffer.write(base64.b64decode(msg["data_base64"]))
                    sys.stdout.buffer.flush()
                    continue
                report("message", kind=msg["kind"], message=msg.get("message"))
                if msg["kind"] == "error":
                    exit_now(1)
                sender = asyncio.create_task(send_stdin(socket))
        except ConnectionClosed:
            pass
        finally:
            if sender:
                sender.cancel()
        report_closed(socket)
        exit_now(0 if socket.close_code == V1["CLOSE_NORMAL"] else 1)


async def send_stdin(socket):
    while payload := await asyncio.to_thread(os.read, 0, OPTIONS.chunk):
        await socket.send(message("tcp_data", data_base64=encode(payload)))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    seats = parser.add_subparsers(dest="seat", required=True)
    relay, agent, client = (seats.add_parser(seat) for seat in ("network-relay", "edge-agent", "access-client"))
    for seat in (relay, agent, client):
        seat.add_argument("--ping-interval", type=float, default=V1["PING_INTERVAL"])
        seat.add_argument("--ping-timeout", type=float, default=V1["PONG_TIMEOUT"])
        seat.add_argument("--keep-alive", type=float, help="seconds between keep_alive messages")
    relay.add_argument("--host", default="127.0.0.1")
    relay.add_argument("--port", type=int, default=V1["DEFAULT_PORT"])
    relay.add_argument("--credentials-file", required=True)
    relay.add_argument("--announce", action="store_true", help="promise to deliver what precedes a reset")
    for seat in (agent, client):
        seat.add_argument("--relay-url", required=True)
        seat.add_argument("--secret", default=os.environ.get("HTTP_NETWORK_RELAY_SECRET"))
        seat.add_argument("--no-compression", dest="compression", action="store_false")
        seat.add_argument("--chunk", type=int, default=V1["ORIGINAL_CHUNK"])
    agent.add_argument("--name", required=True)
    agent.set_defaults(max_size=V1["MAX_MESSAGE_AT_AGENT"])
    client.set_defaults(max_size=V1["MAX_MESSAGE_TO_CLIENT"])
    client.add_argument("agent")
    client.add_argument("target_ip")
    client.add_argument("target_port", type=int)
    client.add_argument("protocol")

    global OPTIONS
    OPTIONS = parser.parse_args()
    if OPTIONS.seat == "network-relay":
        run_relay()
        return
    signal.signal(signal.SIGTERM, lambda *_: exit_now(143))
    asyncio.run(run_agent() if OPTIONS.seat == "edge-agent" else run_client())


main()

"""The client against clusters of three kraftd, against golden frames, and against servers that do what none may.

`cargo ci python` runs it; by hand: KRAFTD_BIN=target/debug python -m unittest -v, in this folder.
"""
import contextlib
import itertools
import json
import os
import queue
import socket
import struct
import subprocess
import tempfile
import threading
import unittest
from pathlib import Path
from unittest import mock

from client import BINARY, FORMATS, KINDS, MAGIC, SCHEMA, Broken, Client, Refused, Unknown, crc32c, decode, encode

BIN = Path(os.environ.get("KRAFTD_BIN", "target/debug")).absolute()
# Nodes take variables of this name for theirs, and refuse those that they do not know.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("KRAFT_")}
GOLDEN = Path(__file__).parents[2] / "tests/golden"
# Generous: a machine may be busy, and a test that passes never waits for it.
PATIENCE = 60
NODES = (1, 2, 3)

class Node:
    """A kraftd that runs."""

    def __init__(self, data, form):
        command = [BIN / "kraftd", "serve", "--data", data, "--exit-with-parent", "--log-format", "json"]
        command += ["--protocol", form]
        pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, text=True, env=ENVIRONMENT, **pipes)
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self.read)
        self.reader.start()
        said = []
        while True:
            line = self.lines.get(timeout=PATIENCE)
            said.append(line)
            if line is None:
                self.stop()
                raise AssertionError(f"kraftd does not start: {said}")
            if '"serving"' in line:
                host, port = json.loads(line)["client"].rsplit(":", 1)
                self.address = (host, int(port))
                return

    def read(self):
        for line in self.process.stderr:
            self.lines.put(line)
        self.lines.put(None)

    def stop(self):
        """Kills it, unless it has ended."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.reader.join()
        self.process.stderr.close()


class Cluster:
    """Three kraftd on loopback that speak one format."""

    def __init__(self, form):
        self.form, self.folder, self.nodes = form, tempfile.TemporaryDirectory(), {}
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    def start(self):
        # An address that no other cluster has: so a node that is down keeps its port, which any connection that is
        # dialled meanwhile could otherwise take. 127.0.0.0/24 is everybody's.
        own = max((os.getpid() << 2 | FORMATS[self.form] - 1) & 0xFFFFFF, 1 << 8)
        address = "127.%d.%d.%d" % (own >> 16, own >> 8 & 0xFF, own & 0xFF)
        # Held together, so that they differ.
        with_ports = [socket.create_server((address, 0)) for _ in NODES]
        peers = {node: "%s:%d" % held.getsockname() for node, held in zip(NODES, with_ports)}
        for held in with_ports:
            held.close()
        members = ",".join(f"{node}={address}" for node, address in peers.items())
        for node in NODES:
            command = [BIN / "kraftd", "init", "--data", self.data(node), "--id", str(node), "--cluster", "python"]
            command += ["--peers", members, "--listen", peers[node], "--client", "127.0.0.1:0"]
            subprocess.run(command, check=True, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
        for node in NODES:
            self.serve(node)

    def serve(self, node):
        self.nodes[node] = Node(self.data(node), self.form)

    def data(self, node):
        return Path(self.folder.name) / str(node)

    def addresses(self):
        return [self.nodes[node].address for node in sorted(self.nodes)]

    def kill(self, node):
        self.nodes.pop(node).stop()

    def stop(self):
        while self.nodes:
            self.nodes.popitem()[1].stop()
        self.folder.cleanup()


class Watched(Client):
    """Keeps where it asked, and what the reply was, if one came."""

    def __init__(self, addresses, form, timeout):
        super().__init__(addresses, form, timeout)
        self.asked = []

    def exchange(self, kind, answer, **fields):
        if answer != "Reply":
            return super().exchange(kind, answer, **fields)
        self.asked.append((self.at, None))
        message = super().exchange(kind, answer, **fields)
        self.asked[-1] = (self.at, message)
        return message

    def go(self, at):
        self.stream, self.at = None, at

    def redirects(self):
        """Each NotLeader, with where was asked next."""
        after = zip(self.asked, self.asked[1:])
        return [(reply, at) for (_, reply), (at, _) in after if reply and (reply.outcome, reply.why) == (2, 1)]


class WithCluster:
    """What holds in a real cluster, in the format that a class below names."""

    form = None

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(cls.form)
        cls.addClassCleanup(cls.cluster.stop)

    def client(self, addresses=None):
        return Watched(addresses or self.cluster.addresses(), self.form, PATIENCE)

    def test_puts_and_gets(self):
        client, every_byte = self.client(), bytes(range(256))
        pairs = {
            b"key": b"value",
            b"without a value": b"",
            every_byte: every_byte[::-1],
            b"\0": b"\xff\xfe\0",
            "Schl\u00fcssel".encode(): "\u503c".encode(),
            b"64 KiB": every_byte * 256,
        }
        for key, value in pairs.items():
            client.put(key, value)
        for key, value in pairs.items():
            self.assertEqual(client.get(key), value, key)
        client.put(b"key", b"another")
        self.assertEqual(client.get(b"key"), b"another")
        self.assertIsNone(client.get(b"nothing was put here"))

    def test_what_is_put_is_there_for_kraftctl(self):
        self.client().put(b"told", b"by Python \xf0\x9f\x90\x8d")
        nodes = ",".join("%s:%d" % address for address in self.cluster.addresses())
        got = subprocess.run(
            [BIN / "kraftctl", "--nodes", nodes, "--timeout", f"{PATIENCE}s", "-o", "plain", "get", "told"],
            check=True,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
        )
        self.assertEqual(got.stdout.rstrip(b"\n"), b"by Python \xf0\x9f\x90\x8d")

    def test_redirects_to_the_leader_are_followed(self):
        addresses = self.cluster.addresses()
        redirects = []
        for first in range(len(addresses)):
            client = self.client(addresses[first:] + addresses[:first])
            client.put(b"from %d" % first, b"%d" % first)
            self.assertEqual(client.get(b"from %d" % first), b"%d" % first)
            redirects += client.redirects()
        # Two of three do not lead; were the leader another one each time, one of them might still have been asked.
        self.assertTrue(redirects)
        self.assertTrue(any(reply.leader in NODES for reply, _ in redirects), redirects)

    def test_a_known_leader_is_one_step_away(self):
        client = self.client()
        for at in range(len(NODES)):
            client.go(at)
            client.connect()
        self.assertEqual(sorted(client.nodes), list(NODES))
        for at in range(len(NODES)):
            client.go(at)
            client.put(b"asked first", b"%d" % at)
        known = [(reply.leader, at) for reply, at in client.redirects() if reply.leader]
        self.assertTrue(known)
        self.assertEqual(known, [(leader, client.nodes[leader]) for leader, _ in known])

    def test_a_dead_leader_has_a_successor(self):
        client = self.client()
        client.put(b"before", b"1")
        leader = next(node for node, at in client.nodes.items() if at == client.at)
        self.cluster.kill(leader)
        self.addCleanup(self.cluster.serve, leader)
        client.put(b"after", b"2")
        self.assertNotEqual(client.at, client.nodes[leader])
        self.assertEqual((client.get(b"before"), client.get(b"after")), (b"1", b"2"))

    def test_what_a_node_refuses_is_refused_by_name(self):
        client = self.client()
        with self.assertRaisesRegex(Refused, "REFUSAL_INVALID"):
            client.ask("Read", query=b"\x63no such query")
        with self.assertRaisesRegex(Refused, "bytes: the node takes"):
            client.put(b"key", bytes(client.frame_max))


class Server:
    """A server that welcomes whoever comes and answers each request as it is told."""

    def __init__(self, form, answer, welcome=None):
        self.form, self.answer, self.welcome = form, answer, welcome or self.welcomed
        self.listener, self.links = socket.create_server(("127.0.0.1", 0)), []
        self.address = self.listener.getsockname()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        with self.listener:
            while True:
                link, _ = self.listener.accept()
                # A client that fails its test may leave its end open.
                link.settimeout(PATIENCE)
                self.links.append(link)
                with link:
                    try:
                        hello = self.receive(link)
                        if hello is None:
                            return
                        link.sendall(self.welcome(self.form, hello))
                        while True:
                            link.sendall(self.answer(self.form, self.receive(link)))
                    except OSError:
                        continue

    @staticmethod
    def welcomed(form, hello):
        fields = {"version": 1, "frame_max": 1 << 20, "nonce": hello.nonce, "from": 1}
        return said(form, "Welcome", **fields)

    def receive(self, link):
        """The message; none when the test is over."""
        head = link.recv(24, socket.MSG_WAITALL)
        if head == b"stop":
            return None
        if len(head) < 24:
            raise ConnectionError
        number, length = struct.unpack_from("<HI", head, 6)
        kind = next(kind for kind in KINDS if KINDS[kind] == number)
        return decode(self.form, kind, link.recv(length, socket.MSG_WAITALL))

    def stop(self):
        for link in list(self.links):
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
        with socket.create_connection(self.address) as link:
            link.sendall(b"stop")
            link.shutdown(socket.SHUT_WR)
        self.thread.join()


def frame(form, number, body, checked=None, crc=None, envelope=1, format_number=None, magic=MAGIC, head_crc=None):
    fields = (magic, envelope, format_number or FORMATS[form], number, len(body))
    head = struct.pack("<4sBBHI", *fields)
    head += struct.pack("<II", len(body) if checked is None else checked, crc32c(body) if crc is None else crc)
    return head + struct.pack("<I", crc32c(head) if head_crc is None else head_crc) + body


def body_of(form, kind, fields):
    """A body that a node sends; in binary by this hand, for the client only reads those."""
    if form != "binary":
        return encode(form, kind, SCHEMA[kind](**fields))

    def of(name):
        return fields.get(name, 0)

    rest = of("detail").encode() if of("detail") else of("answer") or b""
    own = {
        "Welcome": lambda: struct.pack("<H2xIQQQ", of("version"), of("frame_max"), 0, of("nonce"), 0),
        "Goaway": lambda: struct.pack("<H2xI", of("reason"), len(rest)),
        "Reply": lambda: struct.pack("<BxHIQ", of("outcome"), of("why"), len(rest), of("leader")),
    }[kind]()
    return struct.pack("<H2xIQQQQ", 40 + len(own), 0, 0, of("from"), 0, of("request")) + own + rest


def said(form, kind, **fields):
    """The frame of a message that a node sends."""
    return frame(form, KINDS[kind], body_of(form, kind, fields))


def reply(form, request, **fields):
    """The body of a reply, by default the one that was asked for."""
    return body_of(form, "Reply", {"request": request.request, "outcome": 1, "answer": b"\1\3value"} | fields)


class WithServer:
    """What ends a connection, and what does not, in the format that a class below names."""

    form = None

    def get(self, answer, welcome=None):
        server = Server(self.form, answer, welcome)
        self.addCleanup(server.stop)
        return Client([server.address], self.form, PATIENCE).get(b"key")

    def ends(self, what, answer, welcome=None):
        with self.assertRaisesRegex(Broken, what):
            self.get(answer, welcome)

    def test_an_answer_is_taken(self):
        self.assertEqual(self.get(lambda form, request: frame(form, 35, reply(form, request))), b"value")

    def test_a_wrong_crc_ends_it_by_name(self):
        self.ends("wrong CRC of a body", lambda form, request: frame(form, 35, reply(form, request), crc=7))
        self.ends("wrong CRC of a header", lambda form, request: frame(form, 35, reply(form, request), head_crc=7))

        def flipped(form, request):
            sent = bytearray(frame(form, 35, reply(form, request)))
            sent[-1] ^= 1
            return bytes(sent)

        self.ends("wrong CRC of a body", flipped)

    def test_an_unknown_kind_ends_it_by_name(self):
        self.ends("unknown kind 999", lambda form, request: frame(form, 999, reply(form, request)))

    def test_other_frames_end_it_by_name(self):
        self.ends("is no magic", lambda form, request: b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.ends("envelope 2", lambda form, request: frame(form, 35, reply(form, request), envelope=2))
        self.ends("format 9", lambda form, request: frame(form, 35, reply(form, request), format_number=9))
        self.ends("1 of them checked", lambda form, request: frame(form, 35, reply(form, request), checked=1))
        head = struct.pack("<4sBBHIII", MAGIC, 1, FORMATS[self.form], 35, 1 << 30, 1 << 30, 0)
        self.ends("1073741824 bytes", lambda form, request: head + struct.pack("<I", crc32c(head)))
        self.ends("malformed Reply", lambda form, request: frame(form, 35, b"\xc1" * 40))

    def test_an_answer_to_another_question_ends_it(self):
        self.ends("Reply where Reply 1 was due", lambda form, request: said(form, "Reply", request=77, outcome=1))
        self.ends("Welcome where Reply 1 was due", lambda form, request: said(form, "Welcome", version=1))
        self.ends("no welcome to this hello", None, lambda form, hello: said(form, "Welcome", version=1, nonce=5))

    def test_a_goaway_ends_it_with_its_reason(self):
        def goaway(form, _):
            return said(form, "Goaway", reason=12, detail="64 connections")

        self.ends("(?s)GOAWAY_REASON_TOO_MANY.*64 connections", goaway)
        self.ends("(?s)GOAWAY_REASON_TOO_MANY.*64 connections", None, goaway)

    def test_what_ended_a_connection_ends_no_other(self):
        welcomed = []

        def welcome(form, hello):
            welcomed.append(hello)
            return Server.welcomed(form, hello)

        def answer(form, request):
            return frame(form, 35 if len(welcomed) > 1 else 999, reply(form, request))

        server = Server(self.form, answer, welcome)
        self.addCleanup(server.stop)
        client = Client([server.address], self.form, PATIENCE)
        with self.assertRaises(Broken):
            client.get(b"key")
        self.assertEqual(client.get(b"key"), b"value")
        self.assertEqual(len(welcomed), 2)

    def test_a_node_that_stops_is_left_for_another(self):
        asked = []

        def stops(form, request):
            asked.append(request)
            if len(asked) == 1:
                return said(form, "Goaway", reason=13, detail="stopping")
            return frame(form, 35, reply(form, request))

        self.assertEqual(self.get(stops), b"value")

    def test_a_connection_that_breaks_is_made_anew(self):
        asked = []

        def breaks_once(form, request):
            asked.append(request.request)
            if len(asked) == 1:
                raise ConnectionError
            return frame(form, 35, reply(form, request))

        self.assertEqual(self.get(breaks_once), b"value")
        self.assertEqual(asked, [1, 2])

    def test_who_never_hears_does_not_know(self):
        def breaks(form, request):
            raise ConnectionError

        # A clock that goes on by a second whenever it is looked at.
        clock = mock.Mock(monotonic=mock.Mock(side_effect=itertools.count()))
        with mock.patch("client.time", clock), self.assertRaisesRegex(Unknown, "closed the connection"):
            self.get(breaks)
        with self.assertRaisesRegex(Refused, "REFUSAL_NO_SPACE"):
            refused = {"outcome": 2, "why": 3, "detail": "the disk is full"}
            self.get(lambda form, request: said(form, "Reply", request=request.request, **refused))


class Golden(unittest.TestCase):
    """The frames that the project keeps as examples, header and all."""

    def read(self, form, name):
        lines = (GOLDEN / form / f"{name}.hex").read_text().splitlines()
        data = bytes.fromhex("".join(line.split("#")[0] for line in lines))
        self.assertEqual(data, frame(form, struct.unpack_from("<H", data, 6)[0], data[24:]))
        return data[24:]

    def check(self, name, kind, sent):
        bodies = {form: self.read(form, name) for form in FORMATS}
        message = SCHEMA[kind].FromString(bodies["protobuf"])
        for form, body in bodies.items():
            self.assertEqual(decode(form, kind, body), message, (form, name))
            if sent:
                self.assertEqual(decode(form, kind, encode(form, kind, message)), message, (form, name))
                # JSON leaves a choice, of which 64-bit numbers as digits are one.
                if form != "json":
                    self.assertEqual(encode(form, kind, message), body, (form, name))

    def test_what_is_sent_is_golden(self):
        requests = {"hello-client": "Hello", "open-session": "OpenSession", "command": "Command", "read": "Read"}
        for name, kind in requests.items():
            self.check(name, kind, sent=True)

    def test_what_is_golden_is_read(self):
        answers = "committed refused refused-timed-out refused-too-stale unknown lease stale leader received"
        for name in answers.split():
            self.check(f"reply-{name}", "Reply", sent=False)
        for name in ("goaway", "goaway-removed", "goaway-violation"):
            self.check(name, "Goaway", sent=False)
        self.check("welcome", "Welcome", sent=False)

    def test_crc32c_is_castagnoli(self):
        self.assertEqual(crc32c(b"123456789"), 0xE3069283)

    def test_what_a_newer_node_appends_is_skipped(self):
        body = bytearray(self.read("binary", "reply-committed"))
        message = decode("binary", "Reply", bytes(body))
        fixed = struct.calcsize("<H2xIQQQQ" + BINARY["Reply"][0])
        newer = struct.pack("<H", fixed + 8) + body[2:fixed] + bytes(8) + body[fixed:] + b"more"
        self.assertEqual(decode("binary", "Reply", newer), message)
        for wrong in (body + b"more", body[:-1], struct.pack("<H", fixed - 8) + body[2:]):
            with self.assertRaises(Broken):
                decode("binary", "Reply", bytes(wrong))

    def test_the_client_is_short(self):
        self.assertLess(len((Path(__file__).parent / "client.py").read_text().splitlines()), 150)


def of_every_format(base):
    """A test class of each format."""
    for form in FORMATS:
        name = f"{form.capitalize()}{base.__name__}"
        globals()[name] = type(name, (base, unittest.TestCase), {"form": form})


of_every_format(WithCluster)
of_every_format(WithServer)

if __name__ == "__main__":
    unittest.main()

"""Puts and gets through a Kraft cluster in each of its wire formats; docs/standard-formats.md says how it is run."""
import functools, itertools, json, secrets, socket, struct, sys, time
from pathlib import Path

import msgpack
from google.protobuf import descriptor_pb2, json_format, message_factory

FORMATS = {"binary": 1, "protobuf": 2, "msgpack": 3, "json": 4}
KINDS = {"Hello": 1, "Welcome": 2, "Goaway": 3, "OpenSession": 32, "Command": 33, "Read": 34, "Reply": 35}
HEADER, MAGIC, FRAME_MAX = struct.Struct("<4sBBHIII"), b"\xa9KRF", 1 << 20
compiled = descriptor_pb2.FileDescriptorSet.FromString((Path(__file__).parents[2] / "schema/kraft.binpb").read_bytes())
messages = message_factory.GetMessages(compiled.file)
SCHEMA = {kind: messages[f"kraft.v1.{kind}"] for kind in KINDS}
# Bodies of `binary`: the fixed part, which begins alike in every kind, as `struct` has it; # is the length of the rest.
COMMON = ("<H2xIQQQQ", "fixed group cluster from term request ")
BINARY = {"Hello": ("BxHH2xI4xQQQQ", "role version_min version_max frame_max to incarnation nonce features"),
          "Welcome": ("H2xIQQQ", "version frame_max incarnation nonce features"), "Goaway": ("H2xI", "reason #detail"),
          "OpenSession": ("", ""), "Command": ("QQQI4x", "session sequence first_unanswered #command"),
          "Read": ("I4x", "#query"), "Reply": ("BxHIQ", "outcome why #answer leader")}
BY_OUTCOME = {2: {"#answer": "#detail"}, 4: {"why": "basis", "leader": "age_ms"}}
NOT_JSON = {"role": "ROLE_", "reason": "GOAWAY_REASON_", "outcome": "OUTCOME_", "why": "REFUSAL_", "basis": "BASIS_"}
CRCS = list(range(256))
for _ in range(8):
    CRCS = [crc >> 1 ^ (0x82F63B78 if crc & 1 else 0) for crc in CRCS]

class Broken(Exception): """The server sent what it may not, or a goaway: the connection is of no more use."""
class Refused(Exception): """It did not happen and never will."""
class Unknown(Exception): """It may have happened, or happen yet."""

def check(holds, what):
    if not holds:
        raise Broken(what)

def crc32c(data):
    return functools.reduce(lambda crc, byte: crc >> 8 ^ CRCS[(crc ^ byte) & 0xFF], data, 0xFFFFFFFF) ^ 0xFFFFFFFF

def encode(form, kind, message):
    if form == "protobuf":
        return message.SerializeToString()
    if form == "msgpack":
        return msgpack.packb({field.number: value for field, value in message.ListFields()})
    if form == "json":
        fields = json_format.MessageToDict(message, preserving_proto_field_name=True)
        enums = {name: fields[name].removeprefix(NOT_JSON[name]).lower() for name in fields.keys() & NOT_JSON.keys()}
        return json.dumps(fields | enums).encode()
    layout, names = map("".join, zip(COMMON, BINARY[kind]))
    values = [struct.calcsize(layout)] + [getattr(message, name.lstrip("#")) for name in names.split()[1:]]
    rest = [value for value in values if isinstance(value, bytes)]
    return struct.pack(layout, *(len(value) if value in rest else value for value in values)) + b"".join(rest)

def decode(form, kind, body):
    if form == "protobuf":
        return SCHEMA[kind].FromString(body)
    if form == "msgpack":
        fields, known = msgpack.unpackb(body, strict_map_key=False), SCHEMA[kind].DESCRIPTOR.fields_by_number
        return SCHEMA[kind](**{known[number].name: value for number, value in fields.items() if number in known})
    if form == "json":
        fields = json.loads(body)
        enums = {name: NOT_JSON[name] + fields[name].upper() for name in fields.keys() & NOT_JSON.keys()}
        return json_format.ParseDict(fields | enums, SCHEMA[kind](), ignore_unknown_fields=True)
    layout, names = map("".join, zip(COMMON, BINARY[kind]))
    (fixed, *values), known, fields = struct.unpack_from(layout, body), struct.calcsize(layout), {}
    end = fixed  # A newer node may have appended to what is known, and behind the rest.
    for name, value in zip(names.split()[1:], values):
        name = BY_OUTCOME.get(fields.get("outcome"), {}).get(name, name)
        fields[name.lstrip("#")] = body[end:end + value] if name[0] == "#" else value
        end += value if name[0] == "#" else 0
    check(fixed > known and end <= len(body) or fixed == known and end == len(body), "its lengths do not add up")
    return SCHEMA[kind](**fields)

class Client:
    def __init__(self, addresses, form="binary", timeout=5.0):
        self.addresses, self.form, self.timeout, self.nodes = addresses, form, timeout, {}
        self.stream, self.at, self.session, self.sequence, self.requests = None, 0, 0, 0, itertools.count(1)

    def put(self, key, value):
        self.session = self.session or int.from_bytes(self.ask("OpenSession"), "little")
        self.sequence += 1
        place = {"session": self.session, "sequence": self.sequence, "first_unanswered": self.sequence}
        self.ask("Command", command=b"\1\1" + len(key).to_bytes(4, "little") + key + value, **place)

    def get(self, key):
        answer = self.ask("Read", query=b"\1\1" + key)
        return answer[2:] if answer[:2] == b"\1\3" else None

    def ask(self, kind, **fields):  # What may be sent again: a read, or a command with its place in a session.
        until, doubt, why = time.monotonic() + self.timeout, False, "no time"
        while time.monotonic() < until:
            try:
                self.connect()
                reply = self.exchange(kind, "Reply", request=next(self.requests), **fields)
            except (OSError, Broken) as error:
                doubt, why, leader, self.stream = doubt or self.stream is not None, error, 0, None
                if isinstance(error, Broken):
                    raise
            else:
                doubt, why, leader = doubt or reply.outcome != 2, reply, reply.leader
                if reply.outcome == 1:
                    return reply.answer
                if reply.outcome == 2 and reply.why not in (1, 7):  # NotLeader, Stopping: another node
                    break
            self.stream, self.at = None, self.nodes.get(leader, (self.at + 1) % len(self.addresses))
            time.sleep(0 if leader in self.nodes else 0.02)  # Elections take a moment.
        raise (Unknown if doubt else Refused)(" ".join(str(why).split()))

    def connect(self):
        if not self.stream:
            self.frame_max, nonce = 4096, secrets.randbits(64)
            with socket.create_connection(self.addresses[self.at], self.timeout / len(self.addresses)) as link:
                self.stream = link.makefile("rwb")
            hello = {"role": 2, "version_min": 1, "version_max": 1, "frame_max": FRAME_MAX, "nonce": nonce}
            welcome = self.exchange("Hello", "Welcome", **hello)
            check((welcome.nonce, welcome.version) == (nonce, 1), f"no welcome to this hello: {welcome}")
            self.frame_max, self.nodes[getattr(welcome, "from")] = welcome.frame_max, self.at

    def exchange(self, kind, answer, request=0, **fields):
        body = encode(self.form, kind, SCHEMA[kind](request=request, **fields))
        if 24 + len(body) > self.frame_max:
            raise Refused(f"a frame of {24 + len(body)} bytes: the node takes {self.frame_max}")
        head = HEADER.pack(MAGIC, 1, FORMATS[self.form], KINDS[kind], len(body), len(body), crc32c(body))
        self.stream.write(head + crc32c(head).to_bytes(4, "little") + body)
        self.stream.flush()
        head = self.stream.read(24)
        if len(head) < 24:
            raise ConnectionError("the node closed the connection")
        magic, envelope, form, number, length, checked, crc = HEADER.unpack(head[:20])
        check(magic == MAGIC, f"no frame of Kraft's: {magic.hex()} is no magic")
        check(crc32c(head[:20]) == int.from_bytes(head[20:], "little"), "wrong CRC of a header")
        fits = (envelope, form) == (1, FORMATS[self.form]) and checked == length <= FRAME_MAX - 24
        check(fits, f"envelope {envelope}, format {form}, {length} bytes, {checked} of them checked")
        body = self.stream.read(length)
        if len(body) < length:
            raise ConnectionError("the node closed the connection within a frame")
        check(crc32c(body) == crc, "wrong CRC of a body")
        came = next((kind for kind in KINDS if KINDS[kind] == number), None)
        check(came, f"unknown kind {number}")
        try:
            message = decode(self.form, came, body)
        except Exception as error:  # Each library has its own.
            raise Broken(f"malformed {came}: {error!r}") from error
        if came == "Goaway" and message.reason == 13:
            raise ConnectionError("the node is going down")
        check((came, message.request) == (answer, request), f"{came} where {answer} {request} was due: {message}")
        return message

if __name__ == "__main__":
    form, nodes, verb, *words = sys.argv[1:]  # such as: json 127.0.0.1:7001,127.0.0.1:7002 put KEY VALUE
    client = Client([tuple(node.rsplit(":", 1)) for node in nodes.split(",")], form)
    print(getattr(client, verb)(*(word.encode() for word in words)))

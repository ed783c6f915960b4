"""Texts of files, JSON pointers and expressions, and what is made of them by small changes."""

import random
from collections.abc import Iterator

from integration.hostile.mutations import ODD_TEXTS, mutations

__all__ = ["EXPRESSIONS", "FILES", "POINTERS", "files", "texts"]

FILES = {
    "workflow.yaml": """\
name: w   # a comment
retry: {max_attempts: 3, initial_backoff: 100ms}
input_schema: {type: object}
steps:
  - {id: a, action: core.echo, input: {x: [1, {y: 2.50}], "t": "caf\\u00e9"}}
  - id: b
    action: core.echo
    depends_on: [a]
    when: deps["a"].output.x[0] > 0
    timeout: 1m
    input: {v: {$from: a/x/1/y}, i: {$input: /k}, c: {$cel: "1 + 2"}, l: {$literal: {$from: z}}, s: {$secret: KEY}}
    concurrency_key: |
      lines
  - {id: c, action: core.echo, for_each: {expression: deps.a.output.x}, fallback: {value: {kind: &k none, again: *k}}}
""",
    "workflow.json": """\
{"name": "w", "scheduling": "eager", "labels": {"team": "red"}, "outputs": ["b"], "timeout": "1.5h", "steps": [
  {"id": "a", "action": "core.echo", "input": {"x": [1, -2.5e3, true, null, "\\ud83d\\ude00"]}},
  {"id": "b", "action": "core.echo", "input": {"v": {"$from": "a/x/0", "default": 1}}, "allow_failure": true}]}
""",
    "limits.yaml": """\
limits:
  - actions: search.*
    concurrency: 8
    rate: {count: 20, per: 1s, burst: 40}
    per_key: {concurrency: 2, rate: 100/m}
  - {actions: model.chat, adaptive: {initial: 8, min: 1, max: 64}}
""",
    "limits.json": """\
{"limits": [{"actions": "search.*", "concurrency": 8, "rate": "20/s"}, {"actions": "model", "adaptive": true}]}
""",
    "secrets.toml": """\
folder = "/run/secrets/stepwave"
[secrets.SEARCH_KEY]
actions = ["http.request", "search.*"]
namespaces = ["default"]
""",
    "access.toml": """\
[namespaces.default]
[namespaces.research]
actions = ["search.*", "core.*"]
max_runs = 100
starts_per_second = 5
[[tokens]]
name = "ci"
sha256 = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"
roles = {research = "runner", "*" = 'admin'}
[jwt]
jwks = "https://id.example.org/keys"
issuer = "https://id.example.org"
audience = "stepwave"
""",
    "stepwave.toml": """\
listen = "127.0.0.1:0"
max_runs = 500
step-timeout = "2m"
max_payload_bytes = "1MiB"
actions = ["a", "b"]
[temporal]
address = "127.0.0.1:7233"
heartbeat_timeout = 2.5
[tls]
cert = "cert.pem"
key = "key.pem"
""",
}
"""A valid file of each kind, by its name."""

POINTERS = ("", "/x", "/x/1/y", "/x/-", "/x/00", "/~0~1", "/t/0", "/n/1e3", "//", "/ ")

EXPRESSIONS = (
    'deps["a"].output.x[0] + 1',
    "deps.a.output.x.map(i, i * 2).filter(i, i > 2)",
    'size(input.k) > 3 && input.k.startsWith("a") || !has(input.none)',
    'input.list.exists(i, i == 3) ? [1, 2.5, "x"] : {"b": 1, "a": null}',
    'timestamp("2024-01-01T00:00:00Z") + duration("1h30m") < timestamp("2025-01-01T00:00:00Z")',
    'string(1.5) + string(true) + "\\u00e9" + r"\\d" + b"x"',
    '"abc".matches("^a.*(b|c)+$")',
    "int(input.n) % 7 - -9223372036854775808",
    "1u / 2u == 0u || 0x7F in [1, 2]",
)

_HARD = (
    "[" * 20_000,
    "{a: " * 2_000,
    "(" * 1_000,
    "a." * 5_000,
    "9" * 5_000,
    "1e999999999",
    "1979-05-27T07:32:00Z",
    "nan",
    "inf",
    "&a [*a, *a]",
    "<<: {}",
    "!!python/object:os.system x",
    '"""',
    "\t",
    "\\",
    "/" * 3_000,
    "~2",
)
"""Pieces that trip careless parsers: depths, long numbers, and what the formats have beside values."""


def files(name: str, draw: random.Random) -> Iterator[bytes]:
    """Yield changes of a valid file for ever."""
    return _changed(FILES[name], draw)


def texts(samples: tuple[str, ...], draw: random.Random) -> Iterator[str]:
    """Yield changes of texts for ever."""
    sources = [_changed(sample, draw) for sample in samples]
    while True:
        yield next(draw.choice(sources)).decode("utf-8", "replace")


def _changed(sample: str, draw: random.Random) -> Iterator[bytes]:
    for data in mutations(sample.encode(), draw):
        if draw.random() < 0.3:
            piece = draw.choice((*_HARD, *ODD_TEXTS)).encode("utf-8", "surrogatepass")
            place = draw.randrange(len(data) + 1)
            yield data[:place] + piece + data[place + draw.choice((0, 0, len(piece))) :]
        else:
            yield data

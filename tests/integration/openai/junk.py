"""Generates malformed requests below `/v1`, most of them to existing routes."""

import json
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from hypothesis import strategies as st

from tests.integration.test_openai_routes import IDS, KEYED, parameter_of

JOB: Final[dict[str, Any]] = {
    "model": "tiny",
    "training_file": None,
    "validation_file": None,
    "suffix": "own",
    "seed": 7,
    "metadata": {"team": "support"},
    "integrations": [{"type": "wandb", "wandb": {"project": "p", "tags": ["a"]}}],
    "method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.1, "learning_rate_multiplier": 2}}},
    "tunewright": {"training": {"warmup_steps": 3}, "adapter": {"rank": 4}, "priority": 1},
}
UPLOAD: Final[dict[str, Any]] = {
    "bytes": 12,
    "filename": "rows.jsonl",
    "mime_type": "text/jsonl",
    "purpose": "fine-tune",
    "expires_after": {"anchor": "created_at", "seconds": 3600},
}
COMPLETION: Final[dict[str, Any]] = {"part_ids": ["part_" + "0" * 24], "md5": "0" * 32}
METHODS: Final = ("GET", "POST", "DELETE", "PUT", "PATCH", "OPTIONS", "TRACE", "PROPFIND")
PARAMETERS: Final = ("after", "limit", "order", "purpose", "metadata", "metadata[k]", "metadata[", "limit[]")
FIELDS: Final = ("file", "data", "purpose", "expires_after[anchor]", "expires_after[seconds]", "colour", "")
HEADERS: Final = (
    "Accept",
    "Authorization",
    "Content-Digest",
    "Idempotency-Key",
    "If-Range",
    "OpenAI-Organization",
    "Range",
    "X-Request-Id",
    "X-Stainless-Retry-Count",
)
TYPES: Final = (
    "application/json",
    "application/json; charset=utf-16",
    "multipart/form-data; boundary=b",
    "multipart/form-data",
    "multipart/form-data; boundary=" + "b" * 300,
    "application/x-www-form-urlencoded",
    "text/plain",
    "/;=",
)


class Request(NamedTuple):
    method: str
    url: str
    headers: dict[str, bytes]
    body: bytes

    def __repr__(self) -> str:
        """Return a text that is short enough to print."""
        body = f"{self.body[:600]!r} and {max(len(self.body) - 600, 0)} more"
        return f"{self.method} {self.url[:600]}, {self.headers}, {body}"


characters = st.characters(min_codepoint=0x20, max_codepoint=0xFF, blacklist_characters="\x7f")
header_values = st.text(characters, max_size=60).map(lambda text: text.encode("latin-1").strip())
words = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["", "\0", "\ud800", "\udfff\ud800", "a\u202eb", "x" * 70_000, "fine-tune", "0", "-1", "auto", "9" * 400]
    ),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.integers(2**63, 2**70), st.floats(), words),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(words, inner, max_size=4)),
    max_leaves=8,
)
nested = st.tuples(st.sampled_from(["[", '{"a":', '{"model":[']), st.integers(1, 100_000)).map(lambda of: of[0] * of[1])


@st.composite
def altered(draw: st.DrawFn, whole: dict[str, Any]) -> bytes:
    """Generate a valid body in which one value is replaced."""
    body = whole = json.loads(json.dumps(whole))
    key = draw(st.sampled_from(sorted(body)))
    while isinstance(body[key], dict) and draw(st.booleans()):
        body = body[key]
        key = draw(st.sampled_from([*sorted(body), "colour"]))
        body.setdefault(key, None)
    body[key] = draw(values)
    return json.dumps(whole).encode()


@st.composite
def forms(draw: st.DrawFn) -> bytes:
    """Generate a multipart form, complete or not."""
    body = b""
    for name in draw(st.lists(st.sampled_from(FIELDS), max_size=4)):
        filename = draw(st.sampled_from([b"", b'; filename="a.jsonl"', b"; filename*=utf-8''%FF", b'; filename="']))
        head = b'--b\r\nContent-Disposition: form-data; name="' + name.encode() + b'"' + filename
        body += head + b"\r\n\r\n" + draw(st.one_of(st.binary(max_size=50), st.just(b"x" * 2_000))) + b"\r\n"
    return body + draw(st.sampled_from([b"--b--\r\n", b"--b", b"", b"\r\n--c--"]))


bodies = st.one_of(
    values.map(lambda value: json.dumps(value).encode()),
    nested.map(str.encode),
    st.just(json.dumps(JOB | {"suffix": "x" * 2**21}).encode()),
    st.just(json.dumps(JOB, indent=1).encode("utf-16")),
    forms(),
    st.binary(max_size=60),
)
rarely = st.integers(0, 5).map(lambda number: number == 5)
texts = st.one_of(st.binary(max_size=30), st.sampled_from([b"\0", b"\xff", b"a/b", b"9" * 400, b"x" * 3_000])).filter(
    lambda text: not {b".", b".."} & {*text.split(b"/")}  # which no client sends
)


@st.composite
def requests(draw: st.DrawFn, known: dict[str, str]) -> Request:
    """Generate a request. `known` has an existing id for each parameter of a path."""
    fitting = {
        "/fine_tuning/jobs": altered(JOB | {"training_file": known["file_id"]}),
        "/uploads": altered(UPLOAD),
        "/uploads/{upload_id}/complete": altered(COMPLETION),
        "/uploads/{upload_id}/parts": forms(),
        "/files": forms(),
    }
    routes = [route for route in KEYED if route[0] != "HEAD"] + [("POST", path) for path in fitting] * 3
    method, path = draw(st.sampled_from(routes))
    kind, body = draw(st.sampled_from([*TYPES, None])), draw(bodies)
    if method == "POST" and path in fitting and not draw(rarely):
        kind, body = "multipart/form-data; boundary=b", draw(fitting[path])
        kind = kind if body.startswith(b"--b") else "application/json"
    url = draw(addresses(path, known))
    headers = draw(st.dictionaries(st.sampled_from(HEADERS), header_values, max_size=2)) if draw(rarely) else {}
    if kind:
        headers["Content-Type"] = kind.encode()
    return Request(draw(st.sampled_from(METHODS)) if draw(rarely) else method, url, headers, body)


@st.composite
def addresses(draw: st.DrawFn, path: str, known: dict[str, str]) -> str:
    if "{" in path:
        name = parameter_of(path)
        ids = st.just(known[name]) if not draw(rarely) else st.sampled_from(IDS[name])
        path = path.replace(f"{{{name}}}", quote(draw(texts if draw(rarely) else ids.map(str.encode)), safe=""))
    if draw(rarely) and draw(rarely):
        path = "/" + quote(draw(texts), safe="/")
    names = st.one_of(st.sampled_from(PARAMETERS), words.map(quoted))
    query = draw(st.lists(st.tuples(names, st.one_of(texts, st.sampled_from([b"1", b"asc", b"null"]))), max_size=3))
    return path + ("?" + "&".join(f"{name}={quote(value)}" for name, value in query) if query else "")


def quoted(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass")[:200])

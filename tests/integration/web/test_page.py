"""Tests how the web page is served: its document, its files, and what a browser may do with them."""

import gzip
import posixpath
import re
import shutil
import subprocess
import sys
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from backports import zstd
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.page.routes import create_router
from app.page.site import STATIC, Site, read_site
from app.web import problems
from app.web.request_id import mark_answers

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
ROOT = Path(__file__).parents[3]
BUILD = read_site().build


class Links(HTMLParser):
    """Collects what a document loads, and its inline code."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.inline: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag in ("link", "script", "img"):
            self.loaded.append(given.get("src") or given.get("href") or "inline script")
        self.inline += [name for name in given if name == "style" or name.startswith("on")]


def policy_of(answer: Any) -> dict[str, str]:
    (policy,) = answer.headers.get_list("content-security-policy")
    return {name: values for name, _, values in (each.strip().partition(" ") for each in policy.split(";"))}


@pytest.mark.parametrize("path", ["/", "/ui", "/ui/", "/ui/jobs/ftjob-1?x=y&x=z", "/ui/new"])
def test_every_view_is_the_same_document(server: TestClient, path: str) -> None:
    answer = server.get(path, headers=BROWSER, follow_redirects=False)
    assert answer.status_code == 200
    assert answer.text == server.get("/", headers=BROWSER).text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["vary"] == "Accept, Accept-Encoding"
    again = server.get(path, headers={**BROWSER, "If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_the_document_loads_files_of_its_build_and_nothing_else(server: TestClient) -> None:
    links = Links(server.get("/", headers=BROWSER).text)
    assert links.inline == []
    assert len(links.loaded) >= 3
    for link in links.loaded:
        assert link.startswith(f"/ui/{BUILD}/")
        answer = server.get(link)
        assert answer.status_code == 200, link
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"


def test_every_file_is_served_as_what_it_is(server: TestClient) -> None:
    types = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    files = [path for path in STATIC.rglob("*") if path.suffix in types]
    assert files
    for path in files:
        answer = server.get(f"/ui/{BUILD}/{path.relative_to(STATIC).as_posix()}")
        assert answer.content == path.read_bytes(), path
        assert answer.headers["content-type"].partition(";")[0] == types[path.suffix]


@pytest.mark.parametrize("path", ["/", "/ui/jobs", f"/ui/{BUILD}/js/main.js", f"/ui/{BUILD}/js/none.js"])
def test_head_answers_as_get_without_the_body(server: TestClient, path: str) -> None:
    head, get = server.head(path, headers=BROWSER), server.get(path, headers=BROWSER)
    assert head.status_code == get.status_code
    ours = ("etag", "content-type", "content-length", "cache-control", "vary", "content-security-policy")
    assert [head.headers.get(name) for name in ours] == [get.headers.get(name) for name in ours]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("0123456789abcdef/js/main.js", "page_outdated"),
        ("0123456789abcdef/", "page_outdated"),
        (f"{BUILD}/js/none.js", "not_found"),
        (f"{BUILD}/index.html", "not_found"),
        (f"{BUILD}/..%2Fabout.py", "not_found"),
        (f"{BUILD}/", "not_found"),
    ],
)
def test_a_file_of_another_build_is_refused(server: TestClient, path: str, code: str) -> None:
    """A tab that was opened before an update must not mix the scripts of two versions."""
    answer = server.get(f"/ui/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"


def test_text_is_compressed_as_the_browser_accepts_it(server: TestClient) -> None:
    path, plain = f"/ui/{BUILD}/js/main.js", (STATIC / "js/main.js").read_bytes()

    def get(accepted: str) -> tuple[str | None, bytes, str]:
        with server.stream("GET", path, headers={"Accept-Encoding": accepted}) as answer:
            assert answer.headers["vary"] == "Accept-Encoding"
            body = b"".join(answer.iter_raw())
            assert int(answer.headers["content-length"]) == len(body)
            return answer.headers.get("content-encoding"), body, answer.headers["etag"]

    found = {
        accepted: get(accepted) for accepted in ("gzip, deflate", "gzip;q=0.5, br, zstd", "br", "gzip;q=0, zstd;q=0.0")
    }
    (first, gzipped, _), (second, zstandard, _), third, fourth = found.values()
    assert (first, gzip.decompress(gzipped)) == ("gzip", plain)
    assert (second, zstd.decompress(zstandard)) == ("zstd", plain)
    assert third == fourth
    assert third[:2] == (None, plain)
    assert len({tag for _, _, tag in found.values()}) == 3  # strong tags differ when the bytes do
    known = server.get(path, headers={"Accept-Encoding": "gzip", "If-None-Match": found["gzip, deflate"][2]})
    assert known.status_code == 304


def test_the_page_may_do_little(server: TestClient) -> None:
    for path in ("/", "/ui/jobs", "/ui/0123456789abcdef/js/main.js"):
        answer = server.get(path, headers=BROWSER)
        assert policy_of(answer) == {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "img-src": "'self' data:",
            "connect-src": "'self'",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
            "require-trusted-types-for": "'script'",
            "trusted-types": "'none'",
        }
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "camera=()" in answer.headers["permissions-policy"]


@pytest.mark.parametrize(
    ("origin", "is_trustworthy"),
    [("https://tune.example.com", True), ("http://127.0.0.1:8400", True), ("http://[::1]:8400", True),
     ("http://localhost:8400", True), ("http://tune.lan:8400", False)],
)  # fmt: skip
def test_a_document_is_kept_apart_where_browsers_heed_it(origin: str, is_trustworthy: bool) -> None:
    """On plain HTTP, browsers ignore the header and print an error into the console."""
    server = serve({"index.html": b"<!doctype html>"})
    for path in ("/", "/ui/jobs"):
        answer = server.get(f"{origin}{path}", headers=BROWSER)
        assert (answer.headers.get("cross-origin-opener-policy") == "same-origin") == is_trustworthy


def test_a_file_of_the_page_may_do_nothing_by_itself(server: TestClient) -> None:
    answer = server.get(f"/ui/{BUILD}/js/main.js", headers=BROWSER)
    assert policy_of(answer) == {"default-src": "'none'", "frame-ancestors": "'none'"}
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    "path",
    ["/", "/ui/jobs", "/docs", "/v1/docs", "/docs-assets/swagger-ui.css", "/healthz", "/jobs", "/v1/models", "/-"],
)
def test_no_answer_may_be_framed_or_guessed_at(server: TestClient, path: str) -> None:
    answer = server.get(path)
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert answer.headers.get_list("x-frame-options") == ["DENY"]
    assert policy_of(answer)["frame-ancestors"] == "'none'"
    assert policy_of(answer)["default-src"] == "'none'"


@pytest.mark.parametrize("path", ["/docs", "/v1/docs"])
def test_the_reference_runs_its_own_inline_script_only(server: TestClient, path: str) -> None:
    answer = server.get(path)
    policy = policy_of(answer)
    assert re.fullmatch(r"'self' 'sha256-[A-Za-z0-9+/]{43}='", policy["script-src"])
    assert policy["connect-src"] == "'self'"
    assert answer.text.count("<script>") == 1


def serve(files: dict[str, bytes]) -> TestClient:
    app = FastAPI()
    mark_answers(app)
    problems.install(app)
    app.include_router(create_router(Site(files)))
    return TestClient(app)


def test_the_build_depends_on_every_files_name_and_bytes() -> None:
    files = {"index.html": b'<script src="/ui/@build@/a.js">', "a.js": b"1", "b.js": b"2"}
    changed = [
        files,
        files | {"a.js": b"2"},
        files | {"index.html": b""},
        {"index.html": files["index.html"], "a.js": b"1", "c.js": b"2"},
        {"index.html": files["index.html"], "a.js": b"12", "b.js": b""},
    ]
    builds = [Site(each).build for each in changed]
    assert len(set(builds)) == len(changed)
    assert all(re.fullmatch("[0-9a-f]{16}", build) for build in builds)
    assert Site(dict(reversed(files.items()))).build == builds[0]
    assert serve(files).get("/ui/").text == f'<script src="/ui/{builds[0]}/a.js">'


def test_an_update_gives_the_document_another_tag() -> None:
    before, after = ({"index.html": b"@build@", "a.js": body} for body in (b"1", b"2"))
    tag = serve(before).get("/ui/").headers["etag"]
    assert serve(before).get("/ui/", headers={"If-None-Match": tag}).status_code == 304
    assert serve(after).get("/ui/", headers={"If-None-Match": tag}).status_code == 200


def test_a_wheel_contains_the_page(tmp_path: Path) -> None:
    """An editable install would hide that the package lacks the files."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "app", tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    build = "import setuptools.build_meta as backend; backend.build_wheel('wheel')"
    subprocess.run([sys.executable, "-W", "ignore", "-c", build], cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "wheel").iterdir()
    names = set(zipfile.ZipFile(wheel).namelist())
    files = {f"app/{path.relative_to(ROOT / 'app').as_posix()}" for path in STATIC.rglob("*") if path.is_file()}
    assert "app/page/static/index.html" in files
    assert files <= names


def test_the_document_preloads_the_modules_that_the_first_script_imports(server: TestClient) -> None:
    document = Links(server.get("/", headers=BROWSER).text)
    preloaded = {path.split("/", 3)[3] for path in document.loaded if path.endswith(".js")} - {"js/theme.js"}
    scripts = {name: server.get(path).text for path in document.loaded if (name := path.split("/", 3)[3]) in preloaded}
    assert {"js/main.js", "js/signals.js", "js/parts/basic.js"} <= preloaded
    for name, text in scripts.items():
        for imported in re.findall(r'^(?:import|\} from) [^;]*?"(\.[^"]+)";', text, re.MULTILINE):
            assert posixpath.normpath(f"{posixpath.dirname(name)}/{imported}") in preloaded, (name, imported)

import base64
import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tunewright import Client, ConnectionFailed, TunewrightError

AT = "2026-01-05T10:12:13Z"
WEIGHTS = b"weights" * 40_000


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def offer(server: Any, files: dict[str, bytes]) -> None:
    described = [{"path": path, "size": len(body), "sha256": sha256(body)} for path, body in files.items()]
    adapter = {"id": "a", "name": "n", "job_id": "j", "base_model": "m", "base_model_revision": None, "size": 1}
    adapter |= {"files": described, "archive": {"path": "a.tar", "size": len(WEIGHTS), "sha256": sha256(WEIGHTS)}}
    server.answers["GET /adapters/a"] = lambda request: request.send_json(adapter | {"manifest": {}, "created_at": AT})
    server.answers["GET /adapters/a/archive"] = lambda request: request.send(WEIGHTS)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_arrive_whole_under_their_names(server: Any, client: Client, tmp_path: Path) -> None:
    files = {"adapter_model.safetensors": WEIGHTS, "sub/a b%2F?#ü.json": b"{}", "empty": b""}
    offer(server, files)
    server.answers["GET /adapters/a/files/adapter_model.safetensors"] = lambda request: request.send(WEIGHTS)
    server.answers["GET /adapters/a/files/sub/a%20b%252F%3F%23%C3%BC.json"] = lambda request: request.send(b"{}")
    server.answers["GET /adapters/a/files/empty"] = lambda request: request.send(b"")
    client.download_adapter("a", tmp_path / "new" / "folder")
    assert everything(tmp_path / "new" / "folder") == files


@pytest.mark.parametrize("arrived", [b"Weights" + WEIGHTS[7:], WEIGHTS[:-1], WEIGHTS + b"!"])
def test_bytes_other_than_promised_are_thrown_away(server: Any, client: Client, tmp_path: Path, arrived: bytes) -> None:
    offer(server, {"model": WEIGHTS})
    server.answers["GET /adapters/a/files/model"] = lambda request: request.send(arrived)
    (tmp_path / "model").write_bytes(b"the old one")
    with pytest.raises(TunewrightError, match="model was received with") as caught:
        client.download_adapter("a", tmp_path)
    assert caught.value.code == "digest_mismatch"
    assert everything(tmp_path) == {"model": b"the old one"}


def test_a_download_cut_short_leaves_nothing(server: Any, client: Client, tmp_path: Path) -> None:
    offer(server, {"model": WEIGHTS})
    server.answers["GET /adapters/a/files/model"] = lambda request: request.send(WEIGHTS[:-1], length=len(WEIGHTS))
    with pytest.raises(ConnectionFailed):
        client.download_adapter("a", tmp_path)
    assert everything(tmp_path) == {}


def test_an_export_that_breaks_off_leaves_nothing(server: Any, client: Client, tmp_path: Path) -> None:
    server.answers["GET /jobs/j/metrics.csv"] = lambda request: request.send(b"name,step\n", kind="text/csv", length=99)
    (tmp_path / "curves.csv").write_bytes(b"the old one")
    with pytest.raises(ConnectionFailed):
        client.download_metrics("j", tmp_path / "curves.csv")
    assert everything(tmp_path) == {"curves.csv": b"the old one"}


HOSTILE = [
    "../up",
    "a/../../up",
    "/etc/passwd",
    "",
    ".",
    "..",
    "a\\b",
    "..\\up",
    "C:up",
    "//host/share",
    "a\nb",
    "a\0b",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_refused_before_anything_is_asked_for(
    server: Any, client: Client, tmp_path: Path, name: str
) -> None:
    offer(server, {"fine": b"1", name: b"2"})
    folder = tmp_path / "folder"
    with pytest.raises(TunewrightError) as caught:
        client.download_adapter("a", folder)
    assert caught.value.code == "unsafe_path"
    assert server.asked == ["GET /adapters/a"]
    assert everything(tmp_path) == {}


def test_the_archive_is_verified_too(server: Any, client: Client, tmp_path: Path) -> None:
    offer(server, {})
    assert client.download_archive("a", tmp_path / "a.tar").read_bytes() == WEIGHTS
    server.answers["GET /adapters/a/archive"] = lambda request: request.send(WEIGHTS[::-1])
    with pytest.raises(TunewrightError):
        client.download_archive("a", tmp_path / "b.tar")
    assert list(everything(tmp_path)) == ["a.tar"]


def test_the_files_of_a_job_come_without_the_archive(server: Any, client: Client, tmp_path: Path) -> None:
    def artifact(kind: str, path: str) -> dict[str, Any]:
        return {"id": kind, "kind": kind, "path": path, "size": len(WEIGHTS), "sha256": sha256(WEIGHTS)}

    made = [artifact("adapter_archive", "model.tar"), artifact("model", "model.safetensors")]
    server.answers["GET /jobs/j/artifacts"] = lambda request: request.send_json({"items": made})
    server.answers["GET /artifacts/model/content"] = lambda request: request.send(WEIGHTS)
    client.download_artifacts("j", tmp_path)
    assert everything(tmp_path) == {"model.safetensors": WEIGHTS}


def tarred(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return made.getvalue()


def offer_checkpoint(server: Any, content: bytes, promised: bytes) -> None:
    digest = base64.b64encode(hashlib.sha256(promised).digest()).decode()
    server.answers["GET /jobs/j/checkpoints/c/archive"] = lambda request: request.send(
        content, headers={"Repr-Digest": f"sha-256=:{digest}:"}
    )


def test_a_checkpoints_adapter_is_unpacked(server: Any, client: Client, tmp_path: Path) -> None:
    files = {"adapter_config.json": b"{}", "adapter_model.safetensors": WEIGHTS}
    offer_checkpoint(server, tarred(files), tarred(files))
    assert client.download_checkpoint("j", "c", tmp_path / "new") == tmp_path / "new"
    assert everything(tmp_path) == {f"new/{name}": body for name, body in files.items()}


def test_a_tar_other_than_promised_is_not_unpacked(server: Any, client: Client, tmp_path: Path) -> None:
    offer_checkpoint(server, tarred({"adapter_config.json": b"{}"}), tarred({"adapter_config.json": b"[]"}))
    with pytest.raises(TunewrightError) as caught:
        client.download_checkpoint("j", "c", tmp_path)
    assert caught.value.code == "digest_mismatch"
    assert everything(tmp_path) == {}


def test_nothing_of_a_tar_with_a_hostile_name_is_written(server: Any, client: Client, tmp_path: Path) -> None:
    content = tarred({"adapter_config.json": b"{}", "../up": b"!"})
    offer_checkpoint(server, content, content)
    with pytest.raises(TunewrightError) as caught:
        client.download_checkpoint("j", "c", tmp_path / "new")
    assert caught.value.code == "unsafe_path"
    assert everything(tmp_path) == {}

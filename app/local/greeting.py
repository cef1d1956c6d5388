"""Prints the URL of a ready local stack, and the next commands to type."""

import json
import shlex
import shutil
import sys
import urllib.request
from pathlib import Path
from typing import Any

from app.settings import default_data_dir
from app.web.version import VERSION

EXAMPLE = Path(__file__).parents[2] / "examples" / "support_tickets" / "train.jsonl"


def greet(url: str, data: Path) -> None:
    print("\n".join(lines(url, data, find_first(url, data, "models"), find_first(url, data, "datasets"))), flush=True)


def lines(url: str, data: Path, model: dict[str, Any] | None, dataset: dict[str, Any] | None) -> list[str]:
    """Return the lines, with the names and ids that exist. `model` and `dataset` are as the API returns them."""
    tunewright, key = program(), shlex.quote(str(data / "api_key"))
    name = model["name"] if model else "my-model"
    file = shlex.quote(str(EXAMPLE if EXAMPLE.exists() else Path("train.jsonl")))
    spec = {"base_model": name, "dataset_id": dataset["id"] if dataset else "file-…", "training": {"epochs": 1}}
    body = shlex.quote(json.dumps(spec, ensure_ascii=False))
    ask = f'curl -H "Authorization: Bearer $(cat {key})"'
    return [
        f"Tunewright {VERSION} is ready at {url} (Ctrl-C stops it). Open it in a browser to watch and create jobs.",
        f"The API reference is at {url}/docs",
        f"The API key is in {data / 'api_key'}; logs are in {data / 'logs'}, requests in api.log",
        "Next, in another terminal:",
        *([] if data == default_data_dir() else [f"  export TUNEWRIGHT_DATA_DIR={shlex.quote(str(data))}"]),
        f"  {tunewright} status",
        *(
            []
            if model
            else [f"  {tunewright} models add {name} --path FOLDER  # with config.json, safetensors, tokenizer"]
        ),
        f"  {tunewright} jobs create --model {shlex.quote(name)} --dataset {dataset['id'] if dataset else file}"
        " --epochs 1 --watch",
        "or over HTTP:",
        *([] if dataset else [f"  {ask} -F file=@{file} {url}/datasets"]),
        f"  {ask} -H 'Content-Type: application/json' -d {body} {url}/jobs",
    ]


def program() -> str:
    """Return `tunewright`, or the whole path if the shell would find none or another one."""
    here = Path(sys.executable).with_name("tunewright")
    found = shutil.which("tunewright")
    if found and here.exists() and Path(found).samefile(here):
        return "tunewright"
    return shlex.quote(str(here)) if here.exists() else f"{shlex.quote(sys.executable)} -m tunewright"


def find_first(url: str, data: Path, noun: str) -> dict[str, Any] | None:
    """Return the first item that the first key can read, for datasets the newest that is ready. Returns None if there
    is none."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    key = (data / "api_key").read_text().strip()
    request = urllib.request.Request(f"{url}/{noun}", headers={"Authorization": f"Bearer {key}"})
    try:
        with opener.open(request, timeout=5) as answer:
            items = json.load(answer)["items"]
    except OSError:  # the key may have been revoked since
        return None
    return next((item for item in items if item.get("state", "ready") == "ready"), None)

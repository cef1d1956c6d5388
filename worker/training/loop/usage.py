"""Writes the lines of a result's README that explain how to load it."""

from typing import Final

from worker.training.runtime.messages import TrainingRequest

PLACE: Final = "/path/to/the/base/model"
"""Is the placeholder in the README for the path of a base model that came from a folder."""
IMPORTS: Final = "from transformers import AutoModelForCausalLM, AutoTokenizer"


def usage(request: TrainingRequest) -> list[str]:
    """Return Markdown whose Python block runs in the result's folder."""
    if request.spec.method == "full":
        packages, load = "`transformers`", [IMPORTS, "", 'model = AutoModelForCausalLM.from_pretrained(".")']
        about: list[str] = []
    else:
        packages, load = "`transformers` and `peft`", _load_adapter(request)
        about = _about_base(request)
    code = [*load, 'tokenizer = AutoTokenizer.from_pretrained(".")']
    return ["## Load it", "", *about, f"In this folder, with {packages}:", "", *_block("python", code), ""]


def _load_adapter(request: TrainingRequest) -> list[str]:
    base = f'"{PLACE}"'
    if request.base_address:
        hub, revision = request.base_address
        base = f'"{hub}"' + (f', revision="{revision}"' if revision else "")
    return [
        "from peft import PeftModel",
        IMPORTS,
        "",
        f"base = AutoModelForCausalLM.from_pretrained({base})",
        'model = PeftModel.from_pretrained(base, ".")',
    ]


def _about_base(request: TrainingRequest) -> list[str]:
    if request.base_model_hub:
        return []
    if request.base_model_hub_name is None:
        return _about_folder(request)
    commit = f"at commit `{request.base_model_hub_revision}`" if request.base_model_hub_revision else "at some commit"
    return [
        f"The base model was added to Tunewright from a folder, and is said to be `{request.base_model_hub_name}` "
        f"{commit}. Nobody has checked that.",
        "",
    ]


def _about_folder(request: TrainingRequest) -> list[str]:
    """Explain how to find a base model without a hub id. `app.models.folder` computes the digest."""
    about = (
        f"The base model was added to Tunewright from a folder, under the name `{request.base_model}`. That name is no "
        f"path, here and in `adapter_config.json` alike: put the path of the same model where `{PLACE}` stands. "
        "It is the same if this prints its revision,"
    )
    check = [
        f"cd {PLACE}",
        "LC_ALL=C sha256sum *.json *.safetensors *.model *.txt *.jinja 2>/dev/null | LC_ALL=C sort -k 2 | sha256sum",
    ]
    return [about, f"`{request.base_model_revision}`:", "", *_block("sh", check), ""]


def _block(language: str, lines: list[str]) -> list[str]:
    return [f"```{language}", *lines, "```"]

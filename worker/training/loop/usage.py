"""Writes the lines of a result's README that explain how to load it."""

from typing import Final

from worker.training.runtime.messages import TrainingRequest

PLACE: Final = "/path/to/the/base/model"
"""Is the placeholder in the README for the path of a base model that came from a folder."""
IMPORTS: Final = "from transformers import AutoModelForCausalLM, AutoTokenizer"


def describe_usage(request: TrainingRequest) -> list[str]:
    """Return Markdown whose Python block runs in the result's folder."""
    if request.spec.method == "full":
        packages, load = "`transformers`", [IMPORTS, "", 'model = AutoModelForCausalLM.from_pretrained(".")']
        about: list[str] = []
    else:
        packages, load = "`transformers` and `peft`", _load_adapter(request)
        about = _about_base(request)
    code = [*load, 'tokenizer = AutoTokenizer.from_pretrained(".")']
    intro = f"With {packages} installed, run in this folder:"
    return ["## Usage", "", *about, intro, "", *_code_block("python", code), ""]


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
    revision = request.base_model_hub_revision
    commit = f"at commit `{revision}`" if revision else "at an unknown commit"
    return [
        "The base model was added to Tunewright from a folder. The operator states that it is "
        f"`{request.base_model_hub_name}` {commit}. Tunewright has not verified this.",
        "",
    ]


def _about_folder(request: TrainingRequest) -> list[str]:
    """Explain how to find a base model without a hub id. `app.models.folder` computes the digest."""
    about = (
        f"The base model was added to Tunewright from a folder, under the name `{request.base_model}`. This name is "
        f"not a path, neither below nor in `adapter_config.json`: replace `{PLACE}` with the path of the same model. "
        f"To verify that it is the same model, check that this command prints `{request.base_model_revision}`:"
    )
    check = [
        f"cd {PLACE}",
        "LC_ALL=C sha256sum *.json *.safetensors *.model *.txt *.jinja 2>/dev/null | LC_ALL=C sort -k 2 | sha256sum",
    ]
    return [about, "", *_code_block("sh", check), ""]


def _code_block(language: str, lines: list[str]) -> list[str]:
    return [f"```{language}", *lines, "```"]

"""Tests the result folder as its users read it."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.models.folder import digest_folder
from tests.fixtures.hub import COMMIT, OLDER, serving_hub
from tests.fixtures.tiny_models import build_tiny_model
from tests.unit.training.conftest import Recorder, make_spec
from tests.unit.training.reference import dequantized_model
from worker.training.loop.training_loop import prepare
from worker.training.loop.usage import PLACE
from worker.training.ops.nf4 import quantize_linears
from worker.training.runtime.messages import Finished, TrainingRequest

UNSTATED = {"hub_name": None, "hub_revision": None}
IDS = torch.arange(3, 40)[None]


@pytest.fixture
def trained(make_request: Callable[..., TrainingRequest]) -> Callable[..., tuple[Path, torch.Tensor, TrainingRequest]]:
    """Train, and return the result folder, the trained model's logits and the request."""

    def trained(method: str, family: str = "llama", **changes: object) -> tuple[Path, torch.Tensor, TrainingRequest]:
        channel = Recorder()
        files = {name: changes.pop(name) for name in TrainingRequest.model_fields if name != "spec" and name in changes}
        spec = make_spec(method, validation_split=0.2, training={"result": "last"}, **changes)
        run = prepare(make_request(family=family, spec=spec, **files), channel)
        run.loop()
        run.model.causal.eval()
        with torch.no_grad():
            hidden = run.model.hidden_states(IDS, torch.arange(IDS.shape[1])[None], [IDS.shape[1]])[0]
            head = run.model.head()
            logits = torch.cat([head.logits(hidden, start, block)[0] for start, block in head.blocks()], dim=1)
        run.publish()
        finished = channel.lines[-1]
        assert isinstance(finished, Finished)
        return finished.path, logits, run.request

    return trained


PLAIN_PEFT = """
import sys, torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
base, adapter, output = sys.argv[1:]
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)
with torch.no_grad():
    save_file({"logits": model(torch.arange(3, 40)[None]).logits[0].contiguous()}, output)
"""


def test_a_process_without_tunewright_gives_the_same_logits(trained: Callable, tmp_path: Path) -> None:
    folder, logits, request = trained("lora", "gemma3", adapter={"rank": 4})
    output = tmp_path / "logits.safetensors"
    words = [sys.executable, "-P", "-c", PLAIN_PEFT, str(request.base_model_path), str(folder), str(output)]
    subprocess.run(words, check=True, cwd=tmp_path)
    torch.testing.assert_close(load_file(output)["logits"], logits, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to True:UserWarning")  # our 4-bit GPT-2 stores [out, in]
@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
@pytest.mark.parametrize("method", ["qlora", "lora"])
def test_the_adapter_in_plain_peft_gives_the_same_logits(method: str, family: str, trained: Callable) -> None:
    folder, logits, request = trained(method, family, adapter={"rank": 4, "use_rslora": True})
    base = AutoModelForCausalLM.from_pretrained(request.base_model_path, dtype=torch.float32)
    with torch.no_grad():
        untrained = base(IDS).logits[0]
        if method == "qlora":  # the base that it was trained on
            head, device = base.get_output_embeddings(), torch.device("cpu")
            quantize_linears(base, keep=head, double_quant=True, dtype=torch.float32, device=device)
        found = PeftModel.from_pretrained(base, folder)(IDS).logits[0]
    torch.testing.assert_close(found, logits, rtol=1e-4, atol=1e-4)
    assert (found - untrained).norm() > 0.1 * untrained.norm()


PISSA = {"rank": 4, "init": "pissa"}


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
@pytest.mark.parametrize(
    ("adapter", "rank", "alpha"),
    [
        ({"rank": 4, "use_dora": True}, 4, 32),
        ({"rank": 4, "init": "eva"}, 4, 32),
        (PISSA, 8, 64),
        (PISSA | {"use_rslora": True, "alpha": 8}, 8, 32),
        (PISSA | {"init": "olora"}, 8, 64),
        (PISSA | {"use_dora": True}, 8, 64),
    ],
)
def test_every_kind_of_adapter_loads_in_plain_peft_on_the_untouched_base(
    adapter: dict[str, object], rank: int, alpha: float, family: str, trained: Callable
) -> None:
    folder, logits, request = trained("lora", family, adapter=adapter)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["init_lora_weights"] is True
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (rank, alpha, False)
    assert config["use_dora"] is adapter.get("use_dora", False)
    base = AutoModelForCausalLM.from_pretrained(request.base_model_path, dtype=torch.float32)
    with torch.no_grad():
        untrained = base(IDS).logits[0]
        found = PeftModel.from_pretrained(base, folder)(IDS).logits[0]
    torch.testing.assert_close(found, logits, rtol=1e-3, atol=1e-3)
    assert (found - untrained).norm() > 0.1 * untrained.norm()


def test_dora_of_a_qlora_loads_in_plain_peft(trained: Callable) -> None:
    folder, logits, request = trained("qlora", "phi", adapter={"rank": 4, "use_dora": True})
    model = PeftModel.from_pretrained(dequantized_model(request.base_model_path), folder)
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits[0], logits, rtol=1e-4, atol=1e-4)


def test_the_adapter_merges(trained: Callable) -> None:
    for family in ("llama", "gpt2"):
        folder, logits, request = trained("lora", family)
        base = AutoModelForCausalLM.from_pretrained(request.base_model_path, dtype=torch.float32)
        merged = PeftModel.from_pretrained(base, folder).merge_and_unload()
        with torch.no_grad():
            torch.testing.assert_close(merged(IDS).logits[0], logits, rtol=1e-3, atol=1e-3)


def test_the_adapters_files(trained: Callable) -> None:
    folder, _, request = trained("qlora", "qwen3", adapter={"rank": 4})
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "acme/tiny"
    assert config["revision"] == "r1"
    assert config["inference_mode"] is True
    assert config["task_type"] == "CAUSAL_LM"
    assert config["target_modules"] == sorted(config["target_modules"])
    tensors = load_file(folder / "adapter_model.safetensors")
    assert len(tensors) == 2 * 7 * 2
    assert all(name.startswith("base_model.model.model.layers.") and ".lora_" in name for name in tensors)
    assert AutoTokenizer.from_pretrained(folder).chat_template == (folder / "chat_template.jinja").read_text()
    assert str(request.base_model_path) not in "".join(path.read_text() for path in folder.glob("*.json"))


def test_the_manifest_describes_the_training_and_every_file(trained: Callable) -> None:
    sent = make_spec("lora").model_copy(update={"name": "as sent"})
    folder, _, request = trained("lora", spec_as_sent=sent)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["base_model"] == UNSTATED | {"name": "acme/tiny", "hub": None, "revision": "r1"}
    assert manifest["spec"] == sent.model_dump(mode="json")
    assert manifest["resolved"]["training"]["learning_rate"] == request.spec.training.learning_rate
    assert manifest["resolved"]["resources"] == {"device": "cpu"}
    assert (manifest["num_steps"], manifest["result_step"], manifest["seed"]) == (6, 6, 0)
    assert manifest["final_loss"] < manifest["first_loss"]
    assert manifest["validation"].keys() == {"step", "loss", "token_accuracy"}
    assert manifest["libraries"].keys() >= {"torch", "transformers", "peft"}
    others = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}
    assert manifest["files"] == {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in others.items()
    }


def test_the_generation_config_names_the_end_of_a_turn(
    trained: Callable, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    folder, _, _ = trained("lora")
    assert not (folder / "generation_config.json").exists(), "EOS ends these rows"

    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}<end>{% endfor %}"
    rows = tmp_path / "chat.jsonl"
    turns = [{"role": "user", "content": "cat"}, {"role": "assistant", "content": "mat"}]
    rows.write_text((json.dumps({"messages": turns}) + "\n") * 8)
    base = build_tiny_model(tmp_path / "chatty", chat_template=template)
    folder, _, _ = trained("lora", base_model_path=base, dataset_path=rows)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    stops = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    assert stops == sorted([tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<end>")])


def test_the_model_card(trained: Callable) -> None:
    folder, _, _ = trained("lora", name="Colours\nand more", base_model_license="gemma")
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    card = yaml.safe_load(front)
    assert card["base_model"] == "acme/tiny"
    assert card["library_name"] == "peft"
    assert card["tags"] == ["tunewright", "sft", "lora"]
    assert "# Colours and more\n" in text
    assert "| License of the base model | gemma |\n" in text
    final_loss = json.loads((folder / "manifest.json").read_text())["final_loss"]
    assert f"| Final loss | {final_loss:.4f} |" in text


AS_THE_README_SAYS = r"""
import os, re, sys, torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import save_file
ids, output, place, path = torch.arange(3, 40)[None], *sys.argv[1:4]
logits = {}
for folder in sys.argv[4:]:
    os.chdir(folder)
    (code,) = re.findall(r"```python\n(.+?)```", open("README.md").read(), re.DOTALL)
    names = {}
    exec(code.replace(place, path), names)
    assert names["tokenizer"]("The cat").input_ids
    logits[folder] = names["model"](ids).logits[0].detach().contiguous()
by_config = AutoPeftModelForCausalLM.from_pretrained(sys.argv[4])
logits["by its config"] = by_config(ids).logits[0].detach().contiguous()
save_file(logits, output)
"""


STATED = {"base_model_hub_name": "org/name", "base_model_hub_revision": COMMIT}


def test_a_result_loads_with_the_code_of_its_readme(
    trained: Callable, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    base, output = tiny("llama"), tmp_path / "logits.safetensors"
    revision = digest_folder(base)
    sources = {
        "hub": ("lora", {"base_model_hub": "org/name", "base_model_revision": OLDER}),
        "folder": ("lora", {"base_model_revision": revision}),
        "stated": ("lora", {"base_model_revision": revision} | STATED),
        "loosely": ("lora", {"base_model_revision": revision, "base_model_hub_name": "org/name"}),
        "whole": ("full", {"base_model_hub": "org/name", "base_model_revision": OLDER}),
    }
    expected = {}
    for name, (method, fields) in sources.items():
        folder, logits, _ = trained(method, work_dir=tmp_path / name, **fields)
        expected[str(folder)] = logits
    folders = dict(zip(sources, map(Path, expected), strict=True))
    with serving_hub({path.name: path.read_bytes() for path in base.iterdir()}) as hub:
        changes = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hub_cache"), "HF_HUB_OFFLINE": "0"}
        words = [sys.executable, "-P", "-c", AS_THE_README_SAYS, str(output), PLACE, str(base), *expected]
        subprocess.run(words, check=True, cwd=tmp_path, env=os.environ | changes)
        assert hub.asked(f"/org/name/resolve/{OLDER}/config.json")
        assert hub.asked(f"/org/name/resolve/{COMMIT}/"), "must be the stated commit"
        assert not hub.asked("/resolve/main/")
    found = load_file(output)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["by its config"], found[str(folders["hub"])])
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        loaded = PeftModel.from_pretrained(plain, folders["hub"])(IDS).logits[0]
    torch.testing.assert_close(found[str(folders["hub"])], loaded)

    assert f'from_pretrained("org/name", revision="{COMMIT}")\n' in (folders["stated"] / "README.md").read_text()
    assert 'from_pretrained("org/name")\n' in (folders["loosely"] / "README.md").read_text()
    card = (folders["folder"] / "README.md").read_text()
    for name in ("hub", "stated", "loosely"):
        assert PLACE not in (folders[name] / "README.md").read_text()
    assert f"`{revision}`" in card
    (check,) = re.findall(r"```sh\n(.+?)```", card, re.DOTALL)
    printed = subprocess.run(["sh", "-c", check.replace(PLACE, str(base))], check=True, capture_output=True, text=True)
    assert printed.stdout.split() == [revision, "-"]


def test_an_adapter_and_its_checkpoints_have_the_hubs_name_of_their_base(
    make_request: Callable[..., TrainingRequest],
) -> None:
    channel = Recorder()
    spec = make_spec("lora", training={"save_every": 3})
    run = prepare(make_request(spec=spec, base_model_hub="org/name", base_model_revision=OLDER), channel)
    run.loop()
    run.publish()
    finished = channel.lines[-1]
    assert isinstance(finished, Finished)
    for folder in (finished.path, *(checkpoint.path for checkpoint in channel.checkpoints())):
        config = json.loads((folder / "adapter_config.json").read_text())
        assert (config["base_model_name_or_path"], config["revision"]) == ("org/name", OLDER)
    assert channel.checkpoints()
    manifest = json.loads((finished.path / "manifest.json").read_text())
    assert manifest["base_model"] == UNSTATED | {"name": "acme/tiny", "hub": "org/name", "revision": OLDER}
    card = (finished.path / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["base_model"] == "org/name"
    assert f"| Base model | org/name ({OLDER}) |\n| Name in Tunewright | acme/tiny |\n" in card


@pytest.mark.parametrize("commit", [COMMIT, None])
def test_a_stated_hub_name_is_used_and_marked_as_not_verified(
    commit: str | None, make_request: Callable[..., TrainingRequest]
) -> None:
    channel = Recorder()
    stated = {"base_model_hub_name": "org/name", "base_model_hub_revision": commit}
    run = prepare(make_request(spec=make_spec("lora", training={"save_every": 3}), **stated), channel)
    run.loop()
    run.publish()
    finished = channel.lines[-1]
    assert isinstance(finished, Finished)
    for folder in (finished.path, *(checkpoint.path for checkpoint in channel.checkpoints())):
        config = json.loads((folder / "adapter_config.json").read_text())
        assert (config["base_model_name_or_path"], config["revision"]) == ("org/name", commit)
    base = json.loads((finished.path / "manifest.json").read_text())["base_model"]
    hub = {"hub_name": "org/name", "hub_revision": commit}
    assert base == {"name": "acme/tiny", "hub": None, "revision": "r1"} | hub
    card = (finished.path / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["base_model"] == "org/name"
    address = f"org/name ({commit})" if commit else "org/name"
    assert f"| Base model | {address}, not verified |\n| Name in Tunewright | acme/tiny |\n" in card
    assert "The operator states that it is `org/name` at " in card
    assert "Tunewright has not verified this." in card


def test_a_full_fine_tune_is_a_model_folder(trained: Callable) -> None:
    folder, logits, request = trained("full", "gemma3")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits[0], logits, rtol=1e-4, atol=1e-4)
    assert (folder / "config.json").read_bytes() == (request.base_model_path / "config.json").read_bytes()
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert file.get_tensor("model.norm.weight").dtype is torch.float32
    assert {"manifest.json", "README.md", "tokenizer.json"} <= {path.name for path in folder.iterdir()}

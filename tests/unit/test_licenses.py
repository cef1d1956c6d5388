"""docs/licenses.md, held against the images that are named and the packages that are installed."""

import re
import tomllib
from importlib.metadata import Distribution, distributions
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/licenses.md").read_text()
FREE = re.compile(
    r"apache|bsd|mit\b|isc|mpl|mozilla|psf|python software foundation|unlicense|public domain|0bsd|cc0", re.I
)
RESTRICTED = re.compile(r"gpl|sspl|rsal|busl|proprietary|commercial", re.I)


def license_of(package: Distribution) -> str:
    """As its metadata has it, in a line; empty where they are silent."""
    classifiers = [each for each in package.metadata.get_all("Classifier") or [] if each.startswith("License ::")]
    told = package.metadata.get("License-Expression") or "; ".join(classifiers) or package.metadata.get("License") or ""
    return " ".join(told.split())[:200]


def test_every_image_is_listed() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].values()
    images = {service["image"] for service in services if "build" not in service}
    for dockerfile in ("Dockerfile", "Dockerfile.gpu"):
        images |= set(re.findall(r"^FROM (\S+)", (ROOT / dockerfile).read_text(), re.M))
    for image in images:
        assert f"| `{image.partition(':')[0]}` |" in PAGE, image


def test_every_package_with_a_server_is_listed() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for need in extras["local"]:
        assert f"| `{re.split('[<>=]', need)[0]}` |" in PAGE


def test_what_is_installed_is_free_or_listed() -> None:
    """A new dependency with other terms, or with none in its metadata, must be looked at and entered on the page."""
    unlisted = [
        f"{package.name}: {told or 'no licence in its metadata'}"
        for package in distributions()
        for told in [license_of(package)]
        if RESTRICTED.search(told) or not FREE.search(told)
        if f"`{re.sub('-part[0-9]+$', '', package.name.lower())}`" not in PAGE
        if not package.name.startswith("nvidia-")
    ]
    assert not unlisted

"""Compares docs/licenses.md with the images in use and the installed packages."""

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
    """Return the licence in the package's metadata in one line; empty if there is none."""
    classifiers = [each for each in package.metadata.get_all("Classifier") or [] if each.startswith("License ::")]
    terms = (
        package.metadata.get("License-Expression") or "; ".join(classifiers) or package.metadata.get("License") or ""
    )
    return " ".join(terms.split())[:200]


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


def test_every_installed_package_is_free_or_listed() -> None:
    """A new dependency with other terms, or with none in its metadata, must be reviewed and added to the page."""
    unlisted = [
        f"{package.name}: {terms or 'no licence in its metadata'}"
        for package in distributions()
        for terms in [license_of(package)]
        if RESTRICTED.search(terms) or not FREE.search(terms)
        if f"`{re.sub('-part[0-9]+$', '', package.name.lower())}`" not in PAGE
        if not package.name.startswith("nvidia-")
    ]
    assert not unlisted

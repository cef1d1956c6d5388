"""Checks rules that the linters do not know. Each of them is easily broken without being noticed."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = sorted(path for folder in ("app", "worker", "tunewright") for path in (ROOT / folder).rglob("*.py"))
FOLDERS = ("app", "worker", "tunewright", "migrations", "tests", "docs", "examples", "benchmarks", ".ci")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_FOLDER_MODULES = 14

REPOSITORIES = (
    "app/jobs/metrics/queries.py",
    "app/jobs/queue/deadline.py",
    "app/jobs/shown.py",
    "app/local/postgres.py",
    "app/outbox.py",
    "app/projects/lookup.py",
    "app/workers/placement.py",
    "app/workers/presence.py",
)
"""Repositories with other names: they hold statements or conditions for several resources, the outbox's rows, and the
creation of the embedded database."""
SQL_TYPES = ("Connection", "Session", "Table")
SQL_METHODS = (
    *("add", "add_all", "delete", "exec_driver_sql", "execute", "get", "get_one", "merge", "query", "refresh"),
    *("scalar", "scalars"),
)

FOREIGN_PLACES = {
    "a registry's or a hub's host": re.compile(
        r"\b(pypi\.org|pythonhosted\.org|huggingface\.co|hf\.co|ghcr\.io|quay\.io)\b"
    ),
    "a developer's folder": re.compile(
        r"(?<![\w.~}])/(home/(?!\{)\w+|Users/\w+|tmp/dev\b|work/(main|shared)\b)|\.\./shared\b"
    ),
}


REFUSED_WORDS = re.compile(r"\b(told|tell|tells|said|whoever|meanwhile|anew|seldom|kin)\b", re.IGNORECASE)
"""Words that made texts read as translated."""
POSITION_OF_A_FILE = re.compile(r"\.tell\(\)|\bdef tell\(self\) -> int")
PROSE = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml", "docker-compose.yml")


def public_files() -> Iterator[Path]:
    """Yield the text files of a checkout, except this file with its patterns."""
    yield from (path for path in ROOT.iterdir() if path.is_file() and path.name not in (".env", ".coverage", ".git"))
    for folder in FOLDERS:
        yield from (
            path
            for path in (ROOT / folder).rglob("*")
            if path.suffix in (".py", ".md", ".toml", ".yml", ".ini", ".mako", ".sh", ".jsonl", "") and path.is_file()
            if path != Path(__file__)
        )


def test_public_files_name_no_foreign_hosts_or_folders() -> None:
    """A host in a file is a mirror that others cannot reach, or a host that the operator did not choose. A developer's
    path works on one machine only."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {what}: {line.strip()[:100]}"
        for path in public_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        for what, pattern in FOREIGN_PLACES.items()
        if pattern.search(line)
    ]
    assert not found


def test_code_and_documentation_are_in_plain_words() -> None:
    files = [
        *CODE,
        *(ROOT / name for name in PROSE),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
    ]
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]!r}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if (match := REFUSED_WORDS.search(POSITION_OF_A_FILE.sub("", line)))
    ]
    assert not found


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path: Path) -> None:
    source = path.read_text()
    assert source.count("\n") <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{node.name} has {lines} lines"


def test_no_module_has_a_catch_all_name() -> None:
    """Such names do not say what is inside, so unrelated code collects there."""
    catch_alls = {"utils", "helpers", "common", "misc", "manager"}
    assert not [path for path in CODE if catch_alls & {path.stem, path.parent.name}]


def test_no_class_name_stands_twice_in_server_and_worker() -> None:
    """A class has one name, and a search for the name finds one class. The client mirrors the API's names."""
    places: dict[str, list[str]] = {}
    for path in CODE:
        if path.relative_to(ROOT).parts[0] != "tunewright":
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    places.setdefault(node.name, []).append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert len(places) > 500
    assert not {name: found for name, found in places.items() if len(found) > 1}


def test_folders_are_small() -> None:
    """Six folders once held 18 to 65 modules, and only a module's name showed where to look. `__init__` and `__main__`
    do not count."""
    modules = [path for path in CODE if path.stem not in ("__init__", "__main__")]
    numbers = Counter(str(path.parent.relative_to(ROOT)) for path in modules)
    assert not {folder: number for folder, number in numbers.items() if number > MAX_FOLDER_MODULES}


def is_repository(path: Path) -> bool:
    name = str(path.relative_to(ROOT))
    return path.stem.endswith("repository") or name in REPOSITORIES or path.parent == ROOT / "app/db"


def find_sql(path: Path) -> Iterator[str]:
    """Yield the names of SQLAlchemy that a module imports, and its queries of a session or a connection."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (each.name for each in names if each.name.partition(".")[0] == "sqlalchemy")
            case ast.ImportFrom(module=str(module), names=names) if module.partition(".")[0] == "sqlalchemy":
                if module != "sqlalchemy.exc":
                    yield from (each.name for each in names if each.name not in SQL_TYPES)
            case ast.Call(func=ast.Attribute(value=ast.Name(id=asked) | ast.Attribute(attr=asked), attr=method)):
                if asked in ("session", "connection") and method in SQL_METHODS:
                    yield f"{asked}.{method}"


def test_only_repositories_hold_sql() -> None:
    """Services decide what happens; repositories query the database. SQL for a service is a repository's method."""
    found = {str(path.relative_to(ROOT)): list(find_sql(path)) for path in CODE if not is_repository(path)}
    assert not {name: sql for name, sql in found.items() if sql}
    assert [name for name in REPOSITORIES if not any(find_sql(ROOT / name))] == []


def test_tables_hold_no_queries() -> None:
    tables = {path.name: ast.parse(path.read_text()) for path in (ROOT / "app/db").glob("*tables.py")}
    assert not {name for name, tree in tables.items() if any(isinstance(each, ast.FunctionDef) for each in tree.body)}


def test_one_service_moves_jobs() -> None:
    """Any other move would notify no webhook and release no dataset."""
    moving = [
        str(path.relative_to(ROOT))
        for path in CODE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "move"
    ]
    assert moving == ["app/jobs/transitions.py"]


def test_every_row_belongs_to_a_project() -> None:
    """Every table except the five of decision 8 has `project_id`, indexed by a foreign key and never null."""
    from app.db.base import Base
    from app.db.tables import Job

    tables = Base.metadata.tables
    assert Job.__tablename__ in tables
    without = {name for name, table in tables.items() if "project_id" not in table.columns}
    assert without == {"base_models", "installation", "projects", "project_deletions", "workers"}
    for name in tables.keys() - without:
        column = tables[name].columns["project_id"]
        assert not column.nullable
        assert [key.target_fullname for key in column.foreign_keys] == ["projects.id"]


def test_decisions_are_numbered_and_complete() -> None:
    pages = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        headings = re.findall(r"^## (.+)$", page.read_text(), re.M)
        assert headings == ["Context", "Decision", "Consequences", "Alternatives"], page.name
        assert page.read_text().startswith(f"# {int(page.name[:4])}. ")


def test_links_between_pages_lead_to_existing_files() -> None:
    for page in [*(ROOT / "docs").rglob("*.md"), ROOT / "CONTRIBUTING.md", ROOT / "README.md"]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"

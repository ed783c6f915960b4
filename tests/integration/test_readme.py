"""The documents work as written: every command, in the order in which they show them, with the files that they show."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from integration.documents import Reader, blocks

CHECKOUT = Path(__file__).parents[2]
COMMANDS = Path(sys.executable).parent
DOCUMENTS = ["README.md", "client/README.md", "server/README.md"]
"""The documents whose commands are run."""

OTHERS = [
    "CHANGELOG.md",
    "SECURITY.md",
    "client/examples/deep_research/README.md",
    "client/node/README.md",
    "proto/README.md",
    "server/deploy/README.md",
    "server/deploy/helm/stepwave/README.md",
    "server/stepwave_server/README.md",
    "tests/benchmarks/README.md",
    "tests/polyglot/README.md",
]
"""The other documents with links."""


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_succeeds_in_the_order_of_the_document(document: str, tmp_path: Path) -> None:
    reader = Reader(tmp_path, COMMANDS)
    reader.read(CHECKOUT / document)
    assert reader.shown


def test_the_python_of_the_documents_passes_the_type_checker(tmp_path: Path) -> None:
    parts = [block for name in DOCUMENTS for block in blocks(CHECKOUT / name) if block.language == "python"]
    files = {block.file: block.text for block in parts if block.file}
    files["parts.py"] = "\n".join(block.text for block in parts if not block.file)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    environment = {**os.environ, "MYPYPATH": str(CHECKOUT / "client")}
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir=cache", *files]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("document", [*DOCUMENTS, *OTHERS])
def test_every_link_leads_somewhere(document: str) -> None:
    page = CHECKOUT / document
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")):
        path, _, section = target.partition("#")
        if path.startswith("https://"):
            continue
        linked = (page.parent / path) if path else page
        assert linked.exists(), target
        if section:
            headings = re.findall(r"^#+ (.*)$", linked.read_text("utf-8"), re.MULTILINE)
            assert section in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, (
                target
            )


def test_the_readme_is_at_most_four_screens() -> None:
    assert len((CHECKOUT / "README.md").read_text("utf-8").splitlines()) <= 4 * 50

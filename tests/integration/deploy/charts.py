"""Renders the chart with Helm, and checks the result: `python charts.py CHART < CASES`, with what `tools.txt` names.

Cases are JSON: `{NAME: VALUES}`. The answer is JSON, too: for each name what was rendered, or why it was refused.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import helm_python
import kubernetes_validate
import yaml

RELEASE = "flows"
NAMESPACE = "work"
VERSIONS = ("1.27", kubernetes_validate.latest_version())
"""The oldest that the chart supports, and the newest that is known."""


def _documents(rendered: Mapping[str, str]) -> Iterator[dict[str, object]]:
    for template, text in sorted(rendered.items()):
        if template.endswith(".yaml"):
            yield from filter(None, yaml.safe_load_all(text))


def _problems(document: dict[str, object]) -> list[str]:
    """Return what Kubernetes would refuse, unknown fields included."""
    found = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{document['kind']} in {version}: {error.message}")
    return found


def _lint(path: str, values: dict[str, object]) -> list[str]:
    report: dict[str, list[Any]] = helm_python.lint(path, values, strict=True, namespace=NAMESPACE)
    return [str(message["error"]) for message in report["messages"]] + [str(error) for error in report["errors"]]


def _render(path: str, chart: helm_python.Chart, values: dict[str, object]) -> dict[str, object]:
    """Return the documents, the notes, and what is wrong with them; or why the values are refused."""
    try:
        rendered = chart.render(values, name=RELEASE, namespace=NAMESPACE)
    except helm_python.HelmError as error:
        return {"refused": str(error)}
    documents = list(_documents(rendered))
    notes = next(text for template, text in rendered.items() if template.endswith("NOTES.txt"))
    problems = _lint(path, values) + [each for document in documents for each in _problems(document)]
    return {"documents": documents, "notes": notes, "problems": problems}


def main(path: str) -> None:
    """Render and check all cases of standard input."""
    with helm_python.Chart.load(path) as chart:
        answers = {name: _render(path, chart, values) for name, values in json.load(sys.stdin).items()}
        json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])

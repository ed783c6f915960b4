#!/usr/bin/env bash
# Install what the tests of the installation need: into .venv-deploy Helm and what checks charts and images, and systemd from Debian. Without
# it these tests are skipped, but in CI they fail.
set -euo pipefail
cd "$(dirname "$0")/../../.."

if ! command -v systemd-analyze >/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends systemd
  else
    echo 'systemd-analyze is missing: the tests of the systemd unit need it' >&2
  fi
fi

venv=.venv-deploy tools=tests/integration/deploy/tools.txt
if cmp --silent "$tools" "$venv/.installed"; then exit; fi
rm -rf "$venv"
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$tools"
cp "$tools" "$venv/.installed"

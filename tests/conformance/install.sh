#!/usr/bin/env bash
# Install the Redis server that tests of chunks and logs need, from Debian. Without it these tests are skipped, but in CI they fail.
set -euo pipefail

command -v redis-server >/dev/null && exit
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo 'redis-server is missing: the tests of chunks and logs over Redis need it (apt-get install redis-server)' >&2
  exit
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends redis-server

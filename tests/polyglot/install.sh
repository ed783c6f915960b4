#!/usr/bin/env bash
# Install the compilers and libraries that the programs of this folder need, from Debian. Without them these tests are skipped, but in CI they
# fail.
set -euo pipefail

packages=(
  protobuf-compiler jq curl
  golang-go golang-google-grpc-dev golang-google-protobuf-dev
  g++ pkg-config protobuf-compiler-grpc libgrpc++-dev libprotobuf-dev
  default-jdk-headless protobuf-compiler-grpc-java-plugin libgrpc-java libprotobuf-java libnetty-java libperfmark-java
  libgoogle-gson-java libguava-java liberror-prone-java libgeronimo-annotation-1.3-spec-java libjsr305-java
)
command -v npm >/dev/null || packages+=(nodejs npm)
if dpkg-query --show "${packages[@]}" >/dev/null 2>&1; then exit; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "the tests from other languages need these packages of Debian: ${packages[*]}" >&2
  exit
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${packages[@]}"

#!/usr/bin/env bash
# Installs what the tests need, builds everything, runs every test. For Debian 12 and Ubuntu 24.04.
set -euo pipefail
cd "$(dirname "$0")/.."

bash app/packages.sh tests
cmake --preset release
cmake --build --preset release
ctest --preset release

#!/usr/bin/env bash
# Installs what the tests need, builds everything, runs every test. For Debian 12 and Ubuntu 24.04.
set -euo pipefail
cd "$(dirname "$0")/.."

bash app/packages.sh tests
interop=build/interop
python3 -m venv "$interop"
"$interop/bin/pip" install --quiet --disable-pip-version-check -r tests/interop/requirements.txt
cmake --preset release -DROTORQUANT_WARNINGS_AS_ERRORS=ON -DROTORQUANT_INTEROP_PYTHON="$PWD/$interop/bin/python"
cmake --build --preset release
ctest --preset release

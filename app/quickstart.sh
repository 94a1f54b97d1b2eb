#!/usr/bin/env bash
# From a fresh clone on Debian 12 or Ubuntu 24.04 to a first result: installs packages, builds, sweeps a bundled capture and
# prints how RotorQuant compares with TurboQuant on it.
set -euo pipefail
cd "$(dirname "$0")/.."

bash app/packages.sh
cmake --preset release
cmake --build --preset release
build/release/app/rotorquant compare data/smollm2-jargon-small.h5 --candidate rotorquant --baseline turboquant \
  --bits 2,3,4 --seeds 0-9 -o build/quickstart.json --resume
echo
echo "The full report is build/quickstart.json. Next: build/release/app/rotorquant --help"

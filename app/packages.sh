#!/usr/bin/env bash
# Installs the Debian or Ubuntu packages that the tool is built with. `bash app/packages.sh tests` adds what only the tests use.
# Nothing is touched when all of them are there; without the right to install, the missing ones are named.
set -euo pipefail

packages=(g++ cmake ninja-build git ca-certificates libeigen3-dev libfmt-dev nlohmann-json3-dev libcli11-dev libhdf5-dev
          libssl-dev)
if [[ "${1:-}" == tests ]]; then
  packages+=(libgtest-dev gnuplot-nox python3 python3-h5py python3-jsonschema python3-numpy python3-venv)
fi

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
((${#missing[@]})) || exit 0

run=()
if ((EUID != 0)); then
  command -v sudo >/dev/null || { echo "missing packages: ${missing[*]}; install them as root" >&2; exit 1; }
  run=(sudo DEBIAN_FRONTEND=noninteractive)
fi
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${run[@]}" apt-get update -qq
"${run[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null

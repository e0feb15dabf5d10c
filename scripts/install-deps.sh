#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Install what building, testing and the demo need, from Debian's or Ubuntu's packages. The only
# installer of the project. With "bench" also what the benchmarks compare with. Does nothing when
# nothing is missing. Asks only where a person sits at a terminal and sudo is needed; as root, in CI or
# with YES=1 it goes on.
set -euo pipefail
packages=(gcc g++ cmake ninja-build make pkg-config python3 libpthreadpool-dev libdnnl-dev libjansson-dev libzip-dev
	zlib1g-dev libxxhash-dev libopenmpi-dev openmpi-bin libdlpack-dev libsimde-dev libcriterion-dev dataset-fashion-mnist libboost-context-dev python3-numpy python3-scipy python3-pytest iproute2)
[ "${1:-}" != bench ] || packages+=(python3-venv libopenblas0-pthread libxsmm-dev libgraphblas-dev)

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
	echo "This is no Debian or Ubuntu. Please install what these packages hold:" >&2
	printf '  %s\n' "${packages[@]}" >&2
	exit 1
fi
missing=()
for package in "${packages[@]}"; do
	dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
echo "Missing packages: ${missing[*]}"
sudo=()
if [ "$(id -u)" -ne 0 ]; then
	command -v sudo >/dev/null || { echo "Please install them as root: apt-get install ${missing[*]}" >&2; exit 1; }
	sudo=(sudo)
	if [ -z "${CI:-}" ] && [ "${YES:-}" != 1 ]; then
		[ -t 0 ] || { echo "Please install them, or run again with YES=1: sudo apt-get install ${missing[*]}" >&2; exit 1; }
		read -r -p "Install them with sudo apt-get? [Y/n] " answer
		case "$answer" in [nN]*) exit 1 ;; esac
	fi
fi
export DEBIAN_FRONTEND=noninteractive
install() { "${sudo[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}"; }
# An old package list names versions that are gone: refresh it and try again.
install || { "${sudo[@]}" apt-get update -q && install; }

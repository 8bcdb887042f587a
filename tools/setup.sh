#!/bin/sh
# Make or refresh the project's own environment in .venv: `tools/setup.sh run` with what the product and
# its measuring need, `dev` with what checks and tests need besides. Does nothing when it is up to date.
set -eu
cd "$(dirname "$0")/.."
UV_VERSION=0.13.9
wanted=$1

stamp=$(cat uv.lock pyproject.toml clients/python/pyproject.toml tools/setup.sh | cksum)
current() { [ -x .venv/bin/python ] && [ "$(cat ".venv/.ready-$1" 2>/dev/null)" = "$stamp $PWD" ]; }
if current "$wanted" || current dev; then
    exit 0
fi

# An interpreter that was removed leaves links to nowhere; a set-up that was interrupted leaves half of it.
if [ -e .venv ] && ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    echo "The environment in .venv is damaged; making it anew"
    rm -rf .venv
fi
if [ ! -x .venv/bin/python ]; then
    python=$(tools/find-python)
    echo "Making .venv with $python"
    "$python" -m venv .venv
fi
if [ "$(.venv/bin/python -m uv --version 2>/dev/null | cut -d' ' -f2)" != "$UV_VERSION" ]; then
    echo "Installing uv $UV_VERSION into .venv"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION"
fi
export VIRTUAL_ENV="$PWD/.venv" UV_PROJECT_ENVIRONMENT="$PWD/.venv" UV_PYTHON_DOWNLOADS=never
# The machine's certificates, which Go needs too, know a company's proxy; uv's own do not.
export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-true}"
if [ "$wanted" = dev ]; then
    echo "Installing the packages of uv.lock, tests and tools included"
    .venv/bin/python -m uv sync --frozen --quiet --all-extras
else
    echo "Installing the packages of uv.lock"
    .venv/bin/python -m uv sync --frozen --quiet --no-dev --all-extras --inexact
fi
printf '%s %s\n' "$stamp" "$PWD" | tr -d '\n' > ".venv/.ready-$wanted"

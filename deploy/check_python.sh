#!/usr/bin/env bash
# Says in one sentence what is missing of the three things the project cannot install by itself:
# Python 3.11 or newer, its venv module, and (by being run at all) make.
set -u
python="${1:-python3}"
if ! command -v "$python" >/dev/null 2>&1; then
  echo "No '$python' found. Install Python 3.11 or newer: 'apt-get install python3 python3-venv' (Debian, Ubuntu) or 'brew install python@3.12' (macOS); or name one: make demo PYTHON=/path/to/python3.12" >&2
  exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "'$python' is $("$python" -V 2>&1), but Python 3.11 or newer is needed. Install it ('apt-get install python3.12 python3.12-venv' or 'brew install python@3.12') and name it: make demo PYTHON=python3.12" >&2
  exit 1
fi
if ! "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
  echo "'$python' has no venv module. Install it: 'apt-get install python3-venv' (Debian, Ubuntu), then run the command again." >&2
  exit 1
fi

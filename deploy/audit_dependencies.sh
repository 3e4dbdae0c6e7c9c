#!/usr/bin/env bash
# Whether a known vulnerability stands in any locked package: pip-audit over every lock file, in an environment of its
# own. `make audit-dependencies` runs it.
# Exit status 0: none is known; 1: some are, listed above; 75: nothing was audited, because the advisory database, or
# the package pip-audit, cannot be had from here.
set -uo pipefail
cd "$(dirname "$0")/.."
ADVISORIES=${ADVISORY_URL:-https://pypi.org/pypi/pip/json}
AUDIT_VENV=${AUDIT_VENV:-.venv/audit}
PYTHON=${PYTHON:-python3}
NOT_AUDITED=75

not_audited() {
    echo "The dependencies were NOT audited: $1" >&2
    exit "$NOT_AUDITED"
}

"$PYTHON" - "$ADVISORIES" <<'END' || not_audited "the advisory database ($ADVISORIES) cannot be reached from here."
import sys
import urllib.request

try:
    with urllib.request.urlopen(sys.argv[1], timeout=10) as answer:
        sys.exit(b'"vulnerabilities"' not in answer.read())
except (OSError, ValueError) as error:
    sys.exit(str(error))
END

if [ ! -x "$AUDIT_VENV/bin/pip-audit" ]; then
    "$PYTHON" -m venv "$AUDIT_VENV" && "$AUDIT_VENV/bin/pip" install --quiet 'pip-audit>=2.9,<3' \
        || not_audited "pip-audit could not be installed; is the package index reachable?"
fi

found=0
unknown=0
for lock in requirements*.lock deploy/requirements-*.lock; do
    echo "$lock:"
    said=$("$AUDIT_VENV/bin/pip-audit" --requirement "$lock" --require-hashes --disable-pip --progress-spinner off 2>&1)
    status=$?
    echo "$said"
    unknown=$((unknown + $(grep -c 'could not be audited' <<<"$said")))
    if [ $status -ne 0 ]; then
        # it ends with 1 for what it found and for what kept it from looking alike
        grep -q 'known vulnerabilit' <<<"$said" || not_audited "pip-audit failed on $lock; the lines above say why."
        found=1
    fi
done
[ $found -eq 1 ] && exit 1
# it says "no known vulnerabilities" of packages it could look up nothing about, too
[ "$unknown" -eq 0 ] || not_audited "the advisory database knows nothing of $unknown package(s), named above."

#!/bin/sh
# Installs both packages into a temporary library and runs the tests against a server that plays Muster's routes.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
server=
cleanup() {
	exec 9>&- || true
	[ -z "$server" ] || wait "$server" || true
	rm -rf "$tmp"
}
trap cleanup EXIT
R_LIBS="$tmp${R_LIBS:+:$R_LIBS}"
export R_LIBS
R CMD INSTALL --no-docs --no-test-load --library="$tmp" "$here/.." "$here/../../cml" >"$tmp/install.log" 2>&1 || {
	cat "$tmp/install.log" >&2
	exit 1
}
mkfifo "$tmp/stdin" "$tmp/url"
python3 "$here/server.py" <"$tmp/stdin" >"$tmp/url" &
server=$!
exec 9>"$tmp/stdin" # the server ends when this does
read -r MUSTER_URL <"$tmp/url"
CDSW_API_KEY=key
PYTHON=$(command -v python3)
export MUSTER_URL CDSW_API_KEY PYTHON
for test in "$here"/test-*.R; do
	echo "== $(basename "$test")"
	timeout 120 Rscript "$test" 9>&-
done
echo "all R tests passed"

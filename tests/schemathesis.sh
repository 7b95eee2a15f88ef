#!/bin/sh
# Starts a federation and asks it everything that its own /openapi.json allows, and much that it does not; complains of each
# 5xx, undocumented status or media type, and answer that is not of its schema. `make api-fuzz` runs it.
#
#   tests/schemathesis.sh CONFLUX_BINARY [arguments for `schemathesis run`]
set -eu
conflux=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
schemathesis=${SCHEMATHESIS:-schemathesis}
directory=$(mktemp -d)
"$conflux" dev --data-dir "$directory" --shards 1 >"$directory.log" 2>&1 &
federation=$!
# The federation is this script's own, and ends with it.
trap 'kill "$federation" 2>/dev/null; wait "$federation" 2>/dev/null; rm -rf "$directory"' EXIT INT TERM
until [ -s "$directory/federation.json" ]; do
  kill -0 "$federation" || { cat "$directory.log"; exit 1; }
  sleep 1
done
url=$(sed -n 's/.*"url": *"\([^"]*\)".*/\1/p' "$directory/federation.json" | head -n 1)
# Something to ask for: c1 is the sample of `conflux dev`, the next ones are these.
for name in a.json b.yaml; do
  echo '{}' | "$conflux" config put "shop/prod/$name" --federation "$directory/federation.json" >/dev/null
done
# Left out: a watch does not end by itself; operators' calls would take the federation apart;
# an import takes a zip, which schemathesis cannot make (cargo-fuzz has the reader of archives).
# It keeps its notes where it stands.
cd "$directory"
"$schemathesis" --config-file "$here/schemathesis.toml" run "$url/openapi.json" --url "$url" \
  --tls-verify "$directory/pki/ca.pem" \
  --header "Authorization: Bearer $(cat "$directory/demo.key")" \
  --exclude-path-regex '^/(api/v1/(watch|admin|mgt/(\{tenant\}/)?import$)|_cluster)' \
  "$@"

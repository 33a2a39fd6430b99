#!/usr/bin/env bash
# Every check here against one running Vellum, in dev mode:
#   ./run.sh http://127.0.0.1:4000/graphql ws://127.0.0.1:4000/graphql ../../schema.graphql
# Needs node 20 and one `npm ci` in this folder and in sdl-tools/. Exits 1 when a MUST fails; STRICT=1 makes a SHOULD
# count too. docs/conformance.md says which SHOULD does not pass yet, and why.
set -u
http=$1 ws=$2 sdl=$(realpath "$3")
cd "$(dirname "$0")" || exit 2
strict=(); [ -n "${STRICT:-}" ] && strict=(--strict)

coproc DRIVE { exec node drive.mjs "$http"; }
drive_pid=$DRIVE_PID
trap 'kill "$drive_pid" 2>/dev/null' EXIT
read -r -t 20 over <&"${DRIVE[0]}" || { echo "the server at $http did not take the first mutations"; exit 1; }
made=$(node prepare.mjs "$http") || exit 1
field() { node -pe "JSON.parse(process.argv[1])['$1']" "$made"; }
export STEPS_URL=$http STEPS_INTENT; STEPS_INTENT=$(field open)
version=$(field version)

finite="subscription { uploadIntent(id: \"$over\") { status } }"
steps="subscription { uploadIntent(id: \"$STEPS_INTENT\") { status } }"
forever='subscription { changes(filter: { asset: { path: "conformance/fast" } }) { cursor } }'
slow='subscription { changes(filter: { asset: { path: "conformance/slow" } }) { cursor } }'
quiet='subscription { changes(filter: { asset: { path: "conformance/never" } }) { cursor } }'
relay='query AppQuery($n: Int!, $c: String) { ...App_assets @arguments(count: $n, cursor: $c) node(id: "x") { __typename id } }
fragment App_assets on Query @argumentDefinitions(count: {type: "Int", defaultValue: 10}, cursor: {type: "String"}) @refetchable(queryName: "AppPaginationQuery") {
  assets(first: $count, after: $cursor) @connection(key: "App_assets") { edges { node { ...App_asset } } }
}
fragment App_asset on Asset @refetchable(queryName: "AssetRefetchQuery") { id path createdAt }
subscription AppSub { changes { cursor changes { type asset { id ...App_asset } } } }'
rc=0
part() { echo "=== $1"; timeout 300 node "$@" "${strict[@]}" || rc=1; }
part http-audits.mjs "$http"
part spec.mjs "$http" --fast=__typename --slow='root { assets(first: 1) { totalCount } }' \
  --strarg='asset(path: $v) { id }' --intarg='asset(path: "conformance/fast") { version(number: $v) { id } }' \
  --nonnull-failing='root { folders(first: -1) { totalCount } }' \
  --nullable-failing='folder(path: "") { folders(first: -1) { totalCount } }' \
  --list-failing='root { folders(first: 1) { nodes { totalCount: folders(first: -1) { totalCount } } } }' \
  --mutation="restoreVersion(input: {versionId: \"$version\"}) { version { number } }" \
  --twosubs='subscription { a: changes { cursor } b: changes { cursor } }'
echo "=== transport-ws.mjs"
timeout 300 node --import ./steps.mjs transport-ws.mjs "$ws" --finite="$steps" --forever="$forever" --quiet="$quiet" \
  --query='{ viewer { role } }' --ping-wait="${PING_WAIT:-0}" "${strict[@]}" || rc=1
part clients.mjs --http="$http" --ws="$ws" --finite="$finite" --count=1 --forever="$forever" --slow="$slow" --query='{ viewer { role } }'
part schema.mjs "$http" --sdl="$sdl"
echo "=== sdl-tools"
# The linter's default rules sort fields by the alphabet; ours stand in the order of their meaning.
tools=$(timeout 300 node sdl-tools/run.mjs "$sdl" --operations="$relay" 2>&1)
echo "$tools"
! grep '^FAIL' <<<"$tools" | grep -v '^FAIL graphql-schema-linter' || rc=1
grep -q '^pass relay-compiler' <<<"$tools" || rc=1
exit $rc

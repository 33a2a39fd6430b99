#!/usr/bin/env bash
# Installs what the checks need and runs them against $SERVER_URL; see scripts/with-server.
set -euo pipefail
cd "$(dirname "$0")"
for folder in . sdl-tools; do
  [ -e "$folder/node_modules/.package-lock.json" ] || npm ci --prefix "$folder" --no-fund --no-audit --loglevel=error
done
./run.sh "$SERVER_URL/graphql" "ws${SERVER_URL#http}/graphql" ../../schema.graphql

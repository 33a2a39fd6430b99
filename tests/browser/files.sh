#!/usr/bin/env bash
# Opens files that somebody uploaded to $SERVER_URL in Chromium ($CHROMIUM, or the one on the path); see scripts/with-server.
set -euo pipefail
cd "$(dirname "$0")"
CHROMIUM=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome)}
export CHROMIUM
[ -e node_modules/.package-lock.json ] || npm ci --no-fund --no-audit --loglevel=error
node files.mjs "$SERVER_URL"

#!/usr/bin/env bash
# Lets pages in Chromium upload to a bucket and read from it: a Garage of its own, private with presigned URLs, then
# public as a website. Needs node, npm, curl and Chromium.
set -euo pipefail
cd "$(dirname "$0")/../.."
program=$(realpath "${PROGRAM:-${CARGO_TARGET_DIR:-target}/debug/vellum}")
garage=${VELLUM_TEST_GARAGE:-$(scripts/garage)}
CHROMIUM=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome)}
export CHROMIUM
[ -e tests/browser/node_modules/.package-lock.json ] || npm ci --prefix tests/browser --no-fund --no-audit --loglevel=error
folder=$(mktemp -d) port=${GARAGE_PORT:-39410}
app=http://127.0.0.1:$((port + 5)) stranger=http://127.0.0.1:$((port + 6))
pids=()
trap 'for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; done; rm -rf "$folder"' EXIT
await() {
  for _ in $(seq 200); do curl -s -o "$folder/answer" "$1" && return; kill -0 "$2" || break; sleep 0.1; done
  cat "$folder"/*.log >&2; exit 1
}
VELLUM_TEST_GARAGE=$garage scripts/s3 "$folder/garage" "$port" 2>"$folder/garage.log" & pids+=($!)
await "http://127.0.0.1:$port/" "${pids[0]}"
# Who may send, by origin; who may read: anyone, since a browser that follows a redirect does not tell its origin.
cat >"$folder/cors.xml" <<XML
<CORSConfiguration>
<CORSRule><AllowedOrigin>$app</AllowedOrigin><AllowedMethod>PUT</AllowedMethod><AllowedHeader>*</AllowedHeader>
<ExposeHeader>ETag</ExposeHeader></CORSRule>
<CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod><AllowedMethod>HEAD</AllowedMethod></CORSRule>
</CORSConfiguration>
XML
curl -sf --aws-sigv4 aws:amz:garage:s3 \
  --user GK000000000000000000000000:0000000000000000000000000000000000000000000000000000000000000001 \
  -H "x-amz-content-sha256: $(sha256sum "$folder/cors.xml" | cut -d' ' -f1)" -X PUT --data-binary "@$folder/cors.xml" \
  "http://127.0.0.1:$port/vellum?cors="
# A website's bucket is told by the host name, and not every machine knows vellum.localhost.
"$garage" -c "$folder/garage/garage.toml" bucket website --allow vellum >/dev/null
"$garage" -c "$folder/garage/garage.toml" bucket alias vellum localhost >/dev/null
for way in private public; do
  sed "s|:3900|:$port|" examples/garage.toml >"$folder/$way.toml"
  echo "prefix = \"$way\"" >>"$folder/$way.toml"
  [ "$way" = private ] || echo "public_url = \"http://localhost:$((port + 2))\"" >>"$folder/$way.toml"
  listen=127.0.0.1:$((port + (${#pids[@]} + 6)))
  "$program" serve --dev --config "$folder/$way.toml" --listen "$listen" --data-dir "$folder/$way" \
    >"$folder/$way.out" 2>"$folder/$way.log" & pids+=($!)
  await "http://$listen/readyz" "${pids[-1]}"
  "$program" storage check garage --config "$folder/$way.toml" --data-dir "$folder/$way" --origin "$app"
  node tests/browser/bucket.mjs "$way" "http://$listen" "$app" "$stranger" examples/photos/hopper.jpg ||
    { cat "$folder/$way.log" >&2; exit 1; }
done

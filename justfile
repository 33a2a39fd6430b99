# `just` lists these. What they need beyond Rust is installed by scripts/tools into a folder of the user's cache.

set shell := ["bash", "-euo", "pipefail", "-c"]

target := env("CARGO_TARGET_DIR", "target")

[private]
default:
    @just --list

# Run the server in dev mode.
run *arguments:
    cargo run -- serve --dev {{ arguments }}

# A Garage with a bucket `vellum`, to try buckets with: `just s3`, and in another terminal
# `cargo run -- serve --dev --config examples/garage.toml`.
s3 folder=(target / "garage") port="3900":
    scripts/s3 {{ folder }} {{ port }}

# Everything that CI checks.
check: fmt lint docs deny spelling test readme conformance explorer files buckets deploy

# Formatting.
fmt:
    cargo fmt --all --check

# Clippy and rustc, warnings denied; unused dependencies are among them.
lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# The docs build, warnings denied.
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --document-private-items

# Licences, duplicate versions and sources of dependencies.
deny:
    # Also what other platforms need is looked at.
    cargo fetch --quiet --locked
    cargo-deny --offline --locked check bans licenses sources

# Spelling.
spelling:
    typos

# The tests, on SQLite; on PostgreSQL too when VELLUM_TEST_POSTGRES_URL names a server; and those of storage on a Garage
# when VELLUM_TEST_GARAGE names the program (scripts/garage). VELLUM_TEST_SMALL_DISK names a disk of 24 MB or so that one of
# them may fill.
test:
    env -u VELLUM_TEST_POSTGRES_URL -u VELLUM_TEST_GARAGE cargo test --workspace --locked
    [ -z "${VELLUM_TEST_POSTGRES_URL:-}" ] || VELLUM_TEST_CASES=${VELLUM_TEST_POSTGRES_CASES:-64} \
        env -u VELLUM_TEST_GARAGE cargo test --locked --test it
    [ -z "${VELLUM_TEST_GARAGE:-}" ] || cargo test --locked --test it -- storage::

# The long run of the state machine: 100,000 sequences of operations against the model, others each time.
prove cases="100000" seed=`date +%s`:
    VELLUM_TEST_SEED={{ seed }} VELLUM_TEST_CASES={{ cases }} cargo test --locked --release --test it model::

# The long run of crashes: killed 300 times under load, and once at each point where it hurts. With
# VELLUM_TEST_POSTGRES_URL two servers, and a PostgreSQL of their own, are killed while others follow them.
crash rounds="300":
    VELLUM_TEST_CRASH_ROUNDS={{ rounds }} cargo test --locked --test it -- crash:: feed::killed::

# The long run of the changelog: 100,000 simulated cases, others each time, and a subscriber that misses 100,000 entries.
follow cases="100000" seed=`date +%s`:
    VELLUM_TEST_SEED={{ seed }} VELLUM_TEST_CASES={{ cases }} VELLUM_TEST_SILENT_ENTRIES=100000 \
        cargo test --locked --release --test it -- feed::simulation:: feed::silent::

# Fuzz paths, cursors, ranges and signed URLs, each for some seconds. Needs a C++ compiler; builds the server in its own way.
fuzz seconds="300":
    for target in path cursor range signed; do scripts/fuzz $target {{ seconds }}; done

# Fuzz the API with what schemathesis makes up of its schema, as an admin and as a stranger. Needs python3 with venv, and curl.
fuzz-api seconds="300":
    cargo build --locked
    CARGO_TARGET_DIR={{ target }} scripts/with-server scripts/fuzz-api {{ seconds }}
    SERVE_AS= VELLUM_RATE_LIMIT__ADDRESS_PER_SECOND=0 CARGO_TARGET_DIR={{ target }} \
        scripts/with-server scripts/fuzz-api {{ seconds }}

# Write schema.graphql anew.
schema:
    cargo run --quiet -- schema > schema.graphql

# The README's walk-through does what it says.
readme:
    cargo build --locked
    CARGO_TARGET_DIR={{ target }} scripts/with-server scripts/readme
    CARGO_TARGET_DIR={{ target }} scripts/storage-pages

# Real clients and audits against a running server. Needs node and npm.
conformance:
    cargo build --locked
    CARGO_TARGET_DIR={{ target }} scripts/with-server tests/conformance/conformance.sh

# The explorer page: its files are what its sources build, and it works in a browser. Needs node, npm and Chromium.
explorer:
    ui/explorer/verify
    cargo build --locked
    CARGO_TARGET_DIR={{ target }} scripts/with-server tests/browser/explorer.sh

# Uploaded files in a browser: nothing in them runs with the rights of the server, and images and PDFs show. Needs node, npm
# and Chromium.
files:
    cargo build --locked
    CARGO_TARGET_DIR={{ target }} scripts/with-server tests/browser/files.sh

# Pages in a browser upload to a bucket and read from it. Needs node, npm, curl and Chromium; builds a Garage.
buckets:
    cargo build --locked
    CARGO_TARGET_DIR={{ target }} tests/browser/bucket.sh

# Build the explorer page from its sources.
explorer-build:
    npm ci --prefix ui/explorer --ignore-scripts --no-fund --no-audit
    npm run --prefix ui/explorer build

# Speed of a release build on a library of 100,000 assets that it seeds itself; `just bench --only asset,page`.
bench *arguments:
    cargo build --release --locked -p vellum -p vellum-bench
    {{ target }}/release/vellum-bench --program {{ target }}/release/vellum {{ arguments }}

# Memory, start-up and upload figures of a release build.
measure:
    cargo build --release --locked
    CARGO_TARGET_DIR={{ target }} scripts/measure

# The Dockerfile and the systemd unit.
deploy:
    cargo build --locked
    CARGO_TARGET_DIR={{ target }} scripts/deploy

# The server in an image of its own: docker build -t vellum . && docker run -p 4000:4000 -v vellum:/data vellum
# What it needs to know comes by VELLUM_… variables, or by a file: docker run … vellum serve --config /data/vellum.toml
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --package vellum && cp target/release/vellum /vellum

FROM debian:bookworm-slim
# For buckets and key sets at https:// URLs. Its version is that of the image's distribution.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin vellum \
    && install --directory --owner vellum --mode 0700 /data
COPY --from=build /vellum /usr/local/bin/vellum
USER 10001
ENV VELLUM_LISTEN=0.0.0.0:4000 VELLUM_DATA_DIR=/data
VOLUME /data
EXPOSE 4000
# SIGTERM lets what runs come to its end; give it shutdown_grace_seconds and a little more before SIGKILL.
STOPSIGNAL SIGTERM
ENTRYPOINT ["vellum"]
CMD ["serve"]

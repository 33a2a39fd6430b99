//! How a store is spoken to: who we are, how long we wait, what we try again.

use std::time::Duration;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedCredentialsProvider,
};
use aws_sdk_s3::{Client, Config};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

use aws_smithy_runtime_api::client::http::HttpConnectorSettings;

use crate::blob::copying_time;
use crate::config::Bucket;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(3);
/// Longest wait for one try of a request that brings or copies next to nothing.
const SHORTEST: Duration = Duration::from_secs(15);
/// Bytes a second that the slowest connection sends which is put up with.
const SLOWEST_SENDING: u64 = 128 * 1024;
/// Longest silence of a store that is asked without the SDK.
const SILENCE: Duration = Duration::from_secs(30);
/// Tries of one request. The SDK waits between them for a random, growing time, and gives up sooner when most fail.
const ATTEMPTS: u32 = 3;

/// A client of the store that has `bucket`.
pub async fn connect(bucket: &Bucket) -> Client {
    let http =
        aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let region = Region::new(bucket.region.clone());
    let credentials = if let Some((id, secret)) = &bucket.credentials {
        SharedCredentialsProvider::new(Credentials::new(id, secret.reveal(), None, None, "vellum settings"))
    } else {
        let provider =
            ProviderConfig::default().with_region(Some(region.clone())).with_http_client(http.clone());
        let chain = DefaultCredentialsChain::builder().region(region.clone()).configure(provider);
        SharedCredentialsProvider::new(chain.build().await)
    };
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(bucket.timeout / 2)
        .operation_timeout(bucket.timeout)
        .build();
    let mut config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .region(region)
        .credentials_provider(credentials)
        .force_path_style(bucket.path_style)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
        .timeout_config(timeouts);
    config.set_endpoint_url(bucket.endpoint.clone());
    if bucket.endpoint.is_some() {
        // What only AWS does by itself is trouble for the others.
        config = config
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    }
    Client::from_conf(config.build())
}

/// For requests that are not signed by the SDK.
pub fn plain() -> Connector {
    let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT).read_timeout(SILENCE).build();
    Connector::builder().tls_provider(Provider::Rustls(CryptoMode::Ring)).connector_settings(settings).build()
}

/// For a request that brings so many bytes: the longer, the more time it has.
pub fn sending(bytes: usize) -> aws_sdk_s3::config::Builder {
    waiting(SHORTEST + Duration::from_secs(bytes as u64 / SLOWEST_SENDING), 2)
}

/// For a request that lets the store copy so many bytes.
pub fn copying(bytes: u64) -> aws_sdk_s3::config::Builder {
    waiting(SHORTEST + copying_time(bytes), 1)
}

/// For one that lets it put parts together.
pub fn joining() -> aws_sdk_s3::config::Builder {
    waiting(Duration::from_secs(600), 1)
}

fn waiting(attempt: Duration, times: u32) -> aws_sdk_s3::config::Builder {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(attempt)
        .operation_timeout(attempt * times + CONNECT)
        .build();
    Config::builder().timeout_config(timeouts)
}

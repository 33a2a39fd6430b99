//! `vellum serve`.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use tokio::net::TcpListener;

use crate::app::{App, Clock};
use crate::config::Config;
use crate::domain::{gc, search};
use crate::http::{self, Auth, Server};

/// Runs the server until it is told to stop.
///
/// # Errors
/// When it cannot start.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.with_context(|| format!("cannot listen on {}", config.listen))?;
    let address = listener.local_addr()?;
    let public_url = config.public_url.clone().unwrap_or_else(|| format!("http://{address}"));
    let grace = config.shutdown_grace;
    survive_file_size_limit();
    let (dev, data_dir) = (config.dev, config.data_dir.clone());
    let app = App::open(config, public_url.clone(), Clock::system()).await?;
    let auth = Auth::open(&app)?;
    search::fill(&app).await?;
    app.spawn(gc::clean_forever(app.clone()));
    greet(&public_url, dev, &data_dir);
    let all = Server::new(app.clone(), auth)?;
    if let Some(address) = app.config().metrics_listen {
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("cannot listen on {address} for metrics"))?;
        app.spawn(http::serve_metrics(all.clone(), listener));
    }
    let stopping = app.stopping().clone();
    tokio::spawn(async move {
        wait_for_signal().await;
        tracing::info!("stopping");
        stopping.cancel();
    });
    let stopped = app.stopping().clone();
    let serving = http::serve(all, listener);
    let overtime = async {
        stopped.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        () = serving => {}
        () = overtime => tracing::warn!("some requests did not end in time"),
    }
    app.close(grace).await;
    Ok(())
}

/// Lets a write beyond a limit on the size of files fail, as on a full disk, instead of ending the process.
#[cfg(unix)]
fn survive_file_size_limit() {
    use tokio::signal::unix::{SignalKind, signal};
    const SIGXFSZ: i32 = 25;
    match signal(SignalKind::from_raw(SIGXFSZ)) {
        Ok(mut limit) => {
            tokio::spawn(async move { while limit.recv().await.is_some() {} });
        }
        Err(error) => tracing::warn!(%error, "a limit on the size of files would end the server"),
    }
}

#[cfg(not(unix))]
const fn survive_file_size_limit() {}

/// Tells people where to look.
fn greet(url: &str, dev: bool, data_dir: &Path) {
    let access = if dev {
        "  Access                  everyone on this machine is admin (--dev)".to_owned()
    } else {
        format!("  Admin token             in {}", http::token_path(data_dir).display())
    };
    let text = format!(
        "Vellum is ready.\n\
         \x20 Explore and subscribe   {url}/graphql\n\
         \x20 Published bytes         {url}/assets/<path>\n\
         \x20 Health                  {url}/healthz  {url}/readyz\n\
         \x20 Data                    {}\n{access}\n",
        data_dir.display()
    );
    // Nobody may be listening; the server runs all the same.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

async fn wait_for_signal() {
    let interrupt = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
    }
}

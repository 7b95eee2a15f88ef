//! The certificate that clients see, kept fresh from its files.

use std::{path::Path, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::{listener::ClientTls, settings::ClientTlsFiles};

/// Between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("client_tls: {0}")]
pub struct ClientTlsError(String);

/// Reads the files once. TLS 1.2 and 1.3; h2 and HTTP/1.1.
pub fn load(files: &ClientTlsFiles) -> Result<ClientTls, ClientTlsError> {
    Ok(Arc::new(ArcSwap::from_pointee(read(files)?.1)))
}

type Pems = (Vec<u8>, Vec<u8>);

fn read(files: &ClientTlsFiles) -> Result<(Pems, ServerConfig), ClientTlsError> {
    let bytes = |path: &Path| {
        std::fs::read(path).map_err(|error| ClientTlsError(format!("cannot read {}: {error}", path.display())))
    };
    let (cert, key) = (bytes(&files.cert)?, bytes(&files.key)?);
    let wrong = |path: &Path, error: &dyn std::fmt::Display| ClientTlsError(format!("{}: {error}", path.display()));
    let chain =
        CertificateDer::pem_slice_iter(&cert).collect::<Result<Vec<_>, _>>().map_err(|e| wrong(&files.cert, &e))?;
    let private = PrivateKeyDer::from_pem_slice(&key).map_err(|e| wrong(&files.key, &e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong(&files.cert, &e))?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|e| wrong(&files.cert, &e))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(((cert, key), config))
}

/// Takes changed files over, for ever. What cannot be used is logged and the old kept.
pub async fn follow(files: ClientTlsFiles, present: ClientTls) {
    let mut known: Option<Pems> = read(&files).ok().map(|(pems, _)| pems);
    let mut complained = false;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let files = files.clone();
        let Ok(looked) = tokio::task::spawn_blocking(move || read(&files)).await else { return };
        match looked {
            Ok((pems, config)) if known.as_ref() != Some(&pems) => {
                present.store(Arc::new(config));
                known = Some(pems);
                tracing::info!("the client port has a new certificate");
            }
            Ok(_) => complained = false,
            Err(error) => {
                if !complained {
                    tracing::error!(%error, "the client port keeps its old certificate");
                }
                complained = true;
            }
        }
    }
}

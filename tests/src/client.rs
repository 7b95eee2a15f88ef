//! REST as a tenant or operator speaks it.

use std::{path::Path, time::Duration};

use anyhow::{Result, bail};
use bytes::Bytes;
use reqwest::{Method, header::HeaderMap};

/// One key on one gateway.
#[derive(Clone)]
pub struct Client {
    pub http: reqwest::Client,
    pub url: String,
    pub key: Option<String>,
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// `error.code` of an error.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Fails unless the status is one of these.
    pub fn expect(self, wanted: &[u16]) -> Result<Self> {
        if wanted.contains(&self.status) {
            return Ok(self);
        }
        bail!("status {} instead of {wanted:?}: {}", self.status, self.text())
    }
}

/// rustls with the federation's client-facing CA.
pub fn tls_config(ca_file: &Path) -> rustls::ClientConfig {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    for cert in CertificateDer::pem_file_iter(ca_file).expect("CA file") {
        roots.add(cert.expect("PEM")).expect("a root");
    }
    rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

impl Client {
    pub fn new(url: &str, ca_file: &Path, key: Option<&str>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .use_preconfigured_tls(tls_config(ca_file))
            .timeout(Duration::from_secs(30))
            .build()
            .expect("an HTTP client");
        Self { http, url: url.trim_end_matches('/').to_owned(), key: key.map(str::to_owned) }
    }

    /// The same connections without a credential.
    pub fn anonymous(&self) -> Self {
        Self { key: None, ..self.clone() }
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { status, headers, body: response.bytes().await? })
    }

    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(self.request(Method::GET, path)).await
    }

    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        let request = headers.iter().fold(self.request(Method::GET, path), |r, (n, v)| r.header(*n, *v));
        self.send(request).await
    }

    pub async fn delete(&self, path: &str) -> Result<Answer> {
        self.send(self.request(Method::DELETE, path)).await
    }

    pub async fn post_json(&self, path: &str, body: &serde_json::Value) -> Result<Answer> {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    pub async fn put_json(&self, path: &str, body: &serde_json::Value) -> Result<Answer> {
        self.send(self.request(Method::PUT, path).json(body)).await
    }

    /// The one-step PUT of a raw file.
    pub async fn put(&self, place: &Place, content: impl Into<Bytes>) -> Result<Answer> {
        self.put_with(place, content, &[]).await
    }

    pub async fn put_with(&self, place: &Place, content: impl Into<Bytes>, headers: &[(&str, &str)]) -> Result<Answer> {
        let request = self.request(Method::PUT, &place.put_path()).body(content.into());
        self.send(headers.iter().fold(request, |r, (n, v)| r.header(*n, *v))).await
    }

    pub async fn fetch(&self, place: &Place, query: &str) -> Result<Answer> {
        self.get(&format!("{}{query}", place.fetch_path())).await
    }
}

/// Where a config is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    pub tenant: String,
    pub app: String,
    pub env: String,
    pub name: String,
}

impl Place {
    pub fn new(tenant: &str, app: &str, env: &str, name: &str) -> Self {
        Self { tenant: tenant.into(), app: app.into(), env: env.into(), name: name.into() }
    }

    pub fn put_path(&self) -> String {
        format!("/api/v1/tenants/{}/apps/{}/envs/{}/configs/{}", self.tenant, self.app, self.env, self.name)
    }

    pub fn fetch_path(&self) -> String {
        format!("/api/v1/fetch/config/{}/{}/{}/{}", self.tenant, self.app, self.env, self.name)
    }
}

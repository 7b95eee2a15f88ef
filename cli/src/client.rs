//! Calls to a gateway: TLS with a private authority or the system's, the key, request ids, errors as the API gives them.

use std::{path::Path, time::Duration};

use anyhow::Context;
use conflux_common::{error::ErrorBody, headers};
use reqwest::{Certificate, Identity, Method, RequestBuilder, Response};
use serde_json::Value;

use crate::{failure::Failure, files, profile::Profile};

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Longer than a gateway takes to give up, so that its answer is seen.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// One federation, asked as a user or as an operator.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    key: Option<String>,
    /// Which command this is for: on every call in the gateways' logs.
    pub tenant: Option<String>,
}

impl Client {
    /// For the port that everybody uses.
    pub fn user(profile: &Profile) -> anyhow::Result<Self> {
        let url = profile.url.as_ref().ok_or_else(|| {
            Failure::Usage(
                "where is the federation? --url, --federation FILE or a profile (`conflux profile add`)".into(),
            )
        })?;
        Self::new(profile, url, profile.key_file.as_deref(), None)
    }

    /// For the operators' port.
    pub fn operator(profile: &Profile) -> anyhow::Result<Self> {
        let url = profile.operator_url.as_ref().ok_or_else(|| {
            Failure::Usage("this is an operator's command: --operator-url, --federation FILE or a profile".into())
        })?;
        let identity = match (&profile.cert, &profile.cert_key) {
            (Some(cert), Some(key)) => Some(format!("{}\n{}", files::read(key)?, files::read(cert)?)),
            _ => None,
        };
        Self::new(profile, url, profile.admin_key_file.as_deref(), identity)
    }

    fn new(profile: &Profile, url: &str, key: Option<&Path>, identity: Option<String>) -> anyhow::Result<Self> {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .user_agent(concat!("conflux/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none());
        if let Some(ca) = &profile.ca {
            let roots = Certificate::from_pem_bundle(files::read(ca)?.as_bytes())
                .with_context(|| format!("{} holds no certificates", ca.display()))?;
            builder = builder.tls_certs_only(roots);
        }
        if let Some(identity) = identity {
            builder = builder.identity(Identity::from_pem(identity.as_bytes()).context("--cert and --cert-key")?);
        }
        let key = key.map(|path| files::read(path).map(|text| text.trim().to_owned())).transpose()?;
        Ok(Self {
            http: builder.build().context("cannot prepare TLS")?,
            base: url.trim_end_matches('/').to_owned(),
            key,
            tenant: profile.tenant.clone(),
        })
    }

    /// A call to be completed. Each part of the path is escaped.
    pub fn call(&self, method: Method, path: &[&str]) -> RequestBuilder {
        self.call_with(method, path, &[])
    }

    /// As [`call`](Self::call), with parameters.
    pub fn call_with(&self, method: Method, path: &[&str], query: &[(&str, &str)]) -> RequestBuilder {
        let mut url = self.base.clone();
        for part in path {
            url.push('/');
            url.push_str(&escaped(part, b"-._~:@+"));
        }
        for (number, (name, value)) in query.iter().enumerate() {
            url.push(if number == 0 { '?' } else { '&' });
            url.push_str(&format!("{}={}", escaped(name, b"-._~"), escaped(value, b"-._~")));
        }
        let call = self.http.request(method, url);
        match &self.key {
            Some(key) => call.bearer_auth(key),
            None => call,
        }
    }

    /// Sends it and answers only if it was successful. For answers with an end.
    pub async fn send(&self, call: RequestBuilder) -> Result<Response, Failure> {
        self.open(call.timeout(ANSWER_WITHIN)).await
    }

    /// As [`send`](Self::send), for answers without an end.
    pub async fn open(&self, call: RequestBuilder) -> Result<Response, Failure> {
        let no_answer = |e: &reqwest::Error| Failure::NoAnswer { url: self.base.clone(), why: cause(e) };
        let answer = call.send().await.map_err(|e| no_answer(&e))?;
        let status = answer.status();
        if status.is_success() || status == http::StatusCode::NOT_MODIFIED {
            return Ok(answer);
        }
        let id = answer.headers().get(headers::REQUEST_ID).and_then(|v| v.to_str().ok()).unwrap_or("none").to_owned();
        let body = answer.bytes().await.map_err(|e| no_answer(&e))?;
        match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(body) => Err(Failure::Refused { status: status.as_u16(), info: Box::new(body.error) }),
            Err(_) => Err(Failure::NoAnswer {
                url: self.base.clone(),
                why: format!("HTTP {status} without an error of Conflux (request id: {id})"),
            }),
        }
    }

    /// Sends it and reads the JSON of the answer; an answer without a body is `null`.
    pub async fn json(&self, call: RequestBuilder) -> Result<Value, Failure> {
        let answer = self.send(call).await?;
        let no_answer = |why: String| Failure::NoAnswer { url: self.base.clone(), why };
        let body = answer.bytes().await.map_err(|e| no_answer(cause(&e)))?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|e| no_answer(format!("the answer is no JSON: {e}")))
    }
}

/// The last reason says what happened; those before it only where.
fn cause(error: &reqwest::Error) -> String {
    let mut at: &dyn std::error::Error = error;
    while let Some(source) = at.source() {
        at = source;
    }
    if error.is_timeout() { "it took too long".into() } else { at.to_string() }
}

/// What is neither a letter, a digit nor in `plain` is escaped: whatever is typed arrives as it was typed.
fn escaped(part: &str, plain: &[u8]) -> String {
    let keeps = |b: u8| b.is_ascii_alphanumeric() || plain.contains(&b);
    part.bytes().map(|b| if keeps(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name with a slash must not reach another resource.
    #[test]
    fn parts_of_a_path_stay_parts() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::user(&Profile { url: Some("https://host/".into()), ..Profile::default() }).unwrap();
        let url = |path: &[&str], query: &[(&str, &str)]| {
            client.call_with(Method::GET, path, query).build().unwrap().url().to_string()
        };
        assert_eq!(url(&["c", "app.yaml:v1@eu+x"], &[]), "https://host/c/app.yaml:v1@eu+x");
        assert_eq!(url(&["a b/%"], &[("tag", "a&b=+")]), "https://host/a%20b%2F%25?tag=a%26b%3D%2B");
    }
}

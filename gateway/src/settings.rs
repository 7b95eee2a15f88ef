//! What a gateway is told.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use conflux_common::{
    ids::{ClusterName, MemberName},
    settings::{LogSettings, PlacementAddress, Problems, TlsFiles, Validate},
};
use serde::{Deserialize, Serialize};

/// The settings of one gateway process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewaySettings {
    /// The federation; must be the one in the certificates.
    pub cluster: ClusterName,
    /// This process.
    pub member: MemberName,
    /// Where clients come: TLS, HTTP/1.1 and h2.
    pub listen: SocketAddr,
    /// Plain HTTP for `/healthz`, `/readyz` and `/metrics`; loopback unless you mean it.
    pub metrics_listen: SocketAddr,
    /// The certificate that clients see; read again when it changes.
    pub client_tls: ClientTlsFiles,
    /// The certificate of this process inside the federation (`conflux://<cluster>/gateway/<member>`).
    pub tls: TlsFiles,
    /// The members of placement.
    pub placement: Vec<PlacementAddress>,
    /// Where operators come; absent: nowhere on this gateway.
    #[serde(default)]
    pub operator: Option<OperatorSettings>,
    /// Tokens of an identity provider; absent: API keys only.
    #[serde(default)]
    pub jwt: Option<JwtSettings>,
    /// Where refused attempts are written; absent: nowhere but in the log.
    #[serde(default)]
    pub refused: Option<crate::refused::Settings>,
    /// Bounds.
    #[serde(default)]
    pub limits: Limits,
    /// The watch lane.
    #[serde(default)]
    pub watch: crate::watch::Settings,
    /// Fetches that are answered here.
    #[serde(default)]
    pub edge: crate::edge::Settings,
    /// Seconds that known credentials go on while placement is silent; 0: none, at the price of refusing everyone.
    #[serde(default = "quarter_of_an_hour")]
    pub identity_grace_s: u64,
    /// Seconds between two reports to the shards of what was fetched. Less often costs less and shows use later.
    #[serde(default = "ten_seconds")]
    pub use_report_s: u64,
    /// What is logged and how.
    #[serde(default)]
    pub log: LogSettings,
}

fn ten_seconds() -> u64 {
    10
}

fn quarter_of_an_hour() -> u64 {
    15 * 60
}

/// PEM files of the client port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientTlsFiles {
    /// The certificate chain, leaf first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// The operators' port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorSettings {
    /// Demands a client certificate of the operator role.
    pub listen: SocketAddr,
    /// Lets an operator's API key do without a certificate, on the client port. For development: only on loopback addresses.
    #[serde(default)]
    pub allow_admin_key: bool,
}

/// How tokens are checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtSettings {
    /// The claim `iss` must be this.
    pub issuer: String,
    /// The claim `aud` must hold this.
    pub audience: String,
    /// Where the keys are: a file, or an https URL.
    pub jwks: String,
    /// Lets the URL be http on a loopback address. For tests.
    #[serde(default)]
    pub allow_loopback_http: bool,
    /// A PEM file of the CAs that the URL's certificate may come from, instead of the system's.
    #[serde(default)]
    pub jwks_ca: Option<PathBuf>,
    /// The claim with the tenant's name.
    #[serde(default = "tenant_claim")]
    pub tenant_claim: String,
    /// The claim with the names of roles: a list, or words with spaces between.
    #[serde(default = "roles_claim")]
    pub roles_claim: String,
    /// Seconds by which clocks may differ.
    #[serde(default = "half_a_minute")]
    pub leeway_s: u64,
    /// Seconds after which the keys are fetched again.
    #[serde(default = "five_minutes")]
    pub refresh_s: u64,
}

fn tenant_claim() -> String {
    "tenant".into()
}

fn roles_claim() -> String {
    "roles".into()
}

fn half_a_minute() -> u64 {
    30
}

fn five_minutes() -> u64 {
    300
}

/// Bounds of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Open client connections.
    pub max_connections: usize,
    /// Streams on one h2 connection.
    pub max_streams: u32,
    /// Seconds that a connection may be idle, and that the head of a request may take.
    pub idle_s: u64,
    /// Bytes of request bodies that all requests in flight may hold together.
    pub bodies_bytes: usize,
    /// Bytes of one REST body.
    pub rest_body_bytes: usize,
    /// Bytes of an archive that is imported.
    pub archive_body_bytes: usize,
    /// Bytes of one gRPC message.
    pub grpc_body_bytes: usize,
    /// Milliseconds that a call may take where the client names no deadline.
    pub deadline_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 8192,
            max_streams: 256,
            idle_s: 75,
            bodies_bytes: 256 << 20,
            rest_body_bytes: 3 << 19,
            archive_body_bytes: 8 << 20,
            grpc_body_bytes: 4 << 20,
            deadline_ms: 10_000,
        }
    }
}

impl Validate for GatewaySettings {
    fn validate(&self, problems: &mut Problems) {
        let mut listeners = vec![("listen", self.listen), ("metrics_listen", self.metrics_listen)];
        if let Some(operator) = &self.operator {
            listeners.push(("operator.listen", operator.listen));
            let loopback = operator.listen.ip().is_loopback() && self.listen.ip().is_loopback();
            problems.require(
                !operator.allow_admin_key || loopback,
                "operator.allow_admin_key",
                "only where listen and operator.listen are loopback addresses; elsewhere operators need certificates",
            );
        }
        problems.distinct_listeners(&listeners);
        problems.require(!self.placement.is_empty(), "placement", "at least one member is needed");
        problems.distinct(
            self.placement.iter().enumerate().map(|(n, p)| (format!("placement.{n}.member"), p.member.to_string())),
        );
        for (n, member) in self.placement.iter().enumerate() {
            problems.address(&format!("placement.{n}.address"), &member.address);
        }
        problems.absolute("client_tls.cert", &self.client_tls.cert);
        problems.absolute("client_tls.key", &self.client_tls.key);
        problems.within("tls", |problems| self.tls.validate(problems));
        problems.within("limits", |problems| self.limits.validate(problems));
        problems.require((1..=3_600).contains(&self.use_report_s), "use_report_s", "1 to 3600");
        problems.within("watch", |problems| self.watch.validate(problems));
        problems.within("edge", |problems| self.edge.validate(problems));
        if let Some(refused) = &self.refused {
            problems.within("refused", |problems| refused.validate(problems));
        }
        if let Some(jwt) = &self.jwt {
            problems.within("jwt", |problems| jwt.validate(problems));
        }
        problems.within("log", |problems| self.log.validate(problems));
    }
}

impl Validate for JwtSettings {
    fn validate(&self, problems: &mut Problems) {
        for (field, text) in [
            ("issuer", &self.issuer),
            ("audience", &self.audience),
            ("tenant_claim", &self.tenant_claim),
            ("roles_claim", &self.roles_claim),
        ] {
            problems.require(!text.is_empty(), field, "must not be empty");
        }
        problems.require(self.leeway_s <= 300, "leeway_s", "at most 300");
        problems.require((10..=86_400).contains(&self.refresh_s), "refresh_s", "10 to 86400");
        if let Err(why) = self.source() {
            problems.add("jwks", why);
        }
    }
}

impl Validate for Limits {
    fn validate(&self, problems: &mut Problems) {
        problems.require((1..=100_000).contains(&self.max_connections), "max_connections", "1 to 100000");
        problems.require(self.max_streams > 0, "max_streams", "must not be 0");
        problems.require(self.idle_s > 0, "idle_s", "must not be 0");
        problems.require((1..=30_000).contains(&self.deadline_ms), "deadline_ms", "1 to 30000");
        problems.require(
            self.bodies_bytes >= self.rest_body_bytes.max(self.grpc_body_bytes).max(self.archive_body_bytes),
            "bodies_bytes",
            "smaller than one body may be",
        );
    }
}

/// Where a provider's keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwksSource {
    /// A file, read again when it changes.
    File(PathBuf),
    /// Fetched.
    Url(String),
}

impl JwtSettings {
    /// Reads [`JwtSettings::jwks`].
    pub fn source(&self) -> Result<JwksSource, String> {
        if !self.jwks.contains("://") {
            let file = PathBuf::from(&self.jwks);
            return if file.is_absolute() {
                Ok(JwksSource::File(file))
            } else {
                Err("an absolute path, or a URL".into())
            };
        }
        let uri: http::Uri = self.jwks.parse().map_err(|_| format!("{:?} is not a URL", self.jwks))?;
        let host = uri.host().unwrap_or_default();
        let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        match uri.scheme_str() {
            Some("https") if !host.is_empty() => Ok(JwksSource::Url(self.jwks.clone())),
            Some("http") if loopback && self.allow_loopback_http => Ok(JwksSource::Url(self.jwks.clone())),
            _ => Err("an https URL is needed: whoever can change the answer can make tokens".into()),
        }
    }
}

impl GatewaySettings {
    /// How long known credentials go on while placement is silent.
    pub fn identity_grace(&self) -> Duration {
        Duration::from_secs(self.identity_grace_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"
        cluster = "dev"
        member = "g1"
        listen = "127.0.0.1:8443"
        metrics_listen = "127.0.0.1:9443"
        placement = [{ member = "p1", address = "127.0.0.1:7001" }]
        [client_tls]
        cert = "/c.pem"
        key = "/k.pem"
        [tls]
        cert = "/c.pem"
        key = "/k.pem"
        ca = "/ca.pem"
    "#;

    fn read(more: &str) -> Result<GatewaySettings, toml::de::Error> {
        toml::from_str(&format!("{MINIMAL}\n{more}"))
    }

    fn told(settings: &GatewaySettings) -> String {
        settings
            .problems()
            .iter()
            .map(|p| p.to_string())
            .filter(|p| !p.starts_with("tls."))
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn the_least_that_one_must_say_is_enough() {
        let settings = read("").unwrap();
        assert_eq!(told(&settings), "");
        assert_eq!(settings.identity_grace(), Duration::from_secs(900));
        assert!(settings.operator.is_none() && settings.jwt.is_none());
    }

    #[test]
    fn an_admin_key_alone_is_for_loopback() {
        // Attack 16: authentication weakened beyond loopback must refuse to start, saying why.
        let open = read("[operator]\nlisten = \"0.0.0.0:1\"\nallow_admin_key = true").unwrap();
        assert!(told(&open).contains("operator.allow_admin_key"));
        let mut exposed = read("[operator]\nlisten = \"127.0.0.1:1\"\nallow_admin_key = true").unwrap();
        assert_eq!(told(&exposed), "");
        exposed.listen = "0.0.0.0:8443".parse().unwrap();
        assert!(told(&exposed).contains("operator.allow_admin_key"));
    }

    #[test]
    fn keys_of_tokens_come_from_a_safe_place() {
        // Attack 20: plain http, or a file that depends on where the process was started.
        for (jwks, loopback, safe) in [
            ("https://id.example/keys", false, true),
            ("/etc/keys.json", false, true),
            ("keys.json", false, false),
            ("http://id.example/keys", true, false),
            ("http://127.0.0.1:1/keys", true, true),
            ("http://127.0.0.1:1/keys", false, false),
            ("ftp://id.example/keys", false, false),
            ("https:///keys", false, false),
        ] {
            let text =
                format!("[jwt]\nissuer = \"i\"\naudience = \"a\"\njwks = \"{jwks}\"\nallow_loopback_http = {loopback}");
            assert_eq!(told(&read(&text).unwrap()).is_empty(), safe, "{jwks}");
        }
    }

    #[test]
    fn wrong_settings_are_named() {
        assert!(read("[limits]\nmax_conections = 1").unwrap_err().to_string().contains("max_conections"));
        let edge = "[edge]\nbytes = 4096\nmax_age_ms = 10\ntenants = 0";
        let mut settings = read(&format!("[limits]\nmax_streams = 0\ndeadline_ms = 60000\n{edge}")).unwrap();
        settings.placement[0].address = "nowhere".into();
        let told = told(&settings);
        for field in [
            "limits.max_streams",
            "limits.deadline_ms",
            "placement.0.address",
            "edge.bytes",
            "edge.max_age_ms",
            "edge.tenants",
        ] {
            assert!(told.contains(field), "{told}");
        }
    }
}

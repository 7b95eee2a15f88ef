//! Handshakes over real sockets: who enters, who does not, and what happens when the files change.

use std::{convert::Infallible, net::SocketAddr, path::Path, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{net::TcpListener, sync::oneshot, time::timeout};

use super::*;
use crate::{
    dial::{MtlsConnector, MtlsStream},
    ids::{ClusterName, GroupName, MemberName},
    serve::{ServeLimits, serve},
    settings::TlsFiles,
    testing::{Draft, TestCa},
};

const SHARD: &str = "conflux://test/shard/s1/s1-a";
const OTHER: &str = "conflux://test/shard/s1/s1-b";
const GATEWAY: &str = "conflux://test/gateway/g1";

fn admission(allowed: &[Peers]) -> Admission {
    Admission { cluster: ClusterName::new("test").unwrap(), allowed: allowed.to_vec() }
}

/// As a Raft port does: members of shard s1 only.
fn same_group() -> Admission {
    admission(&[Peers::Group(Role::Shard, GroupName::new("s1").unwrap())])
}

/// A port that answers with the caller's identity.
struct Server {
    address: SocketAddr,
    tls: TlsContext,
    _stop: oneshot::Sender<()>,
}

async fn server(tls: TlsContext, admission: Admission) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let service = tower::service_fn(|request: Request<Incoming>| async move {
        let peer = request.extensions().get::<PeerId>().unwrap().to_string();
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(peer))))
    });
    let shutdown = async move { drop(stopped.await) };
    tokio::spawn(serve(listener, tls.clone(), admission, ServeLimits::default(), service, shutdown));
    Server { address, tls, _stop: stop }
}

type Http = Client<MtlsConnector, Empty<Bytes>>;

fn client(tls: &TlsContext, expected: Admission) -> Http {
    let connector = MtlsConnector { tls: tls.clone(), expected };
    // No retry: a refused handshake must show.
    Client::builder(TokioExecutor::new()).retry_canceled_requests(false).http2_only(true).build(connector)
}

async fn ask(client: &Http, address: SocketAddr) -> Result<String, String> {
    let uri = format!("http://{address}/").parse().unwrap();
    let answer = timeout(Duration::from_secs(10), client.get(uri)).await.expect("an answer or an error");
    let answer = answer.map_err(|error| format!("{error:?}"))?;
    assert_eq!(answer.status(), StatusCode::OK);
    let body = answer.into_body().collect().await.map_err(|error| error.to_string())?;
    Ok(String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

/// What one who shows these files gets from a port that admits members of s1.
async fn enter(ca: &TestCa, files: TlsFiles) -> Result<String, String> {
    let server = server(ca.context(SHARD), same_group()).await;
    let tls = TlsContext::load(files).expect("the files are usable by themselves");
    ask(&client(&tls, same_group()), server.address).await
}

/// What one who expects members of s1 gets from a port that shows these files.
async fn visit(ca: &TestCa, files: TlsFiles) -> Result<String, String> {
    let server = server(TlsContext::load(files).expect("the files are usable by themselves"), same_group()).await;
    ask(&client(&ca.context(SHARD), same_group()), server.address).await
}

fn test_ca() -> (tempfile::TempDir, TestCa) {
    let dir = tempfile::tempdir().unwrap();
    let ca = TestCa::new(dir.path());
    (dir, ca)
}

/// A member of the group enters, and each request says who sent it.
#[tokio::test]
async fn a_member_enters_under_its_name() {
    let (_dir, ca) = test_ca();
    assert_eq!(enter(&ca, ca.issue(OTHER)).await.unwrap(), OTHER);
    assert_eq!(visit(&ca, ca.issue(OTHER)).await.unwrap(), SHARD);
}

/// Every way to be somebody else, or nobody, is refused at both ends.
#[tokio::test]
async fn strangers_are_refused_by_both_ends() {
    let (_dir, ca) = test_ca();
    let with_usage = |server_auth, client_auth| Draft { server_auth, client_auth, ..Draft::of(OTHER) };
    for uri in [
        GATEWAY,
        "conflux://test/operator/s1-b",
        "conflux://test/placement/s1/s1-b",
        "conflux://test/shard/s2/s1-b",
        "conflux://other/shard/s1/s1-b",
    ] {
        assert!(enter(&ca, ca.issue(uri)).await.is_err(), "{uri} entered");
        let error = visit(&ca, ca.issue(uri)).await.expect_err(uri);
        assert!(error.contains(&format!("{uri} is not admitted; expected conflux://test/{{shard/s1/*}}")), "{error}");
    }
    assert!(enter(&ca, ca.issue_expired(OTHER)).await.is_err());
    assert!(visit(&ca, ca.issue_expired(OTHER)).await.unwrap_err().contains("expired"));
    assert!(enter(&ca, ca.issue_draft(&with_usage(true, false))).await.is_err(), "no client usage");
    assert!(visit(&ca, ca.issue_draft(&with_usage(false, true))).await.is_err(), "no server usage");
    let unnamed = Draft { dns: vec!["s1-b.example".into()], ..Draft::of(OTHER) };
    assert!(visit(&ca, ca.issue_draft(&unnamed)).await.unwrap_err().contains(SERVER_NAME));
}

/// Certificates of another CA are refused at both ends, though the stranger trusts ours.
#[tokio::test]
async fn another_ca_is_refused_by_both_ends() {
    let (dir, ours) = test_ca();
    let theirs = TestCa::new(&dir.path().join("theirs"));
    let mut files = theirs.issue(OTHER);
    files.ca = dir.path().join("both.pem");
    files.crl = None;
    let both = [ours.ca_file(), theirs.ca_file()].map(|path| std::fs::read_to_string(path).unwrap()).concat();
    std::fs::write(&files.ca, both).unwrap();
    assert!(enter(&ours, files.clone()).await.is_err());
    let error = visit(&ours, files).await.unwrap_err();
    assert!(error.contains("UnknownIssuer") || error.contains("unknown issuer"), "{error}");
}

/// Without a certificate nobody gets as far as HTTP, and the server says why.
#[tokio::test]
async fn no_certificate_is_refused() {
    let (_dir, ca) = test_ca();
    let server = server(ca.context(SHARD), same_group()).await;
    let mut config = (*ca.context(OTHER).client_config(&same_group())).clone();
    config.client_auth_cert_resolver = std::sync::Arc::new(Nothing);
    let tcp = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let mut stream = connector.connect(SERVER_NAME.try_into().unwrap(), tcp).await.unwrap();
    let mut byte = [0];
    let error = tokio::io::AsyncReadExt::read(&mut stream, &mut byte).await.unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
}

/// A port with a second credential lets one without a certificate shake hands, but still nobody with a wrong one.
#[tokio::test]
async fn an_optional_certificate_is_still_checked() {
    let (_dir, ca) = test_ca();
    let config = ca.context(SHARD).server_config_optional(&same_group());
    let none = std::sync::Arc::new(Nothing);
    assert!(!shake(&config, &ca.context(OTHER), Some(none)).await.unwrap(), "nobody");
    assert!(shake(&config, &ca.context(OTHER), None).await.unwrap(), "a member");
    assert!(shake(&config, &ca.context(GATEWAY), None).await.is_err(), "a stranger");
}

/// The server's view of one handshake: whether the client showed a certificate.
async fn shake(
    config: &std::sync::Arc<rustls::ServerConfig>,
    client: &TlsContext,
    resolver: Option<std::sync::Arc<Nothing>>,
) -> std::io::Result<bool> {
    let (near, far) = tokio::io::duplex(64 << 10);
    let mut theirs = (*client.client_config(&same_group())).clone();
    if let Some(resolver) = resolver {
        theirs.client_auth_cert_resolver = resolver;
    }
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(theirs));
    let acceptor = tokio_rustls::TlsAcceptor::from(config.clone());
    let (accepted, _) = tokio::join!(acceptor.accept(near), connector.connect(SERVER_NAME.try_into().unwrap(), far));
    Ok(accepted?.get_ref().1.peer_certificates().is_some())
}

#[derive(Debug)]
struct Nothing;

impl rustls::client::ResolvesClientCert for Nothing {
    fn resolve(
        &self,
        _: &[&[u8]],
        _: &[rustls::SignatureScheme],
    ) -> Option<std::sync::Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// A certificate with no URI of ours, with two, or with a strange one names nobody: it cannot even be loaded, and a peer
/// that shows it is refused.
#[test]
fn a_certificate_names_exactly_one_holder() {
    let (_dir, ca) = test_ca();
    let cases: [(&[&str], &str); 6] = [
        (&[], "has no SAN URI"),
        (&["https://test/shard/s1/s1-b"], "has no SAN URI"),
        (&[OTHER, SHARD], "2 conflux URIs"),
        (&[OTHER, "CONFLUX://test/gateway/g1"], "2 conflux URIs"),
        (&["conflux://test/shard/s1-b"], "needs a group"),
        (&["conflux://test/shard/s1/s1-b/"], "needs a group and a member"),
    ];
    let judge = ca.context(SHARD);
    for (uris, why) in cases {
        let draft = Draft { uris: uris.iter().map(ToString::to_string).collect(), ..Draft::of(OTHER) };
        let files = ca.issue_draft(&draft);
        let seen = judge.check_peer(&chain(&files), PeerSide::Client, &same_group()).unwrap_err();
        assert!(seen.contains(why), "{uris:?}: {seen}");
        let error = TlsContext::load(files).unwrap_err().to_string();
        assert!(error.contains(why), "{uris:?}: {error}");
    }
    let files = ca.issue_draft(&Draft { uris: vec!["spiffe://x/y".into(), OTHER.into()], ..Draft::of(OTHER) });
    assert!(judge.check_peer(&chain(&files), PeerSide::Client, &same_group()).is_ok(), "other schemes are not ours");
}

fn chain(files: &TlsFiles) -> Vec<rustls::pki_types::CertificateDer<'static>> {
    use rustls::pki_types::pem::PemObject;
    vec![rustls::pki_types::CertificateDer::from_pem_file(&files.cert).unwrap()]
}

/// One text for each holder: nothing that a second reading could take for another name.
#[test]
fn uris_are_parsed_strictly() {
    for good in [SHARD, GATEWAY, "conflux://test/placement/placement/p-1", "conflux://test/operator/jane"] {
        assert_eq!(good.parse::<PeerId>().unwrap().to_string(), good);
    }
    for bad in [
        "",
        "conflux:/test/gateway/g1",
        "Conflux://test/gateway/g1",
        "conflux://test/gateway",
        "conflux://test/gateway/",
        "conflux://test/gateway/g1/",
        "conflux://test/gateway/a/g1",
        "conflux://test/Gateway/g1",
        "conflux://test:1/gateway/g1",
        "conflux://u@test/gateway/g1",
        "conflux://test/gateway/g1?x",
        "conflux://test/gateway/g%31",
        "conflux://test/gateway/..",
        "conflux://test/root/g1",
        "conflux:///gateway/g1",
        " conflux://test/gateway/g1",
    ] {
        assert!(bad.parse::<PeerId>().is_err(), "{bad:?}");
    }
}

/// Each kind of admission lets in what it says and nothing else.
#[test]
fn admissions_are_exact() {
    let peer: PeerId = SHARD.parse().unwrap();
    let group = |name| Some(GroupName::new(name).unwrap());
    let member = |name| MemberName::new(name).unwrap();
    assert!(admission(&[Peers::Role(Role::Gateway), Peers::Role(Role::Shard)]).admits(&peer));
    assert!(admission(&[Peers::Member(Role::Shard, group("s1"), member("s1-a"))]).admits(&peer));
    for other in [
        Peers::Role(Role::Operator),
        Peers::Group(Role::Shard, group("s2").unwrap()),
        Peers::Group(Role::Placement, group("s1").unwrap()),
        Peers::Member(Role::Shard, group("s1"), member("s1-b")),
        Peers::Member(Role::Shard, None, member("s1-a")),
    ] {
        assert!(!admission(std::slice::from_ref(&other)).admits(&peer), "{other}");
    }
    assert!(!admission(&[]).admits(&peer));
}

/// A revoked certificate is refused at both ends from the first connection on.
#[tokio::test]
async fn revoked_ones_are_refused_by_both_ends() {
    let (_dir, ca) = test_ca();
    let files = ca.issue(OTHER);
    ca.revoke(&files);
    assert!(enter(&ca, files.clone()).await.is_err());
    let error = visit(&ca, files).await.unwrap_err();
    assert!(error.contains("evoked"), "{error}");
    assert!(enter(&ca, ca.issue(OTHER)).await.is_ok(), "others are not concerned");
}

/// Revoking the client closes its live connection, at the server's end.
#[tokio::test]
async fn revoking_a_client_closes_its_connection() {
    let (_dir, ca) = test_ca();
    let server = server(ca.context(SHARD), same_group()).await;
    let files = ca.issue(OTHER);
    let connector = MtlsConnector { tls: TlsContext::load(files.clone()).unwrap(), expected: same_group() };
    let (mut sender, connection) = h2(&connector, server.address).await;
    let request = || Request::get("http://x/").body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(sender.send_request(request()).await.unwrap().status(), StatusCode::OK);
    ca.revoke(&files);
    server.tls.reload().unwrap();
    // Only the server has looked at its files: the end comes from there.
    let ended = timeout(Duration::from_secs(10), connection).await.expect("the connection ends");
    drop(ended);
    assert!(sender.send_request(request()).await.is_err());
}

/// Revoking the server closes live connections to it, at the client's end, even when nothing is being asked.
#[tokio::test]
async fn revoking_a_server_closes_connections_to_it() {
    let (_dir, ca) = test_ca();
    let files = ca.issue(SHARD);
    let server = server(TlsContext::load(files.clone()).unwrap(), same_group()).await;
    let connector = MtlsConnector { tls: ca.context(OTHER), expected: same_group() };
    let (mut sender, connection) = h2(&connector, server.address).await;
    let request = || Request::get("http://x/").body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(sender.send_request(request()).await.unwrap().status(), StatusCode::OK);
    ca.revoke(&files);
    connector.tls.reload().unwrap();
    let error = timeout(Duration::from_secs(10), connection).await.expect("the connection ends").unwrap().unwrap_err();
    assert!(format!("{error:?}").contains("evoked"), "{error:?}");
}

type Sender = hyper::client::conn::http2::SendRequest<Empty<Bytes>>;

async fn h2(
    connector: &MtlsConnector,
    address: SocketAddr,
) -> (Sender, tokio::task::JoinHandle<Result<(), hyper::Error>>) {
    let stream: MtlsStream = connector.connect(&address.to_string()).await.unwrap();
    assert!(stream.is_h2());
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    (sender, tokio::spawn(connection))
}

/// A CA that leaves the trust takes its live connections with it.
#[tokio::test]
async fn a_ca_that_leaves_closes_connections() {
    let (dir, ours) = test_ca();
    let old = TestCa::new(&dir.path().join("old"));
    let trust = dir.path().join("trust.pem");
    let both = [ours.ca_file(), old.ca_file()].map(|path| std::fs::read_to_string(path).unwrap()).concat();
    std::fs::write(&trust, both).unwrap();
    let with_trust = |files: TlsFiles| TlsFiles { ca: trust.clone(), crl: None, ..files };
    let server = server(TlsContext::load(with_trust(ours.issue(SHARD))).unwrap(), same_group()).await;
    let client_tls = TlsContext::load(with_trust(old.issue(OTHER))).unwrap();
    let (_sender, connection) = h2(&MtlsConnector { tls: client_tls, expected: same_group() }, server.address).await;
    std::fs::copy(ours.ca_file(), &trust).unwrap();
    server.tls.reload().unwrap();
    drop(timeout(Duration::from_secs(10), connection).await.expect("the connection ends"));
}

/// A renewed certificate is shown to the next peer, without a restart and without anyone asking.
#[tokio::test]
async fn a_renewed_certificate_is_picked_up() {
    let (_dir, ca) = test_ca();
    let files = ca.issue_expired(SHARD);
    let server = server(TlsContext::load(files.clone()).unwrap(), same_group()).await;
    let tls = ca.context(OTHER);
    assert!(ask(&client(&tls, same_group()), server.address).await.unwrap_err().contains("xpired"));
    let mut changes = server.tls.changes();
    ca.renew(&files, &Draft::of(SHARD));
    // Two files changed, and the watcher may have seen the first alone, which it must not have taken.
    timeout(Duration::from_secs(30), changes.changed()).await.expect("the watcher sees it").unwrap();
    assert_eq!(ask(&client(&tls, same_group()), server.address).await.unwrap(), OTHER);
}

/// What cannot be used is not taken over, and the old stays in use.
#[tokio::test]
async fn a_bad_change_is_not_taken_over() {
    let (dir, ca) = test_ca();
    let files = ca.issue(SHARD);
    let other = ca.issue(OTHER);
    let tls = TlsContext::load(files.clone()).unwrap();
    let theirs = TestCa::new(&dir.path().join("theirs"));
    let refused = |path: &Path, bytes: Vec<u8>, why: &str| {
        let before = std::fs::read(path).unwrap();
        std::fs::write(path, bytes).unwrap();
        let error = tls.reload().unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        std::fs::write(path, before).unwrap();
        tls.reload().unwrap();
    };
    refused(&files.key, std::fs::read(&other.key).unwrap(), "does not belong to the certificate");
    refused(&files.cert, b"nothing".to_vec(), "there is no certificate in");
    refused(&files.ca, std::fs::read(theirs.ca_file()).unwrap(), "is not issued by a CA in");
    refused(&ca.crl_file(), b"-----BEGIN X509".to_vec(), "is not PEM");
    std::fs::rename(ca.crl_file(), dir.path().join("away")).unwrap();
    assert!(tls.reload().unwrap_err().to_string().contains("cannot read the revocation lists"));
    assert_eq!(tls.own_id().to_string(), SHARD);
    let server = server(tls.clone(), same_group()).await;
    assert!(ask(&client(&TlsContext::load(other).unwrap(), same_group()), server.address).await.is_ok());
}

/// A list made by somebody else revokes nobody and is said to be wrong.
#[test]
fn a_forged_revocation_list_is_refused() {
    let (dir, ca) = test_ca();
    let files = ca.issue(SHARD);
    let list = std::fs::read_to_string(ca.crl_file()).unwrap();
    // The last byte of the signature, changed.
    let mut der: Vec<u8> = {
        use rustls::pki_types::pem::PemObject;
        rustls::pki_types::CertificateRevocationListDer::from_pem_slice(list.as_bytes()).unwrap().as_ref().to_vec()
    };
    *der.last_mut().unwrap() ^= 1;
    let forged = dir.path().join("forged.pem");
    let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    std::fs::write(&forged, format!("-----BEGIN X509 CRL-----\n{body}\n-----END X509 CRL-----\n")).unwrap();
    let error = TlsContext::load(TlsFiles { crl: Some(forged), ..files }).unwrap_err().to_string();
    assert!(error.contains("cannot be used: BadSignature"), "{error}");
}

/// A missing list is an empty one; a missing certificate is an error that names the file.
#[test]
fn missing_files_are_named() {
    let (dir, ca) = test_ca();
    let files = ca.issue(SHARD);
    let missing = dir.path().join("missing.pem");
    assert!(TlsContext::load(TlsFiles { crl: Some(missing.clone()), ..files.clone() }).is_ok());
    let error = TlsContext::load(TlsFiles { cert: missing, ..files }).unwrap_err().to_string();
    assert!(error.contains("missing.pem"), "{error}");
}

//! Handshakes that must be refused on the ports between processes, and one on each that is taken.

use std::{path::Path, process::Stdio, time::Duration};

use conflux_common::settings::TlsFiles;
use conflux_tests::{
    Federation, Shape,
    federation::binary,
    replica::{issue, pki_dir},
    until,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::{io::AsyncReadExt, net::TcpStream};

/// Shows this certificate (or none) to a port. `Ok` when the server goes on to speak h2, which begins with its
/// SETTINGS; in TLS 1.3 a refused client certificate shows itself only then.
async fn shake(address: &str, ca: &Path, shown: Option<&TlsFiles>) -> Result<(), String> {
    let mut roots = rustls::RootCertStore::empty();
    for cert in CertificateDer::pem_file_iter(ca).unwrap() {
        roots.add(cert.unwrap()).unwrap();
    }
    let builder = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match shown {
        Some(files) => builder
            .with_client_auth_cert(
                CertificateDer::pem_file_iter(&files.cert).unwrap().map(Result::unwrap).collect(),
                PrivateKeyDer::from_pem_file(&files.key).unwrap(),
            )
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let name = ServerName::try_from("conflux.internal").unwrap();
    let mut tls = connector.connect(name, tcp).await.map_err(|e| e.to_string())?;
    let mut first = [0; 9];
    match tokio::time::timeout(Duration::from_secs(10), tls.read_exact(&mut first)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err("nothing in 10 s".into()),
    }
}

async fn conflux(args: &[&str], dirs: &[(&str, &Path)]) {
    let mut command = tokio::process::Command::new(binary());
    command.arg("pki").args(args);
    for (flag, dir) in dirs {
        command.arg(flag).arg(dir);
    }
    let done = command.stdin(Stdio::null()).output().await.unwrap();
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A certificate of the federation's own CA that ended years ago.
fn expired(federation: &Federation, uri: &str) -> TlsFiles {
    let pki = pki_dir(federation);
    let key = rcgen::KeyPair::from_pem(&std::fs::read_to_string(pki.join("ca.key")).unwrap()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&std::fs::read_to_string(pki.join("ca.pem")).unwrap(), key).unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["conflux.internal".into()]).unwrap();
    params.subject_alt_names.push(rcgen::SanType::URI(uri.try_into().unwrap()));
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let own = rcgen::KeyPair::generate().unwrap();
    let cert = params.signed_by(&own, &issuer).unwrap();
    let dir = federation.directory().join("issued").join("expired");
    std::fs::create_dir_all(&dir).unwrap();
    let files = conflux_tests::replica::files(&dir, &pki);
    std::fs::write(&files.cert, cert.pem()).unwrap();
    std::fs::write(&files.key, own.serialize_pem()).unwrap();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_right_certificates_pass_a_handshake() {
    let federation = Federation::start(Shape { replicas: 1, placement: 1, ..Shape::FULL }).await.unwrap();
    let ca = pki_dir(&federation).join("ca.pem");
    let cluster = federation.description.cluster_id.clone();
    let member = federation.members("shard-a").remove(0);
    let status = federation.status("shard-a").await.unwrap();
    let raft = status["members"][0]["status"]["members"][0]["raft_address"].as_str().unwrap().to_owned();
    let service = member.address.clone();

    let gateway = issue(&federation, "gateway", None, "g-test").await.unwrap();
    let operator = issue(&federation, "operator", None, "alice").await.unwrap();
    let own_group = issue(&federation, "shard", Some("shard-a"), "shard-a-9").await.unwrap();
    let other_group = issue(&federation, "shard", Some("shard-b"), "shard-b-1").await.unwrap();
    let ended = expired(&federation, &format!("conflux://{cluster}/shard/shard-a/shard-a-1"));
    let strange = federation.directory().join("strange");
    conflux(&["init", "--cluster", &cluster], &[("--dir", &strange)]).await;
    let out = strange.join("leaf");
    let as_member = ["issue", "--role", "shard", "--group", "shard-a", "--member", "shard-a-1"];
    conflux(&as_member, &[("--dir", &strange), ("--out", &out)]).await;
    let another_ca = conflux_tests::replica::files(&out, &strange);

    // The harness can tell a taken handshake from a refused one.
    shake(&raft, &ca, Some(&own_group)).await.expect("a member of the group on its Raft port");
    shake(&service, &ca, Some(&gateway)).await.expect("a gateway on the service port");

    let refused = [
        ("no certificate", None),
        ("another CA", Some(&another_ca)),
        ("expired", Some(&ended)),
        ("a gateway's", Some(&gateway)),
        ("an operator's, as clients have", Some(&operator)),
        ("another group's", Some(&other_group)),
    ];
    for (what, shown) in refused {
        let taken = shake(&raft, &ca, shown).await;
        println!("Raft port, {what}: {}", taken.clone().unwrap_err());
        assert!(taken.is_err(), "the Raft port took {what}");
    }
    for (what, shown) in [("no certificate", None), ("another CA", Some(&another_ca)), ("expired", Some(&ended))] {
        let taken = shake(&service, &ca, shown).await;
        println!("service port, {what}: {}", taken.clone().unwrap_err());
        assert!(taken.is_err(), "the service port took {what}");
    }

    // Revoked while it was in use: refused from then on, as a client of the port ...
    conflux(&["revoke"], &[("--dir", &pki_dir(&federation)), ("--cert", &gateway.cert)]).await;
    until("the revoked certificate is refused", Duration::from_secs(20), || async {
        shake(&service, &ca, Some(&gateway)).await.is_err().then_some(())
    })
    .await;
    shake(&service, &ca, Some(&issue(&federation, "gateway", None, "g-two").await.unwrap()))
        .await
        .expect("the others go on");

    // ... and as a server: the gateway stops speaking to a member whose certificate is revoked.
    let demo = federation.demo();
    let answer = demo.get("/api/v1/mgt/demo/configs").await.unwrap();
    assert_eq!(answer.status, 200);
    let home = federation.operator().get("/api/v1/admin/tenants/demo").await.unwrap().json();
    let home = federation.members(home["shard"].as_str().unwrap()).remove(0);
    conflux(&["revoke"], &[("--dir", &pki_dir(&federation)), ("--cert", &home.cert_dir.join("cert.pem"))]).await;
    until("the revoked member is no longer spoken to", Duration::from_secs(30), || async {
        let answer = demo.get("/api/v1/mgt/demo/configs").await.ok()?;
        matches!(answer.status, 503 | 504).then_some(())
    })
    .await;
}

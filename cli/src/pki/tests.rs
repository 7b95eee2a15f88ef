//! What `conflux pki` writes is what the processes will trust.

use super::*;

fn request(holder: Holder) -> LeafRequest {
    LeafRequest { holder, dns: Vec::new(), ip: Vec::new(), days: 90 }
}

fn shard() -> Holder {
    Holder::new(RoleName::Shard, Some("shard-a".parse().unwrap()), "shard-a-1".parse().unwrap()).unwrap()
}

fn parsed(path: &std::path::Path) -> x509_parser::pem::Pem {
    x509_parser::pem::parse_x509_pem(&std::fs::read(path).unwrap()).unwrap().1
}

/// A second `init` would void every certificate of a running federation.
#[test]
fn an_authority_is_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    Authority::create(folder.path(), &"prod".parse().unwrap()).unwrap();
    let before = std::fs::read(folder.path().join("ca.key")).unwrap();
    assert!(Authority::create(folder.path(), &"prod".parse().unwrap()).is_err());
    assert_eq!(std::fs::read(folder.path().join("ca.key")).unwrap(), before);
}

/// The URI is what every port checks; the authority's signature is why it may be believed.
#[test]
fn a_leaf_names_its_holder_and_is_signed_by_the_authority() {
    let folder = tempfile::tempdir().unwrap();
    drop(Authority::create(folder.path(), &"prod".parse().unwrap()).unwrap());
    let mut authority = Authority::open(folder.path()).unwrap();
    let issued = authority.issue(&request(shard()), &folder.path().join("leaf"), false).unwrap();
    let (pem, ca) = (parsed(&issued.cert), parsed(&issued.ca));
    let (leaf, ca) = (pem.parse_x509().unwrap(), ca.parse_x509().unwrap());
    leaf.verify_signature(Some(ca.public_key())).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap().value.general_names.clone();
    assert!(names.contains(&x509_parser::extensions::GeneralName::URI("conflux://prod/shard/shard-a/shard-a-1")));
    assert!(names.contains(&x509_parser::extensions::GeneralName::DNSName("conflux.internal")));
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && usage.server_auth);
    assert!(!leaf.is_ca());
    assert!(leaf.validity().is_valid());
    assert_eq!(leaf.validity().not_after.timestamp() / 60, issued.entry.not_after.unix_timestamp() / 60);
    let again = authority.issue(&request(shard()), &folder.path().join("leaf"), false);
    assert!(again.is_err(), "a key is not written over without being asked");
}

/// What clients see has no URI: else a stolen one would open the ports between processes.
#[test]
fn a_client_facing_certificate_has_no_role() {
    let folder = tempfile::tempdir().unwrap();
    let mut authority = Authority::create(folder.path(), &"prod".parse().unwrap()).unwrap();
    let mut server = request(Holder::Server);
    assert!(authority.issue(&server, &folder.path().join("none"), false).is_err(), "a name is needed");
    server.dns = vec!["localhost".into()];
    let issued = authority.issue(&server, &folder.path().join("server"), false).unwrap();
    let pem = parsed(&issued.cert);
    let leaf = pem.parse_x509().unwrap();
    let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(names, &vec![x509_parser::extensions::GeneralName::DNSName("localhost")]);
    assert!(!leaf.extended_key_usage().unwrap().unwrap().value.client_auth);
}

/// A revoked certificate must be in the next list, and lists must be told apart by age.
#[test]
fn revoking_puts_the_serial_into_a_newer_list() {
    let folder = tempfile::tempdir().unwrap();
    let mut authority = Authority::create(folder.path(), &"prod".parse().unwrap()).unwrap();
    let issued = authority.issue(&request(shard()), &folder.path().join("leaf"), false).unwrap();
    let list = || x509_parser::pem::parse_x509_pem(&std::fs::read(folder.path().join("crl.pem")).unwrap()).unwrap().1;
    let number = |pem: &x509_parser::pem::Pem| {
        let crl = x509_parser::parse_x509_crl(&pem.contents).unwrap().1;
        (crl.crl_number().unwrap().clone(), crl.iter_revoked_certificates().count())
    };
    let (first, revoked) = number(&list());
    assert_eq!(revoked, 0);
    drop(authority);
    let which = Which { cert: Some(issued.cert), serial: None, uri: None };
    revoke(&Dir { dir: folder.path().into() }, which, Output::Json).unwrap();
    let (second, revoked) = number(&list());
    assert_eq!(revoked, 1);
    assert!(second > first);
    let authority = Authority::open(folder.path()).unwrap();
    assert_eq!(authority.certificates()[0].state(OffsetDateTime::now_utc()), "revoked");
}

/// A certificate in the wrong group or without one would be refused much later, by a port that says little.
#[test]
fn roles_and_groups_must_fit() {
    let name = || "x".parse::<MemberName>().unwrap();
    assert!(Holder::new(RoleName::Shard, None, name()).is_err());
    assert!(Holder::new(RoleName::Gateway, Some("a".parse().unwrap()), name()).is_err());
    let placement = Holder::new(RoleName::Placement, None, name()).unwrap();
    assert_eq!(placement.uri(&"c".parse().unwrap()).unwrap(), "conflux://c/placement/placement/x");
}

/// The processes read these files: what one writes the other must take.
#[test]
fn processes_accept_what_is_issued() {
    let folder = tempfile::tempdir().unwrap();
    let mut authority = Authority::create(folder.path(), &"prod".parse().unwrap()).unwrap();
    let issued = authority.issue(&request(shard()), &folder.path().join("leaf"), false).unwrap();
    let files = conflux_common::settings::TlsFiles {
        cert: issued.cert,
        key: issued.key,
        ca: issued.ca,
        crl: Some(folder.path().join("crl.pem")),
    };
    let tls = conflux_common::tls::TlsContext::load(files).unwrap();
    assert_eq!(tls.own_id().to_string(), "conflux://prod/shard/shard-a/shard-a-1");
}

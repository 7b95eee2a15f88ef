//! The certificates of a development federation: made at the first start, renewed before they expire.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use anyhow::Context;
use conflux_common::ids::{GroupName, MemberName};
use time::{Duration, OffsetDateTime};

use super::{
    layout::Layout,
    plan::{Member, Plan, Role},
};
use crate::pki::{Authority, Holder, LeafRequest};

const DAYS: u32 = 90;
/// A start with less than this left renews: a federation is rarely left running for longer.
const RENEW_BELOW: Duration = Duration::days(30);
const OPERATOR: &str = "dev";

/// Makes what is missing or about to expire.
pub fn ensure(layout: &Layout, plan: &Plan) -> anyhow::Result<()> {
    let mut authority = match layout.ca().exists() {
        true => Authority::open(&layout.pki())?,
        false => Authority::create(&layout.pki(), &plan.cluster)?,
    };
    for member in plan.members() {
        leaf(&mut authority, request(holder(&member)?), &layout.certs(&member))?;
        if member.role == Role::Gateway {
            let mut server = request(Holder::Server);
            server.dns = vec!["localhost".into()];
            server.ip = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            leaf(&mut authority, server, &layout.client_certs(&member))?;
        }
    }
    let operator = Holder::Operator { name: MemberName::new(OPERATOR)? };
    leaf(&mut authority, request(operator), &layout.operator())
}

fn holder(member: &Member) -> anyhow::Result<Holder> {
    let name = MemberName::new(member.name.clone())?;
    let group = || GroupName::new(member.group.clone().unwrap_or_default());
    Ok(match member.role {
        Role::Gateway => Holder::Gateway { member: name },
        Role::Shard => Holder::Shard { group: group()?, member: name },
        Role::Placement => Holder::Placement { group: group()?, member: name },
    })
}

fn request(holder: Holder) -> LeafRequest {
    LeafRequest { holder, dns: vec!["localhost".into()], ip: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)], days: DAYS }
}

fn leaf(authority: &mut Authority, request: LeafRequest, out: &Path) -> anyhow::Result<()> {
    let title = request.title(authority.cluster());
    if out.join("cert.pem").exists() && out.join("key.pem").exists() && !expires_soon(out)? {
        return Ok(());
    }
    authority.issue(&request, out, true).map(drop).with_context(|| format!("cannot make the certificate of {title}"))
}

/// Read from the file itself: somebody may have put another one there, to try what happens.
fn expires_soon(out: &Path) -> anyhow::Result<bool> {
    let text = crate::files::read(&out.join("cert.pem"))?;
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(text.as_bytes()) else { return Ok(true) };
    let Ok(certificate) = pem.parse_x509() else { return Ok(true) };
    let left = certificate.validity().not_after.timestamp() - OffsetDateTime::now_utc().unix_timestamp();
    Ok(left < RENEW_BELOW.whole_seconds())
}

//! Certificates are renewed and revoked while they are in use.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use conflux_tests::{
    federation::{Member, binary},
    replica,
};

use super::Nemesis;

/// Settings files name new certificates and lists as before; processes look for them every two seconds.
const READ_WITHIN: Duration = Duration::from_millis(3_500);

impl Nemesis {
    /// New certificates for all members of a group; the old ones are revoked once nobody needs them.
    pub(super) async fn rotate(&mut self, group: usize) -> Result<String> {
        let group = self.groups[group].clone();
        let federation = self.owned()?;
        let (members, pki) = (federation.members(&group), replica::pki_dir(federation));
        let old = federation.directory().join("old-certificates");
        std::fs::create_dir_all(&old)?;
        for member in &members {
            std::fs::copy(member.cert_dir.join("cert.pem"), old.join(format!("{}.pem", member.member)))?;
            issue_anew(&pki, member).await?;
        }
        tokio::time::sleep(READ_WITHIN).await;
        for member in &members {
            revoke(&pki, &old.join(format!("{}.pem", member.member))).await?;
        }
        tokio::time::sleep(READ_WITHIN).await;
        Ok(format!("of {} members of {group}", members.len()))
    }

    /// Revokes two certificates that are in use: one as if a stranger had it, who must not be heard from then on, and a member's.
    /// The member gets a new one, and must come back by itself.
    pub(super) async fn revoke(&mut self, group: usize, member: usize) -> Result<String> {
        let name = self.member(group, member)?;
        self.whole(group).await?;
        self.added += 1;
        let stranger = format!("stranger-{}", self.added);
        let federation = self.owned()?;
        let (victim, pki) = (federation.member(&name), replica::pki_dir(federation));
        let members = federation.members(&victim.group);
        let other = members.into_iter().find(|m| m.member != name).context("one more member")?;
        let files = replica::issue(federation, "gateway", None, &stranger).await?;
        let open = replica::connect(federation, files.clone(), &other).await?;
        ensure!(replica::is_heard(open.clone()).await, "{} does not hear a gateway", other.member);

        revoke(&pki, &files.cert).await?;
        revoke(&pki, &victim.cert_dir.join("cert.pem")).await?;
        tokio::time::sleep(READ_WITHIN).await;
        let mut heard = Vec::new();
        if replica::is_heard(open).await {
            heard.push("on a connection that was open");
        }
        // A handshake is over for the client before the server has looked at its certificate.
        let anew = replica::connect(self.owned()?, files, &other).await;
        if let Ok(anew) = anew
            && replica::is_heard(anew).await
        {
            heard.push("on a new connection");
        }
        for way in heard {
            self.complain(format!("{} heard a gateway whose certificate was revoked, {way}", other.member));
        }
        issue_anew(&pki, &victim).await?;
        self.whole(group).await?;
        Ok(format!("of {name}, and of a gateway that asked {}", other.member))
    }
}

async fn issue_anew(pki: &Path, member: &Member) -> Result<()> {
    let (pki, out) = (pki.display().to_string(), member.cert_dir.display().to_string());
    let name = ["--role", &member.role, "--group", &member.group, "--member", &member.member];
    let place = ["--dir", &pki, "--out", &out, "--replace", "--dns", "localhost", "--ip", "127.0.0.1"];
    command("issue", &[&name[..], &place[..]].concat()).await
}

async fn revoke(pki: &Path, cert: &Path) -> Result<()> {
    command("revoke", &["--dir", &pki.display().to_string(), "--cert", &cert.display().to_string()]).await
}

async fn command(what: &str, arguments: &[&str]) -> Result<()> {
    let mut command = tokio::process::Command::new(binary());
    let done = command.args(["pki", what]).args(arguments).stdin(std::process::Stdio::null()).output().await?;
    ensure!(done.status.success(), "conflux pki {what}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

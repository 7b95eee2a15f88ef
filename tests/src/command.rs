//! Commands that an operator of the federation types.

use std::process::Stdio;

use tokio::process::Command;

use crate::{Federation, federation::binary};

/// What a command said.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs it to its end.
pub async fn conflux(federation: &Federation, arguments: &[&str]) -> Said {
    let output = Command::new(binary())
        .args(arguments)
        .arg("--federation")
        .arg(federation.directory().join("federation.json"))
        .stdin(Stdio::null())
        .output()
        .await
        .expect("running the command");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Said { code: output.status.code().expect("an exit code"), out: text(output.stdout), err: text(output.stderr) }
}

/// Standard output of one that must succeed.
pub async fn done(federation: &Federation, arguments: &[&str]) -> String {
    let said = conflux(federation, arguments).await;
    assert_eq!(said.code, 0, "{arguments:?}: {}{}", said.out, said.err);
    said.out
}

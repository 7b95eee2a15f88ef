//! What `conflux dev` says: first what starts, then commands that work when pasted.

use super::{federation::Federation, layout::Layout, plan::Plan, seed};
use crate::output::line;

pub fn starting(layout: &Layout, plan: &Plan) -> anyhow::Result<()> {
    line(&format!(
        "Federation {}: {} gateway(s), {} shard group(s) of {}, placement of {}; everything is in {}",
        plan.cluster,
        plan.gateways,
        plan.shards,
        plan.replicas,
        plan.placement,
        layout.root().display()
    ))
}

pub fn ready(layout: &Layout, federation: &Federation) -> anyhow::Result<()> {
    let Some(gateway) = federation.gateways.first() else { return Ok(()) };
    let (app, env, name) = seed::SAMPLE;
    let quoted = |path: &std::path::Path| shell_quoted(&path.to_string_lossy());
    let (ca, key) = (quoted(&gateway.ca_file), quoted(&federation.demo_key_file));
    let curl = format!("curl -sS --cacert {ca} -H \"Authorization: Bearer $(cat {key})\"");
    let (url, operator_url) = (&gateway.url, &gateway.operator_url);
    let operator = &federation.operator_cert_dir;
    let (cert, cert_key) = (quoted(&operator.join("cert.pem")), quoted(&operator.join("key.pem")));
    let program = program();
    line(&format!(
        "\nReady: {url}   (tenant demo; federation.json, keys and logs in {root})\n\n\
         Fetch the sample config, with its headers:\n  \
         {curl} -i {url}/api/v1/fetch/config/demo/{app}/{env}/{name}\n\n\
         Put a new version of it:\n  \
         echo 'greeting: hello again' | {curl} -T - {url}/api/v1/tenants/demo/apps/{app}/envs/{env}/configs/{name}\n\n\
         Watch it change (Ctrl-C ends it):\n  \
         {curl} -N '{url}/api/v1/watch/demo?app={app}&env={env}'\n\n\
         List the tenants, as an operator:\n  \
         curl -sS --cacert {ca} --cert {cert} --key {cert_key} {operator_url}/api/v1/admin/tenants\n\n\
         The same with the command line:\n  \
         export CONFLUX_FEDERATION={federation}\n  \
         {program} config get {app}/{env}/{name}\n  \
         {program} status\n\n\
         Ctrl-C stops the federation. Its data stays for the next start.\n",
        root = layout.root().display(),
        federation = quoted(&layout.federation()),
    ))
}

/// This program as a shell finds it: it need not be on the path.
pub fn program() -> String {
    std::env::current_exe().map_or("conflux".into(), |path| shell_quoted(&path.to_string_lossy()))
}

/// As a shell reads it back.
pub fn shell_quoted(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+:@".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) { text.into() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The commands are pasted into shells, whatever the directory is called.
    #[test]
    fn paths_survive_the_shell() {
        assert_eq!(shell_quoted("/tmp/a.b-c"), "/tmp/a.b-c");
        assert_eq!(shell_quoted("/tmp/my dir/it's"), r"'/tmp/my dir/it'\''s'");
    }
}

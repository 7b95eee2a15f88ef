//! `conflux audit`: who changed what, and whether the record of it is whole.

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::{Args, Subcommand};
use conflux_proto::{audit::Chain, store::AuditRecord};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Session, cell, config::TenantArg, instant, items, pages};
use crate::{
    failure::{Failure, exit},
    output::Table,
};

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List accepted changes, newest first
    #[command(after_help = "Examples:\n  conflux audit list --app shop --env prod --limit 20\n  \
        conflux audit list --principal key:kfrg3tkh6wv7eh7g --from 2026-11-01T00:00:00Z -o json\n\n\
        Shown are changes of configs that you may read. Refused attempts are not here: the gateways write them to files.")]
    List(ListArgs),
    /// Check the chain of records: by the server, and again here from the records themselves
    #[command(after_help = "Example:\n  conflux audit verify --tenant acme\n\n\
        Needs `read` on */*/*. Exit code 1: the chain does not hold, and says where.")]
    Verify {
        #[command(flatten)]
        tenant: TenantArg,
    },
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Not before this moment: RFC 3339, or milliseconds since 1970
    #[arg(long)]
    from: Option<String>,
    /// Before this moment
    #[arg(long)]
    to: Option<String>,
    /// By this principal: `key:ID`, `jwt:ISSUER#SUBJECT`
    #[arg(long)]
    principal: Option<String>,
    /// put_config, publish, set_releases, ..
    #[arg(long)]
    operation: Option<String>,
    #[arg(long)]
    app: Option<String>,
    #[arg(long)]
    env: Option<String>,
    #[arg(long)]
    name: Option<String>,
    /// At most so many [default: all]
    #[arg(long)]
    limit: Option<usize>,
    #[command(flatten)]
    tenant: TenantArg,
}

pub async fn run(command: AuditCommand, session: Session) -> anyhow::Result<()> {
    match command {
        AuditCommand::List(args) => list(args, session).await,
        AuditCommand::Verify { tenant } => verify(tenant, session).await,
    }
}

async fn list(args: ListArgs, session: Session) -> anyhow::Result<()> {
    let (client, tenant) = session.user(args.tenant.tenant.as_deref())?;
    let path = ["api", "v1", "mgt", &tenant, "audit"];
    let filter: Vec<(&str, &str)> = [
        ("from", &args.from),
        ("to", &args.to),
        ("principal", &args.principal),
        ("operation", &args.operation),
        ("app", &args.app),
        ("env", &args.env),
        ("name", &args.name),
    ]
    .into_iter()
    .filter_map(|(name, value)| value.as_deref().map(|value| (name, value)))
    .collect();
    let mut records: Vec<Value> = Vec::new();
    let mut cursor = String::new();
    let wanted = args.limit.unwrap_or(usize::MAX);
    while records.len() < wanted {
        let limit = (wanted - records.len()).min(1000).to_string();
        let mut query = filter.clone();
        query.push(("limit", &limit));
        if !cursor.is_empty() {
            query.push(("cursor", &cursor));
        }
        let page = client.json(client.call_with(Method::GET, &path, &query)).await?;
        records.extend_from_slice(items(&page, "records"));
        cursor = cell(&page, "next_cursor");
        if cursor.is_empty() {
            break;
        }
    }
    let mut table = Table::new(&["SEQ", "TIME", "WHO", "OPERATION", "TARGET", "WHAT"]);
    for r in &records {
        let text = |key| cell(r, key);
        table.row([
            text("seq"),
            instant(r, "time_ms"),
            text("principal"),
            text("operation"),
            text("target"),
            text("summary"),
        ]);
    }
    session.output.list(table, json!({"records": records}))
}

/// The server's word first: the records are then read up to what it has looked at, whatever is written meanwhile.
async fn verify(tenant: TenantArg, session: Session) -> anyhow::Result<()> {
    let (client, tenant) = session.user(tenant.tenant.as_deref())?;
    let path = ["api", "v1", "mgt", &tenant, "audit"];
    let said = client.json(client.call(Method::GET, &[&path[..], &["verify"]].concat())).await?;
    let last = said["last"].as_u64().context("the server does not say where its chain ends")?;
    let mut records = pages(&client, &path, &[], "records").await?;
    records.retain(|r| r["seq"].as_u64().is_some_and(|seq| seq <= last));
    records.reverse();
    let own = check(&records, &said);
    let valid = said["valid"] == true && own.is_ok();
    let answer = json!({
        "valid": valid,
        "server": said,
        "own": { "records": records.len(), "valid": own.is_ok(), "why": own.as_ref().err().map(|e| format!("{e:#}")) },
    });
    let text = match (&own, said["valid"] == true) {
        (Ok(()), true) => format!("the chain holds: {} records up to {last}, {}", records.len(), cell(&said, "hash")),
        (Err(e), _) => format!("the chain does not hold: {e:#}"),
        (Ok(()), false) => format!("the server finds that the chain does not hold: {}", cell(&said, "why")),
    };
    session.output.done(&text, answer)?;
    if valid { Ok(()) } else { Err(Failure::Told(exit::FAILED).into()) }
}

/// The records hash by hash, and their ends against what the server says.
fn check(records: &[Value], said: &Value) -> anyhow::Result<()> {
    let mut chain = Chain::default();
    for record in records {
        chain.next(&read(record)?)?;
    }
    let number = |key: &str| said[key].as_u64().unwrap_or(0);
    let first = records.first().and_then(|r| r["seq"].as_u64()).unwrap_or(0);
    if first > number("first") && number("first") > 0 {
        // The oldest may have gone since the server looked.
        eprintln!("conflux: records {} to {} have been given up meanwhile", number("first"), first - 1);
    }
    match chain.end() {
        None if number("records") == 0 => Ok(()),
        Some((seq, hash)) if seq == number("last") && hex::encode(hash) == said["hash"].as_str().unwrap_or("") => {
            Ok(())
        }
        _ => bail!("the records end otherwise than the server's chain"),
    }
}

/// A record as it is hashed.
fn read(record: &Value) -> anyhow::Result<AuditRecord> {
    let number = |key: &str| record[key].as_u64().with_context(|| format!("a record without {key}"));
    let text = |key: &str| record[key].as_str().map(str::to_owned).with_context(|| format!("a record without {key}"));
    let hash =
        |key: &str| anyhow::Ok(Bytes::from(hex::decode(text(key)?).with_context(|| format!("{key} is no hex"))?));
    Ok(AuditRecord {
        seq: number("seq")?,
        time_ms: number("time_ms")?,
        principal: text("principal")?,
        operation: text("operation")?,
        target: text("target")?,
        config_id: text("config_id")?,
        summary: text("summary")?,
        request_id: text("request_id")?,
        trace_id: text("trace_id")?,
        revision: number("revision")?,
        previous_hash: hash("previous_hash")?,
        hash: hash("hash")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(r: &AuditRecord) -> Value {
        json!({
            "seq": r.seq, "time_ms": r.time_ms, "principal": r.principal, "operation": r.operation, "target": r.target,
            "config_id": r.config_id, "summary": r.summary, "request_id": r.request_id, "trace_id": r.trace_id,
            "revision": r.revision, "previous_hash": hex::encode(&r.previous_hash), "hash": hex::encode(&r.hash),
        })
    }

    /// A server that shows other records than it has hashed must be found out by the one who reads them.
    #[test]
    fn the_client_does_not_take_the_servers_word() {
        let mut records: Vec<AuditRecord> = Vec::new();
        for seq in 1..=3 {
            let previous_hash = records.last().map(|r| r.hash.clone()).unwrap_or_default();
            let mut record = AuditRecord { seq, summary: format!("{seq}"), previous_hash, ..Default::default() };
            record.hash = conflux_proto::audit::hash(&record);
            records.push(record);
        }
        let said = json!({"valid": true, "records": 3, "first": 1, "last": 3, "hash": hex::encode(&records[2].hash)});
        let mut shown: Vec<Value> = records.iter().map(shown).collect();
        check(&shown, &said).unwrap();
        assert!(check(&shown[..2], &said).is_err(), "the newest is missing");
        shown[1]["principal"] = "key:other".into();
        assert!(check(&shown, &said).unwrap_err().to_string().contains("record 2"));
    }
}

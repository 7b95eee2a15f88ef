//! The description of the whole API, put together from what each crate says of its part.

mod complete;
mod page;

use base64::{Engine, engine::general_purpose::STANDARD};
use conflux_common::error::ErrorBody;
use conflux_gateway::{Document, Sheet};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use utoipa::OpenApi;

/// What every part needs and none owns.
#[derive(OpenApi)]
#[openapi(components(schemas(ErrorBody)))]
struct Shared;

/// The document.
pub fn document() -> anyhow::Result<Value> {
    let mut whole = Shared::openapi();
    for part in [conflux_shard::openapi(), conflux_placement::openapi(), conflux_gateway::openapi()] {
        whole.merge(part);
    }
    let mut document = serde_json::to_value(whole)?;
    document["info"] = json!({
        "title": "Conflux",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "A federated, sharded, multi-tenant configuration center. Paths below `/api/v1/admin` and `/_cluster` are on the \
            operators' port of a gateway, all others on its port for clients. docs/api.md explains the concepts, with examples.",
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    });
    complete::complete(&mut document);
    Ok(document)
}

/// As it is served and printed.
pub fn json() -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(&document()?)?)
}

/// The page for people.
pub fn page() -> anyhow::Result<String> {
    Ok(page::render(&document()?))
}

/// Both, ready to be served.
pub fn served() -> anyhow::Result<Document> {
    let document = document()?;
    let etag = |body: &str| format!("\"{}\"", hex(&Sha256::digest(body.as_bytes())[..16]));
    let (json, page) = (serde_json::to_string(&document)?, page::render(&document));
    let style = STANDARD.encode(Sha256::digest(page::STYLE.as_bytes()));
    let nothing = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    Ok(Document {
        json: Sheet {
            etag: etag(&json),
            body: json.into(),
            media_type: "application/json",
            policy: nothing.to_owned(),
        },
        page: Sheet {
            etag: etag(&page),
            body: page.into(),
            media_type: "text/html; charset=utf-8",
            policy: format!("{nothing}; style-src 'sha256-{style}'"),
        },
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn operations(document: &Value) -> Vec<(String, String, Value)> {
        let mut all = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                all.push((path.clone(), method.clone(), operation.clone()));
            }
        }
        all
    }

    /// Generators name functions after operation ids, and resolve every reference.
    #[test]
    fn ids_are_unique_and_references_lead_somewhere() {
        let document = document().unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let mut ids = BTreeSet::new();
        for (path, method, operation) in operations(&document) {
            let id = operation["operationId"].as_str().unwrap().to_owned();
            assert!(ids.insert(id.clone()), "{id}: {method} {path}");
            assert!(operation["summary"].as_str().is_some_and(|s| !s.is_empty()), "{method} {path} says nothing");
        }
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }

    /// What a client has to expect stands with each call: who may call, what it may answer, each part of its path.
    #[test]
    fn each_call_is_described_whole() {
        for (path, method, operation) in operations(&document().unwrap()) {
            let at = format!("{method} {path}");
            let names: Vec<&str> =
                operation["parameters"].as_array().into_iter().flatten().filter_map(|p| p["name"].as_str()).collect();
            for part in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
                assert_eq!(names.iter().filter(|name| **name == part).count(), 1, "{at}: {part}");
            }
            let open = ["/healthz", "/readyz", "/openapi.json", "/docs"].contains(&path.as_str());
            assert_eq!(operation["security"] == json!([]), open, "{at}");
            assert_eq!(operation["responses"]["401"].is_object(), !open, "{at}");
            assert!(operation["responses"].as_object().unwrap().keys().any(|status| status.starts_with('2')), "{at}");
        }
    }

    /// The gateway lets nothing through that it does not know: what is documented there must arrive.
    #[test]
    fn the_gateway_knows_each_path() {
        use conflux_gateway::{call::classify, canonical::canonical, respond::Style};
        for (path, method, _) in operations(&document().unwrap()) {
            let target = canonical(path.replace(['{', '}'], "").as_bytes()).unwrap();
            let method = method.to_uppercase().parse().unwrap();
            assert!(classify(&method, &target, Style::Rest).unwrap().is_some(), "{method} {path}");
        }
    }

    /// The page needs nothing from elsewhere, and what stands in the document cannot become markup.
    #[test]
    fn the_page_loads_nothing() {
        let page = page().unwrap();
        for word in ["<script", "http-equiv", " src=", "@import", "url("] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains("/api/v1/fetch/config/"), "a known call is on it");
        assert!(!page.contains("<Name>"), "descriptions are escaped");
    }
}

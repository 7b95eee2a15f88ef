//! The document as a page: plain HTML, which needs no script and loads nothing.

use std::fmt::Write;

use serde_json::{Map, Value};

/// Everything that the page looks like. Its hash is in the page's policy.
pub const STYLE: &str = "
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--ink:#0b57d0}
@media(prefers-color-scheme:dark){:root{--ink:#8ab4f8}}
*{box-sizing:border-box}
body{font:1rem/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem}
h1{margin:0}h2{margin:2rem 0 .5rem;text-transform:capitalize}h3{margin:1rem 0 .25rem;font-size:1rem}
a{color:var(--ink)}nav{display:flex;flex-wrap:wrap;gap:.5rem 1rem;margin:1rem 0}
details{border:1px solid var(--line);border-radius:.5rem;margin:.5rem 0;padding:.5rem .75rem}
summary{cursor:pointer;overflow-wrap:anywhere}
details[open]>summary{margin-bottom:.5rem;border-bottom:1px solid var(--line);padding-bottom:.5rem}
code,.m{font-family:ui-monospace,monospace;font-size:.9em}
.m{font-weight:700;display:inline-block;min-width:4.5em;color:var(--ink)}
.s{display:block;opacity:.75}.p{background:var(--soft);border-radius:.25rem;padding:0 .35rem;font-size:.8em}
ul{margin:.25rem 0;padding-left:1.25rem}li{margin:.15rem 0;overflow-wrap:anywhere}
";

/// Renders the document.
pub fn render(document: &Value) -> String {
    let mut out = String::new();
    let title = format!("{} {}", text(&document["info"]["title"]), text(&document["info"]["version"]));
    let groups = groups(document);
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>{title} API</title><style>{STYLE}</style></head><body>\
         <h1>{title}</h1><p>{}</p><p>For programs: <a href=\"/openapi.json\">/openapi.json</a>.</p><nav>",
        text(&document["info"]["description"])
    );
    for (tag, _) in &groups {
        let _ = write!(out, "<a href=\"#{tag}\">{tag}</a>");
    }
    out.push_str("<a href=\"#schemas\">schemas</a></nav>");
    for (tag, calls) in &groups {
        let _ = write!(out, "<h2 id=\"{tag}\">{tag}</h2>");
        for (path, method, operation) in calls {
            call(&mut out, document, path, method, operation);
        }
    }
    out.push_str("<h2 id=\"schemas\">schemas</h2>");
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        let name = escaped(name);
        let _ = write!(out, "<details id=\"schema-{name}\"><summary><code>{name}</code> {}</summary>", says(schema));
        shape(&mut out, schema);
        out.push_str("</details>");
    }
    out.push_str("</body></html>\n");
    out
}

type Calls<'a> = Vec<(&'a str, &'a str, &'a Value)>;

/// Calls by their first tag, in the order in which the tags appear. The twins without a tenant are told in a word.
fn groups(document: &Value) -> Vec<(String, Calls<'_>)> {
    let mut groups: Vec<(String, Calls<'_>)> = Vec::new();
    let paths = document["paths"].as_object();
    for (path, item) in paths.into_iter().flatten() {
        let twin = path.strip_prefix("/api/v1/mgt/").filter(|rest| !rest.starts_with("{tenant}"));
        if twin.is_some_and(|rest| paths.is_some_and(|p| p.contains_key(&format!("/api/v1/mgt/{{tenant}}/{rest}")))) {
            continue;
        }
        for (method, operation) in item.as_object().into_iter().flatten() {
            let tag = text(&operation["tags"][0]);
            let place = groups.iter().position(|(known, _)| *known == tag).unwrap_or_else(|| {
                groups.push((tag, Vec::new()));
                groups.len() - 1
            });
            groups[place].1.push((path, method, operation));
        }
    }
    groups
}

fn call(out: &mut String, document: &Value, path: &str, method: &str, operation: &Value) {
    let port = match operation["x-conflux-port"].as_str() {
        Some(port) => format!(" <span class=\"p\">port of {}</span>", escaped(port)),
        None => String::new(),
    };
    let _ = write!(
        out,
        "<details id=\"{}\"><summary><span class=\"m\">{}</span> <code>{}</code>{port}<span class=\"s\">{}</span></summary>{}",
        text(&operation["operationId"]),
        escaped(&method.to_uppercase()),
        escaped(path),
        text(&operation["summary"]),
        paragraphs(&operation["description"]),
    );
    if path.starts_with("/api/v1/mgt/{tenant}") {
        let without = path.replacen("/{tenant}", "", 1);
        let _ = write!(out, "<p>Also <code>{}</code>, for the tenant of the credential.</p>", escaped(&without));
    }
    if let Some(parameters) = operation["parameters"].as_array() {
        out.push_str("<h3>Parameters</h3><ul>");
        for p in parameters {
            let must = if p["required"] == true { ", required" } else { "" };
            let _ = write!(
                out,
                "<li><code>{}</code> ({}{must}): {} {}</li>",
                text(&p["name"]),
                text(&p["in"]),
                kind(&p["schema"]),
                text(&p["description"])
            );
        }
        out.push_str("</ul>");
    }
    if let Some(content) = operation["requestBody"]["content"].as_object() {
        let _ = write!(out, "<h3>Body</h3>{}", paragraphs(&operation["requestBody"]["description"]));
        contents(out, content);
    }
    out.push_str("<h3>Answers</h3><ul>");
    for (status, answer) in operation["responses"].as_object().into_iter().flatten() {
        let answer =
            answer["$ref"].as_str().and_then(|r| document.pointer(r.trim_start_matches('#'))).unwrap_or(answer);
        let _ = write!(out, "<li><strong>{}</strong> {}", escaped(status), text(&answer["description"]));
        for (media, body) in answer["content"].as_object().into_iter().flatten() {
            let _ = write!(out, " <code>{}</code> {}", escaped(media), kind(&body["schema"]));
        }
        out.push_str("</li>");
    }
    out.push_str("</ul></details>");
}

fn contents(out: &mut String, content: &Map<String, Value>) {
    out.push_str("<ul>");
    for (media, body) in content {
        let _ = write!(out, "<li><code>{}</code> {}</li>", escaped(media), kind(&body["schema"]));
    }
    out.push_str("</ul>");
}

/// What a schema is, in a word; another schema of the page is a link.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|r| r.rsplit('/').next()) {
        let name = escaped(name);
        return format!("<a href=\"#schema-{name}\">{name}</a>");
    }
    let alternatives = ["oneOf", "anyOf", "allOf"].iter().find_map(|key| schema[*key].as_array());
    if let Some(alternatives) = alternatives {
        return alternatives.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    let types = match &schema["type"] {
        Value::Array(all) => all.iter().map(text).collect::<Vec<_>>().join(" or "),
        one => text(one),
    };
    let types = match schema["items"].is_object() {
        true => format!("list of {}", kind(&schema["items"])),
        false => types,
    };
    match schema["enum"].as_array() {
        Some(values) => {
            let values: Vec<String> = values.iter().map(|v| format!("<code>{}</code>", text(v))).collect();
            format!("{types}: {}", values.join(", "))
        }
        None => types,
    }
}

fn shape(out: &mut String, schema: &Value) {
    let parts = schema["allOf"].as_array();
    for part in parts.into_iter().flatten() {
        if part["$ref"].is_string() {
            let _ = write!(out, "<p>All of {}, and:</p>", kind(part));
        }
        shape(out, part);
    }
    let Some(properties) = schema["properties"].as_object() else {
        if parts.is_none() {
            let _ = write!(out, "<p>{}</p>", kind(schema));
        }
        return;
    };
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    out.push_str("<ul>");
    for (name, property) in properties {
        let must = if required.contains(&name.as_str()) { ", required" } else { "" };
        let _ = write!(out, "<li><code>{}</code>: {}{must}. {}</li>", escaped(name), kind(property), says(property));
    }
    out.push_str("</ul>");
}

fn says(schema: &Value) -> String {
    text(&schema["description"])
}

fn paragraphs(value: &Value) -> String {
    let told = value.as_str().unwrap_or_default();
    told.split("\n\n").filter(|p| !p.is_empty()).map(|p| format!("<p>{}</p>", escaped(p))).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => escaped(text),
        other => escaped(&other.to_string()),
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

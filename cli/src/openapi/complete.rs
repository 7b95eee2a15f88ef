//! What holds for many calls is said once, here, by the path and method of a call: parts of the path, credentials, the
//! idempotency key, headers of every answer, and errors.

use serde_json::{Map, Value, json};

/// Who serves a path, and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    /// Anyone, without a credential.
    Open,
    /// A tenant's credential, on the port for clients.
    Clients,
    /// Operators, on their own port.
    Operators,
}

impl Port {
    fn of(path: &str) -> Self {
        match path {
            "/healthz" | "/readyz" | "/openapi.json" | "/docs" => Port::Open,
            _ if path.starts_with("/api/v1/admin/") || path.starts_with("/_cluster/") => Port::Operators,
            _ => Port::Clients,
        }
    }
}

/// Adds it all.
pub fn complete(document: &mut Value) {
    document["security"] = json!([{"bearer": []}, {"key": []}]);
    document["components"]["securitySchemes"] = json!({
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or a token of the identity provider."},
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
        "operator": {"type": "mutualTLS", "description": "A certificate of the role operator, on the operators' port. \
            `conflux dev` also takes an operator's key."},
    });
    let responses = ERRORS.iter().map(|error| (error.name.to_owned(), error.response()));
    document["components"]["responses"] = Value::Object(responses.collect());
    let Some(paths) = document["paths"].as_object_mut() else { return };
    for (path, item) in paths.iter_mut() {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            if let Some(operation) = operation.as_object_mut() {
                Call { path, method, port: Port::of(path) }.complete(operation);
            }
        }
    }
}

/// A call that is completed.
struct Call<'a> {
    path: &'a str,
    method: &'a str,
    port: Port,
}

impl Call<'_> {
    fn complete(&self, operation: &mut Map<String, Value>) {
        self.name(operation);
        self.parameters(operation);
        self.security(operation);
        self.answers(operation);
    }

    fn writes(&self) -> bool {
        !matches!(self.method, "get" | "head")
    }

    /// Served below `/api/v1/mgt/{tenant}` and below `/api/v1/mgt`.
    fn without_tenant(&self) -> bool {
        self.path.starts_with("/api/v1/mgt/") && !self.path.starts_with("/api/v1/mgt/{tenant}")
            || self.path == "/api/v1/watch"
    }

    /// Functions of several modules share a name, calls share no path and method.
    fn name(&self, operation: &mut Map<String, Value>) {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let path = self.path.trim_start_matches("/api/v1/").trim_matches('/');
        let words: String = path.replace(['{', '}'], "").chars().map(plain).collect();
        operation.insert("operationId".into(), json!(format!("{}_{}", self.method, words.trim_matches('_'))));
    }

    fn parameters(&self, operation: &mut Map<String, Value>) {
        let mut all = operation.remove("parameters").and_then(|p| p.as_array().cloned()).unwrap_or_default();
        let known = |all: &[Value], name: &str| all.iter().any(|p| p["name"].as_str() == Some(name));
        for part in self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
            if !known(&all, part) {
                all.push(path_part(part));
            }
        }
        if self.without_tenant() {
            all.push(header("X-Conflux-Tenant", "Which tenant, where it is not the credential's.", NAME));
        }
        if self.writes() && self.port != Port::Open && !self.path.starts_with("/_cluster/") {
            let text =
                "The same key within 24 hours has one effect and one answer; for another call it is refused with 409.";
            all.push(header("Idempotency-Key", text, "^[!-~]{1,255}$"));
        }
        // What is optional is absent: outside of a body nothing says null.
        for parameter in &mut all {
            if let Some(types) = parameter["schema"]["type"].as_array() {
                parameter["schema"]["type"] = types.iter().find(|t| *t != "null").cloned().unwrap_or_default();
            }
        }
        if !all.is_empty() {
            operation.insert("parameters".into(), Value::Array(all));
        }
    }

    fn security(&self, operation: &mut Map<String, Value>) {
        match self.port {
            Port::Open => _ = operation.insert("security".into(), json!([])),
            Port::Clients => {}
            Port::Operators => {
                operation.insert("security".into(), json!([{"operator": []}, {"bearer": []}, {"key": []}]));
                operation.insert("x-conflux-port".into(), json!("operators"));
            }
        }
    }

    fn answers(&self, operation: &mut Map<String, Value>) {
        let conditional = operation
            .get("parameters")
            .and_then(Value::as_array)
            .is_some_and(|all| all.iter().any(|p| p["name"] == "If-Match" || p["name"] == "min_revision"));
        let Some(answers) = operation.get_mut("responses").and_then(Value::as_object_mut) else { return };
        for (status, answer) in answers.iter_mut() {
            let Some(answer) = answer.as_object_mut() else { continue };
            let headers = answer.entry("headers").or_insert_with(|| json!({}));
            headers["x-request-id"] = described("Yours if you sent one; quote it when you report something.");
            let shards = self.port == Port::Clients && !self.path.starts_with("/api/v1/watch");
            if shards && status.starts_with('2') {
                headers["x-conflux-epoch"] = described("The tenant's ownership epoch.");
                headers["x-conflux-revision"] =
                    described("`<incarnation>.<revision>` of the tenant that the answer reflects.");
                if !self.writes() {
                    headers["x-conflux-age-ms"] =
                        described("How long ago a majority confirmed the state that was read.");
                }
            }
        }
        for error in ERRORS {
            if (error.of)(self, conditional) && !answers.contains_key(error.status) {
                answers.insert(error.status.into(), json!({"$ref": format!("#/components/responses/{}", error.name)}));
            }
        }
    }
}

fn described(text: &str) -> Value {
    json!({"description": text, "schema": {"type": "string"}})
}

const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$";
const CONFIG_NAME: &str = "^[A-Za-z0-9][A-Za-z0-9._:@+-]{0,127}$";

fn header(name: &str, text: &str, pattern: &str) -> Value {
    json!({"name": name, "in": "header", "description": text, "schema": {"type": "string", "pattern": pattern}})
}

/// A part of a path by its name.
fn path_part(name: &str) -> Value {
    let text =
        |text: &str, pattern: &str| json!({"description": text, "schema": {"type": "string", "pattern": pattern}});
    let mut part = match name {
        "tenant" => text("The tenant.", NAME),
        "app" => text("The application.", NAME),
        "env" => text("The environment.", NAME),
        "name" => text("The config's name.", CONFIG_NAME),
        "id" => text("The config's id.", "^c[1-9][0-9]{0,18}$"),
        "move" => json!({"description": "The move's number.", "schema": {"type": "integer", "minimum": 1}}),
        "number" => json!({"description": "Its number, from 1.", "schema": {"type": "integer", "minimum": 1}}),
        "group" => text("`placement` or a shard's name.", NAME),
        "member" => text("A member's name.", NAME),
        "shard" => text("The shard's name.", NAME),
        "role" => text("The role's name.", NAME),
        "key" => text("The key's id: what stands between its two underscores.", "^[A-Za-z0-9]{16}$"),
        _ => text("", NAME),
    };
    part["name"] = json!(name);
    part["in"] = json!("path");
    part["required"] = json!(true);
    part
}

/// An error that many calls may answer.
struct Error {
    status: &'static str,
    name: &'static str,
    text: &'static str,
    of: fn(&Call<'_>, bool) -> bool,
}

impl Error {
    fn response(&self) -> Value {
        let mut headers = json!({"x-request-id": described("Quote it when you report this.")});
        if matches!(self.status, "429" | "503") {
            headers["retry-after"] = described("Seconds, where it is known.");
        }
        if self.status == "401" {
            headers["www-authenticate"] = described("Which credential is asked for.");
        }
        json!({
            "description": self.text,
            "headers": headers,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}},
        })
    }
}

const ERRORS: &[Error] = &[
    Error {
        status: "400",
        name: "Invalid",
        text: "INVALID_ARGUMENT: `details` names the field, parameter or header, and what is allowed.",
        of: |_, _| true,
    },
    Error { status: "401", name: "Unauthenticated", text: "No valid credential.", of: |c, _| c.port != Port::Open },
    Error {
        status: "403",
        name: "Forbidden",
        text: "The credential does not cover the tenant, or its roles do not allow this.",
        of: |c, _| c.port != Port::Open,
    },
    Error {
        status: "404",
        name: "NotFound",
        text: "There is no such thing, or the caller may not see it.",
        of: |c, _| c.port != Port::Open,
    },
    Error {
        status: "409",
        name: "Conflict",
        text: "ALREADY_EXISTS, or ABORTED: it has changed meanwhile, or the idempotency key was used for another call.",
        of: |c, _| c.writes(),
    },
    Error {
        status: "410",
        name: "OutOfRange",
        text: "The history from which to go on is not kept any more, or does not exist yet.",
        of: |c, _| c.path.starts_with("/api/v1/watch"),
    },
    Error {
        status: "412",
        name: "Precondition",
        text: "`If-Match` or `If-None-Match` does not hold, a revision is of another history, or what is there does not allow it.",
        of: |c, conditional| conditional || (c.writes() && c.port != Port::Open),
    },
    Error {
        status: "413",
        name: "TooLarge",
        text: "The body or the head of the request is too large.",
        of: |_, _| true,
    },
    Error {
        status: "429",
        name: "Exhausted",
        text: "A quota or a queue is full; the message names it.",
        of: |c, _| c.port != Port::Open,
    },
    Error { status: "500", name: "Internal", text: "A defect: report it.", of: |c, _| c.port != Port::Open },
    Error {
        status: "501",
        name: "Unimplemented",
        text: "The path does not have this method.",
        of: |c, _| c.port != Port::Open,
    },
    Error {
        status: "503",
        name: "Unavailable",
        text: "No leader or no majority now. `outcome` says whether a write may have taken effect.",
        of: |c, _| c.port != Port::Open,
    },
    Error {
        status: "504",
        name: "Late",
        text: "No answer in time. `outcome` says whether a write may have taken effect.",
        of: |c, _| c.port != Port::Open,
    },
];

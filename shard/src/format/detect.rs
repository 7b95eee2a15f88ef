//! Which format a content has: what the caller names, else its media type, else the extension of the config's name.

use conflux_common::error::ApiError;

use super::registry::{self, registered};

/// A format that a shard stores. All of them are always known, whichever this binary can read: replicas with other features
/// must apply and serve the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// RFC 8259.
    Json,
    /// YAML 1.1 and 1.2 as libyaml reads them.
    Yaml,
    /// TOML 1.0 and 1.1.
    Toml,
    /// XML 1.0 without a DTD of its own.
    Xml,
    /// Sections of `key = value` lines.
    Ini,
    /// Java properties.
    Properties,
    /// `KEY=VALUE` lines: `.env` files, environment files.
    KeyValue,
    /// Any UTF-8 text; not checked further.
    Plaintext,
    /// Any bytes; not checked.
    Binary,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 9] = [
        Format::Json,
        Format::Yaml,
        Format::Toml,
        Format::Xml,
        Format::Ini,
        Format::Properties,
        Format::KeyValue,
        Format::Plaintext,
        Format::Binary,
    ];

    /// As it is written in requests and stored.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Yaml => "yaml",
            Format::Toml => "toml",
            Format::Xml => "xml",
            Format::Ini => "ini",
            Format::Properties => "properties",
            Format::KeyValue => "keyvalue",
            Format::Plaintext => "plaintext",
            Format::Binary => "binary",
        }
    }

    /// The media type that its contents are served as. Never one that a browser would run: XML could carry scripts.
    pub const fn media_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Yaml => "application/yaml",
            Format::Toml => "application/toml",
            Format::Xml | Format::Ini | Format::Properties | Format::KeyValue | Format::Plaintext => {
                "text/plain; charset=utf-8"
            }
            Format::Binary => "application/octet-stream",
        }
    }

    /// The format of this name, as requests write it: `yml`, `env` and `text` are taken too.
    pub fn from_name(name: &str) -> Option<Format> {
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            "yml" => Some(Format::Yaml),
            "env" | "dotenv" | "key-value" => Some(Format::KeyValue),
            "text" | "txt" | "plain" => Some(Format::Plaintext),
            _ => Format::ALL.into_iter().find(|f| f.name() == name),
        }
    }

    /// The format that a media type means; none where it says nothing (as `application/octet-stream`, which many clients
    /// send for any file).
    fn from_media_type(media_type: &str) -> Option<Format> {
        let essence = media_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        let suffix = |name| registry::of(name).map(|_| name);
        match registered().iter().find(|f| f.media_types().contains(&essence.as_str())) {
            Some(found) => Some(found.format()),
            None if essence.ends_with("+json") => suffix(Format::Json),
            None if essence.ends_with("+yaml") => suffix(Format::Yaml),
            None if essence.ends_with("+xml") => suffix(Format::Xml),
            None => None,
        }
    }

    /// The format that a config's name suggests by its extension.
    fn from_extension(name: &str) -> Option<Format> {
        let (_, extension) = name.rsplit_once('.')?;
        let extension = extension.to_ascii_lowercase();
        registered().iter().find(|f| f.extensions().contains(&extension.as_str())).map(|f| f.format())
    }
}

/// The format of a content: what the caller named; else what the media type says; else what the extension of the config's
/// name says; else plain text where the content is UTF-8, and bytes where it is not.
pub fn detect(named: &str, media_type: &str, config_name: &str, content: &[u8]) -> Result<Format, ApiError> {
    if !named.is_empty() {
        let known = || registered().iter().map(|f| f.format().name()).collect::<Vec<_>>().join(", ");
        let found = Format::from_name(named).filter(|f| registry::of(*f).is_some());
        return found.ok_or_else(|| ApiError::invalid("format", format!("one of {}", known())));
    }
    Ok(Format::from_media_type(media_type)
        .or_else(|| Format::from_extension(config_name))
        .unwrap_or_else(|| if std::str::from_utf8(content).is_ok() { Format::Plaintext } else { Format::Binary }))
}

#[cfg(test)]
mod tests {
    use super::*;

    // `curl -T app.yaml` sends no Content-Type, `--data-binary` sends a form's: both must be seen as YAML.
    #[test]
    fn the_name_decides_where_the_media_type_says_nothing() {
        for given in ["", "application/x-www-form-urlencoded", "application/octet-stream", "text/plain"] {
            assert_eq!(detect("", given, "app.yaml", b"a: 1").unwrap(), Format::Yaml, "{given}");
        }
        assert_eq!(detect("", "application/json; charset=utf-8", "app.yaml", b"{}").unwrap(), Format::Json);
        assert_eq!(detect("toml", "application/json", "app.yaml", b"").unwrap(), Format::Toml);
        assert_eq!(detect("", "", "motd", b"hello").unwrap(), Format::Plaintext);
        assert_eq!(detect("", "text/html", "page", b"<script>").unwrap(), Format::Plaintext);
        assert_eq!(detect("", "", "blob", &[0xff, 0xfe]).unwrap(), Format::Binary);
        assert!(detect("pdf", "", "a", b"").unwrap_err().message.contains("keyvalue"));
    }

    // What `curl -T` sends of well-known files must come to the right parser.
    #[test]
    fn well_known_names_and_media_types_are_known() {
        let by_name = |name: &str| detect("", "", name, b"").unwrap();
        let files = [
            ("pom.xml", Format::Xml),
            ("sshd.service", Format::Ini),
            ("php.ini", Format::Ini),
            ("my.cnf", Format::Ini),
            ("log4j.properties", Format::Properties),
            ("prod.env", Format::KeyValue),
            ("Cargo.toml", Format::Toml),
            ("nginx.conf", Format::Plaintext),
            ("compose.YML", Format::Yaml),
        ];
        for (name, format) in files {
            assert_eq!(by_name(name), format, "{name}");
        }
        let by_type = |media_type: &str| detect("", media_type, "a", b"").unwrap();
        assert_eq!(by_type("application/xml"), Format::Xml);
        assert_eq!(by_type("image/svg+xml; charset=utf-8"), Format::Xml);
        assert_eq!(by_type("application/problem+json"), Format::Json);
        assert_eq!(by_type("text/x-java-properties"), Format::Properties);
    }

    #[test]
    fn names_round_trip() {
        for format in Format::ALL {
            assert_eq!(Format::from_name(format.name()), Some(format));
        }
    }
}

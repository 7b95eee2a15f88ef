//! Which format a content has: what the caller names, else its media type, else the extension of the config's name.

use conflux_common::error::ApiError;

/// A format that this shard stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// RFC 8259.
    Json,
    /// YAML 1.1 and 1.2 as libyaml reads them, one document.
    Yaml,
    /// TOML 1.0.
    Toml,
    /// Any UTF-8 text; not checked further.
    Plaintext,
    /// Any bytes; not checked.
    Binary,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 5] = [Format::Json, Format::Yaml, Format::Toml, Format::Plaintext, Format::Binary];

    /// As it is written in requests and stored.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Yaml => "yaml",
            Format::Toml => "toml",
            Format::Plaintext => "plaintext",
            Format::Binary => "binary",
        }
    }

    /// The media type that its contents are served as. Never one that a browser would run.
    pub const fn media_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Yaml => "application/yaml",
            Format::Toml => "application/toml",
            Format::Plaintext => "text/plain; charset=utf-8",
            Format::Binary => "application/octet-stream",
        }
    }

    /// The format of this name, as requests write it: `yml` and `text` are taken too.
    pub fn from_name(name: &str) -> Option<Format> {
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            "yml" => Some(Format::Yaml),
            "text" | "txt" | "plain" => Some(Format::Plaintext),
            _ => Format::ALL.into_iter().find(|f| f.name() == name),
        }
    }

    /// The format that a media type means; none where it says nothing (as `application/octet-stream`, which many clients
    /// send for any file).
    fn from_media_type(media_type: &str) -> Option<Format> {
        let essence = media_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/json" | "text/json" => Some(Format::Json),
            "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml" | "text/vnd.yaml" => {
                Some(Format::Yaml)
            }
            "application/toml" | "application/x-toml" | "text/toml" | "text/x-toml" => Some(Format::Toml),
            other if other.ends_with("+json") => Some(Format::Json),
            other if other.ends_with("+yaml") => Some(Format::Yaml),
            _ => None,
        }
    }

    /// The format that a config's name suggests by its extension.
    fn from_extension(name: &str) -> Option<Format> {
        let (_, extension) = name.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "json" => Some(Format::Json),
            "yaml" | "yml" => Some(Format::Yaml),
            "toml" => Some(Format::Toml),
            "txt" | "text" | "md" | "log" => Some(Format::Plaintext),
            _ => None,
        }
    }
}

/// The format of a content: what the caller named; else what the media type says; else what the extension of the config's
/// name says; else plain text where the content is UTF-8, and bytes where it is not.
pub fn detect(named: &str, media_type: &str, config_name: &str, content: &[u8]) -> Result<Format, ApiError> {
    if !named.is_empty() {
        let known = || Format::ALL.map(Format::name).join(", ");
        return Format::from_name(named).ok_or_else(|| ApiError::invalid("format", format!("one of {}", known())));
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
        assert!(detect("xml", "", "a", b"").is_err());
    }

    #[test]
    fn names_round_trip() {
        for format in Format::ALL {
            assert_eq!(Format::from_name(format.name()), Some(format));
        }
    }
}

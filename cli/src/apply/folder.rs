//! What a directory wants.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Context;
use conflux_common::{
    body::given,
    ids::{AppName, ConfigName, EnvName},
    release::ReleaseRule,
};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The file that says more of the configs beside it.
const SIDE: &str = "conflux.yaml";
/// What the service takes at most.
const MAX_CONTENT: u64 = 1 << 20;

/// Environments, and the configs that they shall have by name.
pub type Wanted = BTreeMap<(String, String), BTreeMap<String, WantedConfig>>;

/// What a config shall be.
#[derive(Debug, Default)]
pub struct WantedConfig {
    /// What is released by default.
    pub content: Vec<u8>,
    /// What `conflux.yaml` says of it.
    pub side: Side,
}

/// What `conflux.yaml` says of a config. What is not named stays as it is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Side {
    /// null clears it.
    #[serde(default, deserialize_with = "given")]
    pub description: Option<Option<String>>,
    #[serde(default)]
    pub tags: Option<Vec<String>>,
    #[serde(default)]
    pub format: Option<String>,
    /// In the file: a path beside it; then the text. null clears it.
    #[serde(default, deserialize_with = "given")]
    pub schema: Option<Option<String>>,
    /// null clears it.
    #[serde(default, deserialize_with = "given")]
    pub retention: Option<Option<Retention>>,
    #[serde(default)]
    pub releases: Option<Vec<ReleaseRule>>,
}

/// 0: without a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    pub max_versions: u32,
    pub max_age_days: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SideFile {
    #[serde(default)]
    configs: BTreeMap<String, Side>,
}

fn wrong(path: &Path, why: impl std::fmt::Display) -> anyhow::Error {
    Failure::Usage(format!("{}: {why}", path.display())).into()
}

/// Reads `app/env/name` below the directory.
pub fn read(root: &Path) -> anyhow::Result<Wanted> {
    let mut wanted = Wanted::new();
    for (app, app_path) in directories(root)? {
        AppName::new(&app).map_err(|e| wrong(&app_path, e))?;
        for (env, env_path) in directories(&app_path)? {
            EnvName::new(&env).map_err(|e| wrong(&env_path, e))?;
            wanted.insert((app.clone(), env), environment(&env_path)?);
        }
    }
    if wanted.is_empty() {
        return Err(wrong(root, "holds no app/env directories: files are expected at app/env/name"));
    }
    Ok(wanted)
}

fn environment(folder: &Path) -> anyhow::Result<BTreeMap<String, WantedConfig>> {
    let side_path = folder.join(SIDE);
    let mut sides = match fs::read(&side_path) {
        Ok(text) => serde_yaml_ng::from_slice::<SideFile>(&text).map_err(|e| wrong(&side_path, e))?.configs,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
        Err(e) => return Err(wrong(&side_path, e)),
    };
    let mut schemas = Vec::new();
    for side in sides.values_mut() {
        if let Some(Some(file)) = &mut side.schema {
            if file.contains('/') {
                return Err(wrong(&side_path, format!("schema: {file} is not beside it")));
            }
            let path = folder.join(&*file);
            schemas.push(std::mem::take(file));
            *file = fs::read_to_string(&path).map_err(|e| wrong(&path, e))?;
        }
    }
    let mut configs = BTreeMap::new();
    for (name, path) in entries(folder)? {
        if name == SIDE || schemas.contains(&name) {
            continue;
        }
        if path.is_dir() {
            return Err(wrong(&path, "a directory here would be a config: configs are files at app/env/name"));
        }
        ConfigName::new(&name).map_err(|e| wrong(&path, e))?;
        if path.metadata().map_err(|e| wrong(&path, e))?.len() > MAX_CONTENT {
            return Err(wrong(&path, "a content has at most 1 MiB"));
        }
        let content = fs::read(&path).map_err(|e| wrong(&path, e))?;
        let side = sides.remove(&name).unwrap_or_default();
        configs.insert(name, WantedConfig { content, side });
    }
    match sides.keys().next() {
        Some(name) => Err(wrong(&side_path, format!("{name}: there is no such file beside it"))),
        None => Ok(configs),
    }
}

fn directories(of: &Path) -> anyhow::Result<Vec<(String, std::path::PathBuf)>> {
    Ok(entries(of)?.into_iter().filter(|(_, path)| path.is_dir()).collect())
}

/// By name, without hidden ones.
fn entries(of: &Path) -> anyhow::Result<Vec<(String, std::path::PathBuf)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(of).map_err(|e| wrong(of, e))? {
        let path = entry.with_context(|| of.display().to_string())?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
            return Err(wrong(&path, "its name is not UTF-8"));
        };
        if !name.starts_with('.') {
            all.push((name.to_owned(), path.clone()));
        }
    }
    all.sort();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    /// Files are configs; what is said of them stands beside them and is no config itself.
    #[test]
    fn a_directory_is_read_whole() {
        let root = folder(&[
            ("shop/prod/app.yaml", "a: 1\n"),
            ("shop/prod/app.schema.json", "{}"),
            ("shop/prod/.swp", "x"),
            (
                "shop/prod/conflux.yaml",
                "configs:\n  app.yaml: {tags: [a], schema: app.schema.json, description: null}\n",
            ),
            (".git/config", "x"),
        ]);
        let wanted = read(root.path()).unwrap();
        let prod = &wanted[&("shop".to_owned(), "prod".to_owned())];
        assert_eq!(prod.keys().collect::<Vec<_>>(), ["app.yaml"]);
        let side = &prod["app.yaml"].side;
        assert_eq!((side.description.clone(), side.schema.clone()), (Some(None), Some(Some("{}".to_owned()))));
        assert_eq!((side.tags.clone(), side.retention), (Some(vec!["a".to_owned()]), None));
    }

    /// A misspelt word would silently have no effect on what is released.
    #[test]
    fn mistakes_are_told_with_their_file() {
        for (files, word) in [
            (vec![("shop/prod/app.yaml", "x"), ("shop/prod/conflux.yaml", "configs: {app.yml: {}}")], "app.yml"),
            (vec![("shop/prod/app.yaml", "x"), ("shop/prod/conflux.yaml", "configs: {app.yaml: {tag: []}}")], "tag"),
            (vec![("shop/prod/x/app.yaml", "x")], "app/env/name"),
            (vec![("app.yaml", "x")], "app/env/name"),
        ] {
            let root = folder(&files);
            let error = read(root.path()).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
            assert_eq!(Failure::code_of(&error), crate::failure::exit::USAGE);
        }
    }
}

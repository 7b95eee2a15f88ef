//! How many backups stay. Only complete ones of the same federation and kind count, and only such ones are deleted.

use super::{
    manifest::{Found, Kind, MANIFEST, Manifest},
    store::Store,
};

/// Which to delete so that the newest `keep` stay, oldest first. Pure.
fn superseded(found: &[Found], like: &Manifest, keep: usize) -> Vec<String> {
    let groups = |m: &Manifest| m.groups.iter().map(|g| g.group.clone()).collect::<Vec<_>>();
    // One group's backup never replaces another's.
    let same = |m: &Manifest| {
        m.kind == like.kind && m.cluster == like.cluster && (m.kind == Kind::Federation || groups(m) == groups(like))
    };
    let mut complete: Vec<(u64, &str)> = found
        .iter()
        .filter_map(|f| f.manifest.as_ref().map(|(m, _)| (m, f.id.as_str())))
        .filter(|(m, _)| same(m))
        .map(|(m, id)| (m.created_ms, id))
        .collect();
    complete.sort();
    let gone = complete.len().saturating_sub(keep);
    complete[..gone].iter().filter(|(_, id)| *id != like.id).map(|(_, id)| (*id).to_owned()).collect()
}

/// Deletes what `keep` backups like this one make superfluous: the manifest first, so that no half of one looks whole.
pub async fn keep(root: &Store, like: &Manifest, keep: usize) -> anyhow::Result<Vec<String>> {
    let gone = superseded(&Manifest::all(root).await?, like, keep);
    for id in &gone {
        let old = root.below(id);
        old.delete(MANIFEST).await?;
        old.delete_all().await?;
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::{super::manifest::Part, *};

    fn manifest(id: &str, kind: Kind, cluster: &str, group: &str, created_ms: u64) -> Manifest {
        let part = Part { group: group.into(), member: String::new(), bytes: 0, manifest_sha256: String::new() };
        Manifest { id: id.into(), created_ms, ..Manifest::new(kind, cluster.into(), vec![part], Vec::new()) }
    }

    /// A backup that is still needed, unfinished, or somebody else's must never go.
    #[test]
    fn only_older_ones_of_the_same_kind_go() {
        let all = [
            manifest("1", Kind::Federation, "prod", "a", 10),
            manifest("2", Kind::Federation, "prod", "a", 20),
            manifest("3", Kind::Federation, "test", "a", 5),
            manifest("4", Kind::Group, "prod", "a", 5),
            manifest("5", Kind::Group, "prod", "b", 6),
            manifest("6", Kind::Federation, "prod", "a", 30),
        ];
        let mut found: Vec<Found> =
            all.iter().map(|m| Found { id: m.id.clone(), manifest: Some((m.clone(), String::new())) }).collect();
        found.push(Found { id: "0-unfinished".into(), manifest: None });
        let newest = &all[5];
        assert_eq!(superseded(&found, newest, 2), ["1"]);
        assert_eq!(superseded(&found, newest, 1), ["1", "2"]);
        assert_eq!(superseded(&found, newest, 3), Vec::<String>::new());
        assert_eq!(superseded(&found, &all[3], 1), Vec::<String>::new());
        // A clock that went back must not delete what was just made.
        assert_eq!(superseded(&found, &all[0], 1), ["2"]);
    }
}

//! `conflux config edit` with editors that are shell commands: what is sent, what is not, and what is kept.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use conflux_tests::{Federation, Shape, federation::binary};

fn conflux(federation: &Path, scratch: &Path, editor: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).arg("--federation").arg(federation).stdin(Stdio::null());
    command.env_remove("VISUAL").env("EDITOR", editor).env("TMPDIR", scratch);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_checked_and_never_lost() {
    let federation = Federation::start(Shape::ONE_GROUP).await.unwrap();
    let description = federation.directory().join("federation.json");
    let (scratch, file) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
    let kept = || std::fs::read_dir(scratch.path()).unwrap().count();
    let edit = |editor: &str| conflux(&description, scratch.path(), editor, &["config", "edit", "edit/test/a.json"]);
    let get = || {
        let arguments = ["config", "get", "edit/test/a.json", "--consistency", "leader"];
        text(&conflux(&description, scratch.path(), "false", &arguments).stdout)
    };
    std::fs::write(file.path(), "{\"a\": 1}\n").unwrap();
    let put = ["config", "put", "edit/test/a.json", "-f", file.path().to_str().unwrap()];
    assert!(conflux(&description, scratch.path(), "false", &put).status.success());

    // Whoever only looks makes no version.
    let looked = edit("true");
    assert!(looked.status.success() && text(&looked.stdout).contains("no change"), "{}", text(&looked.stderr));

    let changed = edit("sed -i s/1/2/");
    assert!(changed.status.success(), "{}", text(&changed.stderr));
    assert!(text(&changed.stdout).contains("version 2"), "{}", text(&changed.stdout));
    assert_eq!(get(), "{\"a\": 2}\n");
    assert_eq!(kept(), 0, "what was sent is not left lying about");

    // What would be refused is told with its place, and the text is kept.
    let broken = edit("sed -i s/2/,/");
    assert_eq!(broken.status.code(), Some(2), "{}", text(&broken.stderr));
    assert!(text(&broken.stderr).contains("line 1, column"), "{}", text(&broken.stderr));
    assert_eq!((get().as_str(), kept()), ("{\"a\": 2}\n", 1));

    // Somebody else was faster: their change stands, and ours is kept.
    let other = format!(
        "{} config put edit/test/a.json --federation {} -f {} && sed -i s/2/3/",
        binary().display(),
        description.display(),
        file.path().display()
    );
    let late = edit(&other);
    assert_eq!(late.status.code(), Some(5), "{}", text(&late.stderr));
    assert_eq!((get().as_str(), kept()), ("{\"a\": 1}\n", 2));
}

//! Every command of docs/recipes.md, run as it stands there, in order, against a federation: what people paste must work.

use std::{path::Path, process::Command};

use conflux_tests::{Federation, Shape, federation::binary};

/// A command and what must be part of its output, in this order.
struct Step {
    command: String,
    expected: Vec<String>,
}

/// The steps of the blocks that are marked as `sh`.
fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for block in page.split("```sh\n").skip(1) {
        for line in block.split("```").next().unwrap().lines() {
            match line.strip_prefix("$ ") {
                Some(command) => steps.push(Step { command: command.to_owned(), expected: Vec::new() }),
                None => steps.last_mut().expect("a command comes first").expected.push(line.to_owned()),
            }
        }
    }
    steps
}

fn run(step: &Step, folder: &Path, federation: &Path) -> String {
    let path = format!("{}:{}", binary().parent().unwrap().display(), std::env::var("PATH").unwrap());
    let output = Command::new("sh")
        .args(["-c", &step.command])
        .current_dir(folder)
        .env("PATH", path)
        .env("CONFLUX_FEDERATION", federation)
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}{err}", step.command);
    out.into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recipes_work_as_written() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/recipes.md")).unwrap();
    let steps = steps(&page);
    assert!(steps.len() > 30, "the blocks were not found");
    let federation = Federation::start(Shape::ONE_GROUP).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    for step in &steps {
        let printed = run(step, folder.path(), &federation.directory().join("federation.json"));
        let mut rest = printed.as_str();
        for part in
            step.expected.iter().flat_map(|line| line.split("..")).map(str::trim).filter(|part| !part.is_empty())
        {
            let at = rest.find(part);
            assert!(at.is_some(), "{}\nprinted\n{printed}\nwithout {part:?}", step.command);
            rest = &rest[at.unwrap() + part.len()..];
        }
    }
}

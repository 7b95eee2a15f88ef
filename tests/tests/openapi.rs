//! The description of the API as anyone gets it from a gateway.

use conflux_tests::{Federation, Shape};

/// Whoever is to use the API needs no credential to read what it is; a browser must load nothing from elsewhere for it.
#[tokio::test(flavor = "multi_thread")]
async fn the_api_describes_itself_to_anyone() {
    let federation = Federation::start(Shape::ONE_GROUP).await.unwrap();
    let anyone = federation.demo().anonymous();
    let document = anyone.get("/openapi.json").await.unwrap().expect(&[200]).unwrap();
    assert_eq!(document.header("content-type"), Some("application/json"));
    let paths = document.json()["paths"].as_object().unwrap().clone();
    for (path, call) in [
        ("/api/v1/fetch/config/{tenant}/{app}/{env}/{name}", "get"),
        ("/api/v1/mgt/{tenant}/configs/{id}/releases", "put"),
        ("/api/v1/admin/tenants", "post"),
        ("/api/v1/watch/{tenant}", "get"),
        ("/_cluster/{group}/status", "get"),
    ] {
        assert!(paths[path][call].is_object(), "{call} {path}");
    }

    let etag = document.header("etag").unwrap().to_owned();
    let again = anyone.get_with("/openapi.json", &[("if-none-match", &etag)]).await.unwrap();
    assert_eq!((again.status, again.text().as_str()), (304, ""));

    let page = anyone.get("/docs").await.unwrap().expect(&[200]).unwrap();
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(page.text().contains("/api/v1/fetch/config/"), "a known call is on it");

    // What is documented is answered: a call that nobody serves would be told as "nothing at this path".
    let client = federation.demo();
    for (path, item) in &paths {
        let readable = item["get"].is_object() && path.starts_with("/api/v1/mgt/{tenant}");
        if readable {
            let filled = path.replace("{tenant}", "demo").replace("{id}", "c999").replace(['{', '}'], "");
            let answer = client.get(&filled).await.unwrap();
            assert!(!answer.text().contains("no such path"), "{path}: {}", answer.text());
            assert_ne!(answer.status, 501, "{path}");
        }
    }
}

use super::*;

/// A relay whose federation is this process as `a-1`, dialling `b-1` that listens at the returned port.
async fn relay(directory: &Path) -> (Relay, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = Relay::start(directory).await.unwrap();
    relay.shared.ports.lock().insert(listener.local_addr().unwrap().port(), "b-1".into());
    (relay, listener)
}

/// One direction is cut, the other goes on; what was held up arrives after healing, and nothing is lost.
#[tokio::test]
async fn a_cut_has_a_direction_and_heals() {
    let directory = tempfile::tempdir().unwrap();
    let (relay, listener) = relay(directory.path()).await;
    let mut dialler = std::process::Command::new("sh");
    dialler.args(["-c", "echo; read _", "sh", "--config"]).arg(directory.path().join("a-1/shard.toml"));
    let mut child = dialler.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    // A process has no arguments yet in the moment in which it becomes another program.
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    let mut near = TcpStream::connect(relay.address()).await.unwrap();
    let hello = format!("{} {}\n", child.id(), listener.local_addr().unwrap());
    near.write_all(hello.as_bytes()).await.unwrap();
    let (mut far, _) = listener.accept().await.unwrap();

    relay.harm([("a-1".to_owned(), "b-1".to_owned())], Condition { cut: true, ..Default::default() });
    near.write_all(b"there").await.unwrap();
    far.write_all(b"back").await.unwrap();
    let mut back = [0; 4];
    near.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"back");
    let mut there = [0; 5];
    assert!(far.try_read(&mut there).is_err(), "it was cut");
    relay.heal();
    far.read_exact(&mut there).await.unwrap();
    assert_eq!(&there, b"there");

    relay.break_all();
    assert!(matches!(near.read(&mut there).await, Ok(0) | Err(_)));
    drop(child.stdin.take());
    child.wait().unwrap();
}

/// Members are known by the ports in their settings files, also those that were added later.
#[test]
fn ports_are_read_from_the_settings() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("shard-a-1")).unwrap();
    let text =
        "[member]\nraft_listen = \"127.0.0.1:7001\"\nservice_listen = \"127.0.0.1:7002\"\nraft_advertise = \"x:1\"\n";
    std::fs::write(directory.path().join("shard-a-1/shard.toml"), text).unwrap();
    let found = ports(directory.path());
    assert_eq!(found.len(), 2);
    assert_eq!((found[&7001].as_str(), found[&7002].as_str()), ("shard-a-1", "shard-a-1"));
}

/// Without loss there is no more than delay and jitter; with it there sometimes is.
#[test]
fn a_lost_chunk_is_late() {
    let sound = Condition { delay_ms: 10, jitter_ms: 5, ..Default::default() };
    assert!((0..100).all(|_| latency(sound) <= Duration::from_millis(15)));
    let lossy = Condition { lost_percent: 50, ..Default::default() };
    assert!((0..100).any(|_| latency(lossy) >= SENT_AGAIN));
}

//! Three members: what those do that do not lead, and what a change of leader looks like.

use crate::{
    caller::{fetch, file},
    feed::Feed,
    member::Member,
};

/// A member that does not lead serves stale reads with their age, waits for `min_revision`, and names the leader for the rest.
#[tokio::test]
async fn those_that_do_not_lead_say_who_does() {
    let group = Member::group_with_acme(3).await;
    let leader = group.leader(None).await;
    let other = (leader + 1) % 3;
    let put = group.admin_at(leader).put(&file("shop", "a"), "x").await;
    assert_eq!(put.status, 201, "{put:?}");

    let reader = group.admin_at(other);
    let seen = format!("{}?min_revision={}", fetch("shop", "a"), put.header("x-conflux-revision"));
    let got = reader.get_once_ready(&seen).await;
    assert_eq!((got.status.as_u16(), &got.body[..]), (200, &b"x"[..]), "{got:?}");
    assert!(got.header("x-conflux-age-ms").parse::<u64>().unwrap() < 60_000);

    for refused in [
        reader.send_once_ready("PUT", &file("shop", "a"), "y".into()).await,
        reader.get_once_ready(&format!("{}?consistency=leader", fetch("shop", "a"))).await,
        reader.get_once_ready(&format!("{}?consistency=linearizable", fetch("shop", "a"))).await,
        reader.of(77, "acme", 1).get_once_ready(&fetch("shop", "a")).await,
    ] {
        assert_eq!(refused.code(), (503, "UNAVAILABLE".into()));
        assert_eq!(refused.header("x-conflux-retry"), "not-leader");
        assert_eq!(refused.header("x-conflux-retry-hint"), format!("shard-a-{leader}"));
        assert_eq!(refused.json()["error"]["outcome"], "not_applied");
    }
}

/// The leader goes: what was acknowledged is there, writes go on at the next one, and a feed of another member loses nothing.
#[tokio::test]
async fn a_feed_goes_on_over_a_change_of_leader() {
    let mut group = Member::group_with_acme(3).await;
    let first = group.leader(None).await;
    for n in 0..5 {
        group.admin_at(first).put(&file("shop", "a"), format!("{n}")).await;
    }
    let other = (first + 1) % 3;
    let mut feed = Feed::over(group.admin_at(other).channel).await;
    feed.subscribe(1, 1, Some(0)).await;
    assert_eq!(feed.revisions_to(5).await, [1, 2, 3, 4, 5]);

    group.stop_one(first).await.unwrap();
    let second = group.leader(Some(first)).await;
    let kept = group.admin_at(second).get(&format!("{}?consistency=linearizable", fetch("shop", "a"))).await;
    assert_eq!(&kept.body[..], b"4");
    let put = group.admin_at(second).put(&file("shop", "a"), "5").await;
    assert_eq!(put.json()["revision"], "1.6", "{put:?}");
    assert_eq!(feed.revisions_to(6).await, [6]);
    assert_eq!(feed.mark().await.revision, 6);
}

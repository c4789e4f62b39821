//! Attacks by many connections at once, and by one that does not listen.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use recorder_tests::attack::{After, LONGEST, Peer};
use recorder_tests::wait;
use rtmp::client::Client;
use rtmp::kind;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::framing::announce_everywhere;
use super::media::proper;
use super::vitals::Vitals;
use super::{DOMAIN, LARGEST};

/// Peers that announce 16 MB on 60 chunk streams each.
const ANNOUNCERS: usize = 500;
/// Connections that say nothing.
const IDLE: usize = 1_000;
/// Connections that say one byte now and then.
const DRIPPING: usize = 1_000;
/// Between two bytes of those.
const DRIP: Duration = Duration::from_millis(250);

/// 500 peers announce what may not be announced, then 500 publishers what just may: nothing is allocated on trust.
pub async fn announcers(address: &str, vitals: &Vitals) {
    for (after, length) in [(After::Connect, 0x00ff_ffff), (After::Publish, 0x00ff_ffff), (After::Publish, LARGEST)] {
        let bytes = Arc::new(announce_everywhere(kind::VIDEO, length));
        let mut tasks = JoinSet::new();
        for number in 0..ANNOUNCERS {
            let (address, bytes) = (address.to_owned(), Arc::clone(&bytes));
            tasks.spawn(async move {
                let stream = format!("announcer-{number}");
                let mut peer = Peer::reach(&address, DOMAIN, &stream, after).await?;
                peer.send(&bytes).await;
                let ended = if length == LARGEST { peer.is_served().await } else { peer.ended().await };
                ended.map(|()| peer)
            });
        }
        // The peers are kept, so that all of them are there at once.
        let peers: Vec<_> = tasks.join_all().await.into_iter().collect();
        let lost = peers.iter().filter_map(|peer| peer.as_ref().err()).next();
        assert_eq!(lost, None, "{ANNOUNCERS} peers announce {length} bytes {after:?}");
        vitals.check(&format!("{ANNOUNCERS} peers announce {length} bytes {after:?}"));
    }
}

/// 1,000 idle and 1,000 dripping connections at once; meanwhile a newcomer is served, and in the end all are gone.
pub async fn idle_and_dripping(address: &str, vitals: &Vitals) {
    vitals.until_quiet().await;
    let before = vitals.descriptors();
    // In turns: a listener has a backlog of 1024, and who does not fit in it only believes to be connected.
    let connections = stream::iter(0..IDLE + DRIPPING).map(|_| Peer::connect(address)).buffer_unordered(100);
    let connections: Vec<_> = connections.collect().await;
    // A few files come and go meanwhile.
    wait::until("all of them to be connected at once", async || {
        (vitals.peak_descriptors() + 16 >= before + IDLE + DRIPPING).then_some(())
    })
    .await;
    let mut tasks = JoinSet::new();
    for (number, peer) in connections.into_iter().enumerate() {
        let mut peer = peer.expect("connects");
        // Half of them say nothing, half drip, and of each half again half does so after a handshake.
        let after = if number % 4 < 2 { After::Nothing } else { After::Handshake };
        tasks.spawn(async move {
            peer.behave(DOMAIN, "idle", after).await?;
            if number % 2 == 0 { peer.ended().await } else { drip(peer, after).await }
        });
    }
    let mut newcomer = Peer::reach(address, DOMAIN, "newcomer", After::Publish).await.expect("a newcomer publishes");
    newcomer.send(&proper()).await;
    newcomer.is_served().await.expect("a newcomer is served");
    let open: Vec<_> = tasks.join_all().await.into_iter().filter_map(Result::err).collect();
    assert!(open.is_empty(), "{} connections were not closed: {:?}", open.len(), open.first());
    vitals.check("idle and dripping connections");
}

/// Behaves, byte by byte, until the node has had enough.
async fn drip(mut peer: Peer, after: After) -> Result<(), String> {
    let client = Client::new();
    let bytes = if after == After::Nothing { client.handshake() } else { client.connect("live", "rtmp://h/live") };
    let mut ticks = interval(DRIP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let dripping = async {
        for byte in bytes {
            ticks.tick().await;
            peer.send(&[byte]).await;
            if peer.is_closed() {
                return Ok(());
            }
        }
        Err("the node listened to the last drop".to_owned())
    };
    timeout(LONGEST, dripping).await.unwrap_or_else(|_| Err("still dripping".to_owned()))
}

/// A peer that makes the node talk and never reads is put off, publishing or not.
pub async fn deaf(address: &str, after: After) {
    let mut peer = Peer::reach(address, DOMAIN, "deaf", after).await.expect("connects");
    let ping = Client::new().control(kind::USER_CONTROL, &[0, 6, 1, 2, 3, 4]).repeat(4_000);
    let talk = async { while peer.send_deaf(&ping).await.is_ok() {} };
    timeout(LONGEST, talk).await.unwrap_or_else(|_| panic!("a deaf peer after {after:?} is still listened to"));
}

/// Publishers of one key, all at once and then one by one: the newest has it, the others are gone.
pub async fn newest_wins(address: &str) {
    let publish = || async { Peer::reach(address, DOMAIN, "contested", After::Publish).await.expect("publishes") };
    let crowd = join_all((0..30).map(|_| publish())).await;
    let mut newest = publish().await;
    newest.send(&proper()).await;
    for mut older in crowd {
        older.ended().await.expect("an older publisher is gone");
    }
    newest.is_served().await.expect("the newest publisher is served");
    for _ in 0..5 {
        let next = publish().await;
        newest.ended().await.expect("the older publisher is gone");
        assert!(newest.heard_text().contains("took over"), "it hears why: {}", newest.heard_text());
        newest = next;
        newest.send(&proper()).await;
        newest.is_served().await.expect("the newest publisher is served");
    }
}

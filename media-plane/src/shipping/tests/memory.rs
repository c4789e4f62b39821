//! What an object costs that waits for its bucket: an outage may last, and segments go on being closed.

use store::Kind;

use super::outages::refusing;
use super::*;

/// All that threads and tasks of this process hold.
fn held() -> usize {
    let stats = stats_alloc::INSTRUMENTED_SYSTEM.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

async fn close(yard: &Yard, writer: &mut Writer, numbers: std::ops::Range<u32>) {
    let all = numbers.end as usize;
    for number in numbers {
        object(writer, segment(number), pattern(100, number as u8));
    }
    yard.spool.flush().await;
    wait(|| (yard.lag.waiting() == all).then_some(())).await;
}

/// 5 KiB each made ten minutes of outage with twenty streams six megabytes.
#[tokio::test]
async fn an_object_that_waits_for_its_bucket_is_small() {
    const MOST: usize = 900;
    let yard = Yard::new(refusing(Kind::Timeout));
    let mut writer = yard.writer(&meta(Format::Hls));
    close(&yard, &mut writer, 0..500).await;
    let before = held();
    close(&yard, &mut writer, 500..1_500).await;
    let each = held().saturating_sub(before) / 1_000;
    println!("{each} bytes for an object that waits");
    assert!((100..MOST).contains(&each), "{each} bytes");
}

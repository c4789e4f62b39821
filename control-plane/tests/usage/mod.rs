//! Usage equals what the recordings and files themselves say, whatever fails on the way.
mod facts;
mod truth;

use recorder_proto::format::Format;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::format::Kind;
use recorder_proto::pb::v1::query_concurrency_request::GroupBy;
use recorder_proto::pb::v1::recording::EndReason;
use recorder_proto::pb::v1::usage_service_client::UsageServiceClient;
use recorder_proto::time::timestamp;
use tonic::transport::Channel;

use crate::link::control::{Control, on_each};
use crate::link::node::Node;
use crate::link::story::Story;
use crate::support::bad_fields;
use facts::{End, at, available, ended, interrupted, opened, plain, started};

const MINUTE: i64 = 60;

fn usage(control: &Control) -> UsageServiceClient<Channel> {
    UsageServiceClient::new(control.api.clone())
}

fn span(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn peaks_of(from: i64, to: i64, granularity: i64) -> v1::QueryConcurrencyRequest {
    v1::QueryConcurrencyRequest {
        start_time: Some(timestamp(at(from))),
        end_time: Some(timestamp(at(to))),
        granularity: span(granularity),
        ..Default::default()
    }
}

async fn peaks(control: &Control, request: v1::QueryConcurrencyRequest) -> v1::QueryConcurrencyResponse {
    usage(control).query_concurrency(request).await.unwrap().into_inner()
}

async fn volume(control: &Control, from: i64, to: i64, granularity: i64) -> Vec<v1::query_volume_response::Bucket> {
    let request = v1::QueryVolumeRequest {
        start_time: Some(timestamp(at(from))),
        end_time: Some(timestamp(at(to))),
        granularity: span(granularity),
        domains: Vec::new(),
    };
    usage(control).query_volume(request).await.unwrap().into_inner().buckets
}

/// The peaks of the only series.
fn line(reply: &v1::QueryConcurrencyResponse) -> Vec<u32> {
    assert_eq!(reply.series.len(), 1, "{reply:?}");
    reply.series[0].points.iter().map(|point| point.channels).collect()
}

#[test]
fn a_channel_counts_once_from_its_first_frame_to_the_end_of_its_window() {
    on_each(async |control| {
        control.clock.advance(std::time::Duration::from_secs(3_600));
        let mut node = Node::ready(&control, "m1").await;
        // 60 .. 150 and nobody came back before 210; 100 .. 130 without a window; 250 .. 260, stopped while waiting.
        let mut waiting = Story::new("a.example.com", "one");
        let mut facts = vec![
            started(&mut waiting, 60, &[Format::Hls, Format::Mp4]),
            opened(&mut waiting, 60, Format::Hls, 0),
            opened(&mut waiting, 70, Format::Mp4, 0),
            interrupted(&mut waiting, 150, 210, 90),
        ];
        let ended_so = |start, last, told, reason| End {
            start,
            last,
            told,
            media: last - start,
            reason,
            gaps: Vec::new(),
            formats: vec![(Format::Hls, 1)],
        };
        facts.push(ended(&mut waiting, ended_so(60, 150, 210, EndReason::ResumeTimeout)));
        let mut short = waiting.another("two");
        facts.extend(plain(&mut short, 100, 130));
        let mut stopped = short.another("three");
        facts.extend([
            started(&mut stopped, 250, &[Format::Hls]),
            opened(&mut stopped, 250, Format::Hls, 0),
            interrupted(&mut stopped, 260, 320, 10),
            ended(&mut stopped, ended_so(250, 260, 275, EndReason::Stopped)),
            // What comes later of its files does not make it longer.
            available(&mut stopped, [250, 260, 400], Format::Hls, 0, 10),
        ]);
        node.report(facts).await;

        let reply = peaks(&control, peaks_of(0, 360, MINUTE)).await;
        assert_eq!(line(&reply), [0, 2, 2, 1, 1, 0]);
        assert_eq!((reply.peak, reply.peak_time), (2, Some(timestamp(at(100)))));
        let seconds = |from: i64, to: i64| peaks_of(from, to, MINUTE);
        for (from, to, channels) in
            [(0, 60, 0), (60, 61, 1), (209, 210, 1), (210, 250, 0), (274, 275, 1), (275, 360, 0)]
        {
            assert_eq!(peaks(&control, seconds(from, to)).await.peak, channels, "{from} to {to}");
        }
        // By format: MP4 of the first begins ten seconds later, and lasts as long as the channel.
        let by_format = v1::QueryConcurrencyRequest { group_by: GroupBy::Format as i32, ..peaks_of(60, 70, MINUTE) };
        let reply = peaks(&control, by_format).await;
        assert_eq!(reply.series.iter().map(|series| series.key.as_str()).collect::<Vec<_>>(), ["HLS"]);
        let mp4 = v1::QueryConcurrencyRequest { formats: vec![Kind::Mp4 as i32], ..peaks_of(0, 360, MINUTE) };
        assert_eq!(line(&peaks(&control, mp4).await), [0, 2, 2, 1, 0, 0]);
        let either = vec![Kind::Mp4 as i32, Kind::Hls as i32];
        let either = v1::QueryConcurrencyRequest { formats: either, ..peaks_of(0, 360, MINUTE) };
        assert_eq!(line(&peaks(&control, either).await), [0, 2, 2, 1, 1, 0], "once, whatever the number of formats");
    });
}

#[test]
fn what_is_recorded_now_counts_until_now_and_no_further() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("a.example.com", "one");
        node.report(vec![started(&mut story, 1, &[Format::Mp4])]).await;
        control.clock.advance(std::time::Duration::from_secs(110));
        assert_eq!(line(&peaks(&control, peaks_of(0, 240, MINUTE)).await), [1, 1, 0, 0]);
        let buckets = volume(&control, 0, 240, MINUTE).await;
        let recorded: Vec<i64> = buckets.iter().map(|bucket| bucket.recorded.unwrap().seconds).collect();
        assert_eq!(recorded, [59, 30, 0, 0]);
        control.clock.advance(std::time::Duration::from_secs(60));
        assert_eq!(line(&peaks(&control, peaks_of(0, 240, MINUTE)).await), [1, 1, 1, 0]);
    });
}

#[test]
fn series_are_split_by_domain_and_template_and_filtered_by_domain() {
    on_each(async |control| {
        control.clock.advance(std::time::Duration::from_secs(3_600));
        let mut node = Node::ready(&control, "m1").await;
        control.template("show").await;
        let mut one = Story::new("a.example.com", "one");
        let mut facts = plain(&mut one, 10, 50);
        let mut two = one.another("two");
        two.template = "show";
        facts.extend(plain(&mut two, 20, 60));
        let mut three = Story { sequence: two.sequence, ..Story::new("b.example.com", "three") };
        facts.extend(plain(&mut three, 70, 80));
        node.report(facts).await;
        let series = async |request: v1::QueryConcurrencyRequest| {
            let reply = peaks(&control, request).await;
            assert_eq!(reply.peak, 2);
            let of = |series: v1::query_concurrency_response::Series| {
                (series.key, series.points.iter().map(|point| point.channels).collect::<Vec<_>>())
            };
            reply.series.into_iter().map(of).collect::<Vec<_>>()
        };
        let by =
            |group_by: GroupBy| v1::QueryConcurrencyRequest { group_by: group_by as i32, ..peaks_of(0, 120, MINUTE) };
        let found = series(by(GroupBy::Domain)).await;
        assert_eq!(found, [("a.example.com".to_owned(), vec![2, 0]), ("b.example.com".to_owned(), vec![0, 1])]);
        let found = series(by(GroupBy::Template)).await;
        assert_eq!(found, [("templates/default".to_owned(), vec![1, 1]), ("templates/show".to_owned(), vec![1, 0])]);
        let domains = vec!["domains/B.example.com".to_owned()];
        let only = v1::QueryConcurrencyRequest { domains, ..peaks_of(0, 120, MINUTE) };
        assert_eq!(line(&peaks(&control, only).await), [0, 1]);
    });
}

#[test]
fn bad_usage_requests_are_told_field_by_field() {
    on_each(async |control| {
        let nothing = v1::QueryConcurrencyRequest::default();
        assert_eq!(bad_fields(usage(&control).query_concurrency(nothing).await), ["end_time", "start_time"]);
        let wrong = v1::QueryConcurrencyRequest {
            granularity: span(61),
            domains: vec!["no domain".into()],
            formats: vec![0],
            group_by: 9,
            ..peaks_of(0, 60, 60)
        };
        let fields = bad_fields(usage(&control).query_concurrency(wrong).await);
        assert_eq!(fields, ["domains[0]", "formats", "granularity", "group_by"]);
        let long = v1::QueryVolumeRequest {
            start_time: Some(timestamp(at(0))),
            end_time: Some(timestamp(at(31 * 86_400 + 1))),
            ..Default::default()
        };
        assert_eq!(bad_fields(usage(&control).query_volume(long.clone()).await), ["end_time"]);
        let backwards = v1::QueryVolumeRequest { end_time: Some(timestamp(at(0))), ..long.clone() };
        assert_eq!(bad_fields(usage(&control).query_volume(backwards).await), ["end_time"]);
        let whole = v1::QueryVolumeRequest { end_time: Some(timestamp(at(31 * 86_400))), ..long };
        let buckets = usage(&control).query_volume(whole).await.unwrap().into_inner().buckets;
        assert_eq!(buckets.len(), 31 * 1_440, "a minute each, unless said otherwise");
    });
}

#[test]
fn usage_outlives_its_recordings_and_covers_what_an_older_release_recorded() {
    on_each(async |control| {
        control.clock.advance(std::time::Duration::from_secs(3_600));
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("a.example.com", "one");
        node.report(plain(&mut story, 10, 50)).await;
        let before = (peaks(&control, peaks_of(0, 120, MINUTE)).await, volume(&control, 0, 120, MINUTE).await);
        assert_eq!((before.0.peak, before.1[0].bytes_delivered), (1, 1_000));

        // As a release without accounts would have left it: another recording, with its file, entered nowhere.
        let id = story.recording.to_string();
        let moved = async |id: String| {
            let row = control.scratch.db.read({
                let id = id.clone();
                move |db| recorder_db::recordings::get(db, &id)
            });
            let row = row.await.unwrap().unwrap();
            let files = control.scratch.db.read(move |db| recorder_db::files::of_recording(db, &id));
            (row, files.await.unwrap())
        };
        let (row, files) = moved(id.clone()).await;
        let older = "00000000000000000000000001".to_owned();
        let entered = control.scratch.db.write(move |db| {
            let settings = recorder_db::settings::get(db, "usage_backfilled")?;
            recorder_db::recordings::delete(db, &row.id)?;
            recorder_db::recordings::insert(db, &recorder_db::recordings::Row { id: older.clone(), ..row })?;
            for file in files {
                recorder_db::files::insert(db, &recorder_db::files::Row { recording: older.clone(), ..file })?;
            }
            Ok::<_, recorder_db::Error>(settings)
        });
        let done = entered.await.unwrap();
        let after = (peaks(&control, peaks_of(0, 120, MINUTE)).await, volume(&control, 0, 120, MINUTE).await);
        assert_eq!(after, before, "the recording is gone, its usage is not");
        assert!(done.is_some(), "a new database has nothing to be entered");
        let page = recorder_db::Page { before: None, limit: 10 };
        let again = page.clone();
        let skipped = control.scratch.db.write(move |db| recorder_control::usage::backfill::enter(db, &again)).await;
        assert_eq!(skipped.unwrap(), None, "once and never again");
        let entered =
            control.scratch.db.write(move |db| recorder_control::usage::backfill::enter_page(db, &page)).await;
        assert_eq!(entered.unwrap().as_deref(), Some("00000000000000000000000001"));
        assert_eq!(line(&peaks(&control, peaks_of(0, 120, MINUTE)).await), [2, 0]);
        assert_eq!(volume(&control, 0, 120, MINUTE).await[0].bytes_delivered, 2_000);
    });
}

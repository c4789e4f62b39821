//! UsageService: peaks and volumes.
use std::time::Duration;

use recorder_proto::names::DomainName;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::query_concurrency_request::GroupBy;
use recorder_proto::pb::v1::usage_service_server::UsageService;
use recorder_proto::problem::Violations;
use recorder_proto::{Problem, limits, time};
use tonic::{Request, Response, Status, async_trait};

use super::validate::choice;
use super::{Api, answer};
use crate::usage::grid::{GRANULARITIES, Grid};
use crate::usage::query::{self, Bucket, Concurrency, Question};

#[async_trait]
impl UsageService for Api {
    async fn query_concurrency(
        &self,
        request: Request<v1::QueryConcurrencyRequest>,
    ) -> Result<Response<v1::QueryConcurrencyResponse>, Status> {
        answer(concurrency(self, request.into_inner()).await)
    }

    async fn query_volume(
        &self,
        request: Request<v1::QueryVolumeRequest>,
    ) -> Result<Response<v1::QueryVolumeResponse>, Status> {
        answer(volume(self, request.into_inner()).await)
    }
}

async fn concurrency(api: &Api, request: v1::QueryConcurrencyRequest) -> Result<v1::QueryConcurrencyResponse, Problem> {
    let mut violations = Violations::new();
    let grid =
        grid(&mut violations, [request.start_time.as_ref(), request.end_time.as_ref()], request.granularity.as_ref());
    let domains = domains(&mut violations, &request.domains);
    let formats = formats(&mut violations, &request.formats);
    let group_by = choice(&mut violations, "group_by", request.group_by, GroupBy::Unspecified);
    violations.finish()?;
    let grid = grid.ok_or_else(|| Problem::internal("the span was neither read nor refused"))?;
    let (now, max_points) = (time::micros(api.now()), limits::USAGE_POINTS_MAX);
    let question = Question { grid, domains, formats, group_by, now, max_points };
    let answered = api.db.read(move |db| query::concurrency(db, &question)).await?;
    let answered = answered.ok_or_else(|| {
        let message = format!("would give more than {max_points} points: make it coarser, or name fewer domains");
        Problem::invalid_field("granularity", message)
    })?;
    Ok(shown(&grid, answered))
}

async fn volume(api: &Api, request: v1::QueryVolumeRequest) -> Result<v1::QueryVolumeResponse, Problem> {
    let mut violations = Violations::new();
    let grid =
        grid(&mut violations, [request.start_time.as_ref(), request.end_time.as_ref()], request.granularity.as_ref());
    let domains = domains(&mut violations, &request.domains);
    violations.finish()?;
    let grid = grid.ok_or_else(|| Problem::internal("the span was neither read nor refused"))?;
    let (now, max_points) = (time::micros(api.now()), limits::USAGE_POINTS_MAX);
    let question = Question { grid, domains, formats: Vec::new(), group_by: GroupBy::Unspecified, now, max_points };
    let buckets = api.db.read(move |db| query::volume(db, &question)).await?;
    let bucket = |(index, bucket): (usize, &Bucket)| v1::query_volume_response::Bucket {
        time: Some(moment(grid.time(index))),
        recorded: Some(span(bucket.recorded)),
        transcoded: Some(span(bucket.transcoded)),
        bytes_delivered: bucket.bytes,
        files: bucket.files,
    };
    Ok(v1::QueryVolumeResponse { buckets: buckets.iter().enumerate().map(bucket).collect() })
}

fn shown(grid: &Grid, answered: Concurrency) -> v1::QueryConcurrencyResponse {
    use v1::query_concurrency_response::{Point, Series};
    let point = |(index, channels)| Point { time: Some(moment(grid.time(index))), channels };
    let series =
        |(key, points): (String, Vec<u32>)| Series { key, points: points.into_iter().enumerate().map(point).collect() };
    let peak = answered.peak;
    v1::QueryConcurrencyResponse {
        series: answered.series.into_iter().map(series).collect(),
        peak: peak.channels,
        peak_time: (peak.channels > 0).then(|| moment(peak.at)),
    }
}

/// The intervals of the span; None when something is wrong with it.
fn grid(
    violations: &mut Violations,
    bounds: [Option<&prost_types::Timestamp>; 2],
    granularity: Option<&prost_types::Duration>,
) -> Option<Grid> {
    let mut read = |field, wire: Option<&prost_types::Timestamp>| {
        let at = wire.and_then(time::datetime);
        violations.check(at.is_some(), field, "is required, as a time like 2026-11-01T00:00:00Z");
        at
    };
    let [start, end] = bounds;
    let bounds = (read("start_time", start), read("end_time", end));
    let asked = granularity.filter(|wire| (wire.seconds, wire.nanos) != (0, 0));
    let step = asked.map_or(Some(GRANULARITIES[0]), |wire| {
        let whole = (wire.nanos == 0).then_some(wire.seconds)?;
        GRANULARITIES.contains(&whole).then_some(whole)
    });
    let sent = asked.map(time::wire_text).unwrap_or_default();
    violations.check(step.is_some(), "granularity", format!("must be 60s, 300s, 3600s or 86400s, got {sent}"));
    let (Some(start), Some(end)) = bounds else { return None };
    let most = limits::USAGE_SPAN_MAX;
    let length = (end - start).to_std().ok().filter(|length| !length.is_zero());
    violations.check(length.is_some(), "end_time", "must be later than start_time");
    violations.check(
        length.is_none_or(|length| length <= most),
        "end_time",
        format!("must be at most {} days after start_time", most.as_secs() / 86_400),
    );
    length.filter(|length| *length <= most)?;
    Some(Grid::new(time::micros(start), time::micros(end), step?.saturating_mul(1_000_000)))
}

fn domains(violations: &mut Violations, given: &[String]) -> Vec<String> {
    let most = limits::USAGE_DOMAINS_MAX;
    violations.check(given.len() <= most, "domains", format!("must be at most {most}, got {}", given.len()));
    let given = given.iter().take(most).enumerate();
    let read = given.filter_map(|(at, text)| {
        violations.take(&format!("domains[{at}]"), text.parse::<DomainName>()).map(DomainName::into_id)
    });
    read.collect()
}

fn formats(violations: &mut Violations, given: &[i32]) -> Vec<i32> {
    let known =
        |format: &i32| v1::format::Kind::try_from(*format).is_ok_and(|kind| kind != v1::format::Kind::Unspecified);
    violations.check(given.iter().all(known), "formats", "must be some of HLS, FLV, MP4, AAC");
    let mut formats: Vec<i32> = given.iter().copied().filter(known).collect();
    formats.sort_unstable();
    formats.dedup();
    formats
}

fn moment(micros: i64) -> prost_types::Timestamp {
    time::timestamp(time::from_micros(micros))
}

fn span(micros: i64) -> prost_types::Duration {
    time::duration(Duration::from_micros(u64::try_from(micros).unwrap_or_default()))
}

//! Which directives record a stream, and why. One function for the media node and for `ExplainMatch`, so that what is
//! explained is what happens.
//!
//! Order, strongest first: tasks · rules for exactly one stream · rules with a glob (longest literal prefix, then higher
//! priority, then older) · bindings of an app · bindings of a domain. The strongest level that matches decides and stops
//! the ones below; SKIP at that level stops it too. Within the level of globs only the best rule counts, within the
//! others every one does, and each distinct template gives one recording. Tasks add recordings and stop nothing.

mod glob;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::fmt;

use chrono::{DateTime, Utc};

pub use glob::{is_exact, literal_prefix, matches};

use crate::names::StreamKey;
use crate::pb::{node, v1};
use crate::{limits, time};

/// How specific a directive is; a greater one is stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// A binding of a whole domain.
    Domain,
    /// A binding of one app of a domain.
    App,
    /// A rule with `*` in its stream.
    Glob,
    /// A rule for exactly one stream.
    Exact,
    /// A task.
    Task,
}

impl Level {
    /// What [`Level`] and priority look like in `Standing.rank`: level x 10000 + priority, so that a plain comparison
    /// of numbers already orders levels and, within one, priorities.
    const RANK_STEP: i32 = 10_000;

    const fn number(self) -> i32 {
        match self {
            Self::Domain => 1,
            Self::App => 2,
            Self::Glob => 3,
            Self::Exact => 4,
            Self::Task => 5,
        }
    }

    /// The level of a rule, from its stream pattern.
    pub fn of_rule(stream: &str) -> Self {
        if is_exact(stream) { Self::Exact } else { Self::Glob }
    }

    /// The level of a binding, from its app; empty = every app.
    pub fn of_binding(app: &str) -> Self {
        if app.is_empty() { Self::Domain } else { Self::App }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Domain => "binding of the domain",
            Self::App => "binding of the app",
            Self::Glob => "rule with a pattern",
            Self::Exact => "rule for exactly this stream",
            Self::Task => "task",
        })
    }
}

/// The `rank` of a standing directive.
pub fn rank(level: Level, priority: i32) -> i32 {
    level.number() * Level::RANK_STEP + priority.clamp(limits::PRIORITY_MIN, limits::PRIORITY_MAX)
}

/// The reverse of [`rank`]; `None` for numbers it never gives.
pub fn from_rank(rank: i32) -> Option<(Level, i32)> {
    [Level::Domain, Level::App, Level::Glob, Level::Exact, Level::Task].into_iter().find_map(|level| {
        let priority = rank.checked_sub(level.number() * Level::RANK_STEP)?;
        (limits::PRIORITY_MIN..=limits::PRIORITY_MAX).contains(&priority).then_some((level, priority))
    })
}

/// One directive as far as matching is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Push domain, lower case.
    pub domain: String,
    /// Exact or glob; empty = every app.
    pub app: String,
    /// Exact or glob; empty = every stream.
    pub stream: String,
    /// How specific it is.
    pub level: Level,
    /// Decides between globs with equally long literal prefixes.
    pub priority: i32,
    /// Between equals the older one wins.
    pub created: DateTime<Utc>,
    /// Keeps the stream from being recorded.
    pub skip: bool,
    /// `templates/{template}`; empty when `skip`.
    pub template: String,
    /// `tasks/..`, `rules/..` or `domains/../bindings/..`.
    pub origin: String,
}

/// Why a standing directive cannot take part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The rank is none that [`rank`] gives.
    #[error("rank {0} has no meaning")]
    Rank(i32),
    /// It neither skips nor says how to record.
    #[error("no plan with a template")]
    NoPlan,
    /// Patterns are bounded so that matching is.
    #[error("a pattern of more than {} bytes", limits::PATTERN_MAX_BYTES)]
    LongPattern,
}

impl TryFrom<&node::directive::Standing> for Standing {
    type Error = Unusable;
    fn try_from(wire: &node::directive::Standing) -> Result<Self, Unusable> {
        let (level, priority) = from_rank(wire.rank).ok_or(Unusable::Rank(wire.rank))?;
        let template = wire.plan.as_ref().and_then(|plan| plan.template.as_ref()).map(|template| template.name.clone());
        if !wire.skip && template.as_ref().is_none_or(String::is_empty) {
            return Err(Unusable::NoPlan);
        }
        if wire.app.len().max(wire.stream.len()) > limits::PATTERN_MAX_BYTES {
            return Err(Unusable::LongPattern);
        }
        Ok(Self {
            domain: wire.domain.clone(),
            app: wire.app.clone(),
            stream: wire.stream.clone(),
            level,
            priority,
            created: wire.create_time.as_ref().and_then(time::datetime).unwrap_or_default(),
            skip: wire.skip,
            template: if wire.skip { String::new() } else { template.unwrap_or_default() },
            origin: wire.origin.clone(),
        })
    }
}

impl Standing {
    /// Whether the directive is about this stream at all.
    pub fn applies_to(&self, stream: &StreamKey) -> bool {
        self.domain == stream.domain() && matches(&self.app, stream.app()) && matches(&self.stream, stream.stream())
    }

    /// Strongest first, and the same on every machine: the name decides what nothing else does.
    fn order(&self) -> impl Ord + '_ {
        let prefix = if self.level == Level::Glob { literal_prefix(&self.stream).len() } else { 0 };
        (Reverse(self.level), Reverse(prefix), Reverse(self.priority), self.created, &self.origin, &self.template)
    }
}

/// One directive that matches, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The directive.
    pub standing: &'a Standing,
    /// Whether it takes effect: it records, or it is the SKIP that decides.
    pub chosen: bool,
    /// One sentence for people.
    pub why: String,
}

/// One recording to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Winner<'a> {
    /// The directive that asks for it.
    pub standing: &'a Standing,
    /// Origins that ask for the same template and get no recording of their own.
    pub also: Vec<&'a str>,
}

/// Everything that matches a stream and the recordings that follow, both strongest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision<'a> {
    /// Everything that matches.
    pub candidates: Vec<Candidate<'a>>,
    /// One per distinct template; empty = the stream is not recorded.
    pub winners: Vec<Winner<'a>>,
}

/// Decides what records a stream. Order of the input does not matter.
pub fn decide<'a>(stream: &StreamKey, standing: impl IntoIterator<Item = &'a Standing>) -> Decision<'a> {
    let mut matching: Vec<&Standing> = standing.into_iter().filter(|s| s.applies_to(stream)).collect();
    matching.sort_by(|a, b| a.order().cmp(&b.order()));
    // The strongest of what is not a task rules its level, and every level below.
    let ruler = matching.iter().copied().find(|s| s.level != Level::Task);
    let skip = ruler.and_then(|ruler| matching.iter().copied().find(|s| decides(s, ruler) && s.skip));
    let mut decision = Decision::default();
    for standing in matching {
        let (chosen, why) = match ruler {
            _ if standing.level == Level::Task => decision.record(standing),
            Some(ruler) if decides(standing, ruler) => match skip {
                Some(skip) if std::ptr::eq(skip, standing) => {
                    (true, format!("this {} says SKIP, so nothing weaker records the stream", standing.level))
                }
                Some(skip) => (false, format!("{} says SKIP at the same level", skip.origin)),
                None => decision.record(standing),
            },
            Some(ruler) if ruler.level == standing.level => (false, beaten_glob(standing, ruler)),
            Some(ruler) => {
                (false, format!("{} ({}) is more specific than a {}", ruler.origin, ruler.level, standing.level))
            }
            // Only a task matches when there is no ruler, and tasks are dealt with above.
            None => (false, "nothing rules this level".to_owned()),
        };
        decision.candidates.push(Candidate { standing, chosen, why });
    }
    decision
}

/// Whether a directive has a say: it is on the ruling level, and among globs it is the best one.
fn decides(standing: &Standing, ruler: &Standing) -> bool {
    standing.level == ruler.level && (standing.level != Level::Glob || std::ptr::eq(standing, ruler))
}

fn beaten_glob(standing: &Standing, ruler: &Standing) -> String {
    let (own, best) = (literal_prefix(&standing.stream), literal_prefix(&ruler.stream));
    let reason = if own.len() < best.len() {
        format!("has the longer literal prefix (`{best}` against `{own}`)")
    } else if standing.priority < ruler.priority {
        format!("has the higher priority ({} against {})", ruler.priority, standing.priority)
    } else {
        "is older".to_owned()
    };
    format!("{} {reason}", ruler.origin)
}

impl<'a> Decision<'a> {
    /// Adds a recording, unless its template already makes one.
    fn record(&mut self, standing: &'a Standing) -> (bool, String) {
        if let Some(winner) = self.winners.iter_mut().find(|w| w.standing.template == standing.template) {
            winner.also.push(&standing.origin);
            return (
                true,
                format!(
                    "{} already records with {}; both are noted on one recording",
                    winner.standing.origin, standing.template
                ),
            );
        }
        self.winners.push(Winner { standing, also: Vec::new() });
        let why = match standing.level {
            Level::Task => format!("a task records with {} beside whatever rules and bindings do", standing.template),
            level => format!("the most specific match is a {level}; it records with {}", standing.template),
        };
        (true, why)
    }
}

impl From<&Decision<'_>> for v1::ExplainMatchResponse {
    fn from(decision: &Decision<'_>) -> Self {
        let candidate = |candidate: &Candidate<'_>| v1::explain_match_response::Candidate {
            source: candidate.standing.origin.clone(),
            template: candidate.standing.template.clone(),
            chosen: candidate.chosen,
            why: candidate.why.clone(),
        };
        Self {
            candidates: decision.candidates.iter().map(candidate).collect(),
            templates: decision.winners.iter().map(|winner| winner.standing.template.clone()).collect(),
        }
    }
}

//! RuleService: exceptions for single streams and patterns, and what would be recorded.
use prost::Message;
use recorder_db::{AnyConnection, domains, rules, templates};
use recorder_proto::names::{DomainName, RuleName, TemplateName};
use recorder_proto::pb::v1::rule_service_server::RuleService;
use recorder_proto::pb::v1::{
    CreateRuleRequest, DeleteRuleRequest, ExplainMatchRequest, ExplainMatchResponse, GetRuleRequest, ListRulesRequest,
    ListRulesResponse, Rule, UpdateRuleRequest, rule,
};
use recorder_proto::problem::Violations;
use recorder_proto::{Problem, limits, time};
use tonic::{Request, Response, Status, async_trait};

use super::change::{Call, Tx};
use super::validate::{self, etag, expect_etag, only_name};
use super::{Api, answer, explain, mask};
use crate::directives::names;
use crate::directives::source::Source;
use crate::directives::status::{self, Stage};
use crate::domain;

const KIND: &str = "rule";

#[async_trait]
impl RuleService for Api {
    async fn create_rule(&self, request: Request<CreateRuleRequest>) -> Result<Response<Rule>, Status> {
        answer(create(self, request.into_inner()).await)
    }

    async fn get_rule(&self, request: Request<GetRuleRequest>) -> Result<Response<Rule>, Status> {
        answer(get(self, request.into_inner()).await)
    }

    async fn list_rules(&self, request: Request<ListRulesRequest>) -> Result<Response<ListRulesResponse>, Status> {
        answer(list(self, request.into_inner()).await)
    }

    async fn update_rule(&self, request: Request<UpdateRuleRequest>) -> Result<Response<Rule>, Status> {
        answer(update(self, request.into_inner()).await)
    }

    async fn delete_rule(&self, request: Request<DeleteRuleRequest>) -> Result<Response<()>, Status> {
        answer(delete(self, request.into_inner()).await)
    }

    async fn explain_match(
        &self,
        request: Request<ExplainMatchRequest>,
    ) -> Result<Response<ExplainMatchResponse>, Status> {
        answer(explain::explain(self, request.into_inner()).await)
    }
}

async fn create(api: &Api, request: CreateRuleRequest) -> Result<Rule, Problem> {
    let mut violations = Violations::new();
    let id = match request.rule_id.as_str() {
        "" => Some(api.mint.id(RuleName::COLLECTION, api.now())),
        given => violations.take("rule_id", given.parse::<RuleName>()).map(RuleName::into_id),
    };
    let rule = domain::rule::effective(request.rule.clone().unwrap_or_default(), &mut violations);
    violations.finish()?;
    let id = id.unwrap_or_default();
    let call = Call {
        method: "recorder.v1.RuleService/CreateRule",
        request_id: request.request_id.clone(),
        validate_only: request.validate_only,
    };
    let insert = move |tx: &mut Tx<'_>, _| {
        if rules::get(tx.connection, &id)?.is_some() {
            return Err(Problem::exists(KIND, &full_name(&id)));
        }
        validate::quota("rules", rules::count(tx.connection)?, limits::RULES_MAX)?;
        let references = References::of(&rule)?;
        references.check(tx.connection, &id, &rule)?;
        let now = tx.micros();
        let row = rules::Row {
            id,
            uid: tx.uid(),
            rev: 1,
            domain: references.domain,
            app: rule.app.clone(),
            stream: rule.stream.clone(),
            template: references.template,
            body: rule.encode_to_vec(),
            create_time: now,
            update_time: now,
        };
        rules::insert(tx.connection, &row)?;
        changed(tx, "rule.created", row)
    };
    api.change(call, request, insert).await
}

async fn get(api: &Api, request: GetRuleRequest) -> Result<Rule, Problem> {
    let name: RuleName = only_name("name", &request.name)?;
    let now = api.now();
    api.db
        .read(move |connection| {
            let row = existing(connection, &name)?;
            one(show(connection, &[row], now)?)
        })
        .await
}

async fn list(api: &Api, request: ListRulesRequest) -> Result<ListRulesResponse, Problem> {
    let mut violations = Violations::new();
    let domain: Option<DomainName> = validate::optional_name(&mut violations, "domain", &request.domain);
    let template: Option<TemplateName> = validate::optional_name(&mut violations, "template", &request.template);
    let scope = ListRulesRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    let (size, token) = (request.page_size, &request.page_token);
    let paging = api.tokens.paging(&mut violations, "RuleService/ListRules", &scope, size, token);
    violations.finish()?;
    let (page, now, tokens) = (paging.page(), api.now(), api.tokens.clone());
    let filter =
        rules::Filter { domain: domain.map(DomainName::into_id), template: template.map(TemplateName::into_id) };
    api.db
        .read(move |connection| {
            let mut rows = rules::page(connection, &filter, &page)?;
            let next_page_token = tokens.next(&paging, &mut rows, |row| row.uid.clone());
            Ok(ListRulesResponse { rules: show(connection, &rows, now)?, next_page_token })
        })
        .await
}

async fn update(api: &Api, request: UpdateRuleRequest) -> Result<Rule, Problem> {
    let patch = request.rule.clone().unwrap_or_default();
    let name: RuleName = only_name("rule.name", &patch.name)?;
    let call =
        Call { method: "recorder.v1.RuleService/UpdateRule", validate_only: request.validate_only, ..Call::default() };
    let replace = move |tx: &mut Tx<'_>, request: UpdateRuleRequest| {
        let row = existing(tx.connection, &name)?;
        expect_etag(&patch.etag, &etag(&row.uid, row.rev))?;
        let current = row.rule()?;
        let mut violations = Violations::new();
        let mask = request.update_mask.as_ref();
        let merged = mask::apply(".recorder.v1.Rule", &current, &patch, mask, &mut violations);
        let rule = domain::rule::effective(merged, &mut violations);
        violations.finish()?;
        if rule == current {
            return one(show(tx.connection, &[row], tx.now)?);
        }
        let references = References::of(&rule)?;
        references.check(tx.connection, &row.id, &rule)?;
        let changes = rules::Row {
            domain: references.domain,
            app: rule.app.clone(),
            stream: rule.stream.clone(),
            template: references.template,
            body: rule.encode_to_vec(),
            update_time: tx.micros(),
            ..row
        };
        rules::update(tx.connection, &changes)?;
        changed(tx, "rule.updated", rules::Row { rev: changes.rev + 1, ..changes })
    };
    api.change(call, request, replace).await
}

async fn delete(api: &Api, request: DeleteRuleRequest) -> Result<(), Problem> {
    let name: RuleName = only_name("name", &request.name)?;
    let call = Call::plain("recorder.v1.RuleService/DeleteRule");
    let forget = move |tx: &mut Tx<'_>, request: DeleteRuleRequest| {
        let row = existing(tx.connection, &name)?;
        expect_etag(&request.etag, &etag(&row.uid, row.rev))?;
        remove(tx, &row)?;
        tx.recompile()
    };
    api.change(call, request, forget).await
}

/// Removes a rule; the caller recompiles.
pub(super) fn remove(tx: &mut Tx<'_>, row: &rules::Row) -> Result<(), Problem> {
    let last = one(show(tx.connection, std::slice::from_ref(row), tx.now)?)?;
    rules::delete(tx.connection, &row.id)?;
    tx.touch(Source::Rule(row.id.clone()));
    tx.event("rule.deleted", &last.name, &last)
}

fn changed(tx: &mut Tx<'_>, kind: &str, row: rules::Row) -> Result<Rule, Problem> {
    tx.touch(Source::Rule(row.id.clone()));
    tx.recompile()?;
    let rule = one(show(tx.connection, &[row], tx.now)?)?;
    tx.event(kind, &rule.name, &rule)?;
    Ok(rule)
}

fn existing(connection: &mut AnyConnection, name: &RuleName) -> Result<rules::Row, Problem> {
    rules::get(connection, name.id())?.ok_or_else(|| Problem::not_found(KIND, &name.to_string()))
}

/// `rules/{id}`.
pub(super) fn full_name(id: &str) -> String {
    format!("{}/{id}", RuleName::COLLECTION)
}

/// Ids that a checked rule refers to.
struct References {
    domain: String,
    template: Option<String>,
}

impl References {
    fn of(rule: &Rule) -> Result<Self, Problem> {
        let domain: DomainName = only_name("rule.domain", &rule.domain)?;
        let template = rule.template.parse::<TemplateName>().ok();
        Ok(Self { domain: domain.into_id(), template: template.map(TemplateName::into_id) })
    }

    /// What a rule refers to must exist, and a second rule that does the same would only confuse.
    fn check(&self, connection: &mut AnyConnection, id: &str, rule: &Rule) -> Result<(), Problem> {
        if domains::get(connection, &self.domain)?.is_none() {
            return Err(Problem::not_found("domain", &rule.domain));
        }
        if let Some(template) = &self.template
            && templates::get(connection, template)?.is_none()
        {
            return Err(Problem::not_found("template", &rule.template));
        }
        let same = rules::of_pattern(connection, &self.domain, &rule.app, &rule.stream)?;
        match same.iter().find(|other| other.id != id && other.template == self.template) {
            Some(other) => Err(Problem::exists(KIND, &full_name(&other.id))),
            None => Ok(()),
        }
    }
}

/// Rows as users see them, with how far they have come.
fn show(
    connection: &mut AnyConnection,
    rows: &[rules::Row],
    now: chrono::DateTime<chrono::Utc>,
) -> Result<Vec<Rule>, Problem> {
    let directives: Vec<String> = rows.iter().map(|row| names::rule(&row.id)).collect();
    let standings = status::standings(connection, &directives, now)?;
    let timestamp = |micros| Some(time::timestamp(time::from_micros(micros)));
    let mut shown = Vec::with_capacity(rows.len());
    for (row, standing) in rows.iter().zip(standings) {
        let rule = row.rule()?;
        // Nodes are not told of a disabled rule, so there is nothing for them to apply.
        let state = match standing.stage {
            _ if rule.disabled => rule::State::Unspecified,
            Stage::Pending => rule::State::Pending,
            Stage::Active => rule::State::Active,
            Stage::Rejected => rule::State::Rejected,
        };
        shown.push(Rule {
            name: full_name(&row.id),
            state: state.into(),
            error: standing.error,
            create_time: timestamp(row.create_time),
            update_time: timestamp(row.update_time),
            etag: etag(&row.uid, row.rev),
            ..rule
        });
    }
    Ok(shown)
}

fn one(shown: Vec<Rule>) -> Result<Rule, Problem> {
    shown.into_iter().next().ok_or_else(|| Problem::internal("a rule vanished within its transaction"))
}

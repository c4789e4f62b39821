//! AccessService: tokens are created, listed and revoked; their secrets are shown once.
use prost::Message;
use recorder_db::tokens::{self, Row};
use recorder_proto::names::{DomainName, TokenName};
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::access_service_server::AccessService;
use recorder_proto::pb::v1::token::Role;
use recorder_proto::problem::Violations;
use recorder_proto::{Problem, limits, time};
use tonic::{Request, Response, Status, async_trait};

use super::change::{Call, Tx};
use super::validate::only_name;
use super::{Api, answer};
use crate::access::{Caller, secret};

const CREATE: &str = "recorder.v1.AccessService/CreateToken";
const LIST: &str = "recorder.v1.AccessService/ListTokens";
const REVOKE: &str = "recorder.v1.AccessService/RevokeToken";

#[async_trait]
impl AccessService for Api {
    async fn create_token(&self, request: Request<v1::CreateTokenRequest>) -> Result<Response<v1::Token>, Status> {
        let by = by(&request);
        let made = create(self, request.into_inner()).await;
        if let Ok(token) = &made {
            tracing::info!(token = token.name, prefix = token.prefix, by, "token created");
        }
        answer(made)
    }

    async fn list_tokens(
        &self,
        request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensResponse>, Status> {
        answer(list(self, request.into_inner()).await)
    }

    async fn revoke_token(&self, request: Request<v1::RevokeTokenRequest>) -> Result<Response<()>, Status> {
        let (by, name) = (by(&request), request.get_ref().name.clone());
        let revoked = revoke(self, request.into_inner()).await;
        if revoked.is_ok() {
            tracing::info!(token = name, by, "token revoked");
        }
        answer(revoked)
    }
}

/// Who asks, for the log.
fn by<T>(request: &Request<T>) -> String {
    request.extensions().get::<Caller>().map_or_else(String::new, |caller| caller.name.to_string())
}

async fn create(api: &Api, request: v1::CreateTokenRequest) -> Result<v1::Token, Problem> {
    let token = checked(api, request.token.clone().unwrap_or_default())?;
    let made = secret::make();
    let shown = made.clone();
    let reply = api.change(Call::plain(CREATE), request, move |tx, _| insert(tx, token, &made)).await?;
    Ok(v1::Token { secret: shown, ..reply })
}

fn insert(tx: &mut Tx<'_>, mut token: v1::Token, made: &str) -> Result<v1::Token, Problem> {
    let most = limits::TOKENS_MAX;
    if usize::try_from(tokens::count(tx.connection)?).unwrap_or(usize::MAX) >= most {
        return Err(Problem::too_many("tokens", most));
    }
    let id = tx.uid();
    token.name = format!("tokens/{id}");
    token.prefix = secret::prefix(made);
    token.create_time = Some(time::timestamp(tx.now));
    let row = Row {
        id,
        hash: secret::hash(made).to_vec(),
        body: token.encode_to_vec(),
        expire_time: token.expire_time.as_ref().and_then(time::datetime).map(time::micros),
        last_used_time: None,
        create_time: tx.micros(),
    };
    tokens::insert(tx.connection, &row)?;
    Ok(token)
}

/// The token as it will be kept: what the caller says of it, in order and once.
fn checked(api: &Api, token: v1::Token) -> Result<v1::Token, Problem> {
    let mut violations = Violations::new();
    let most = limits::DISPLAY_NAME_MAX_BYTES;
    let sound = token.display_name.len() <= most && !token.display_name.chars().any(char::is_control);
    violations.check(
        sound,
        "token.display_name",
        format!("must be at most {most} bytes without control characters, got {}", token.display_name.len()),
    );
    let roles = roles(&mut violations, &token.roles);
    let domains = domains(&mut violations, &token.domains);
    let alone = !roles.contains(&Role::Node) || (roles.len() == 1 && domains.is_empty());
    violations.check(alone, "token.roles", "NODE must be the only role, of a token that is limited to no domains");
    if let Some(wire) = &token.expire_time {
        let at = time::datetime(wire);
        let ahead = at.is_some_and(|at| at > api.now());
        violations.check(ahead, "token.expire_time", format!("must be later than now, which is {}", api.now()));
    }
    violations.finish()?;
    Ok(v1::Token {
        display_name: token.display_name,
        roles: roles.into_iter().map(i32::from).collect(),
        domains,
        expire_time: token.expire_time,
        ..v1::Token::default()
    })
}

fn roles(violations: &mut Violations, given: &[i32]) -> Vec<Role> {
    let known = |role: &i32| Role::try_from(*role).ok().filter(|role| *role != Role::Unspecified);
    let mut roles: Vec<Role> = given.iter().filter_map(known).collect();
    let sound = !roles.is_empty() && roles.len() == given.len();
    violations.check(sound, "token.roles", "must be at least one of VIEWER, OPERATOR, ADMIN, NODE, and nothing else");
    roles.sort_by_key(|role| i32::from(*role));
    roles.dedup();
    roles
}

fn domains(violations: &mut Violations, given: &[String]) -> Vec<String> {
    let most = limits::TOKEN_DOMAINS_MAX;
    violations.check(given.len() <= most, "token.domains", format!("must be at most {most}, got {}", given.len()));
    let given = given.iter().take(most).enumerate();
    let read = given.filter_map(|(at, text)| {
        violations.take(&format!("token.domains[{at}]"), text.parse::<DomainName>()).map(DomainName::into_id)
    });
    let mut domains: Vec<String> = read.collect();
    domains.sort();
    domains.dedup();
    domains
}

async fn list(api: &Api, request: v1::ListTokensRequest) -> Result<v1::ListTokensResponse, Problem> {
    let mut violations = Violations::new();
    let empty = v1::ListTokensRequest::default();
    let paging = api.tokens.paging(&mut violations, LIST, &empty, request.page_size, &request.page_token);
    violations.finish()?;
    let page = paging.page();
    let mut rows = api.db.read(move |db| tokens::page(db, &page)).await?;
    let next_page_token = api.tokens.next(&paging, &mut rows, |row| row.id.clone());
    let tokens = rows.iter().map(shown).collect::<recorder_db::Result<Vec<_>>>()?;
    Ok(v1::ListTokensResponse { tokens, next_page_token })
}

fn shown(row: &Row) -> recorder_db::Result<v1::Token> {
    let last_used_time = row.last_used_time.map(time::from_micros).map(time::timestamp);
    Ok(v1::Token { last_used_time, ..row.token()? })
}

async fn revoke(api: &Api, request: v1::RevokeTokenRequest) -> Result<(), Problem> {
    let name: TokenName = only_name("name", &request.name)?;
    let change = api.change(Call::plain(REVOKE), request, move |tx, _| {
        match tokens::delete(tx.connection, &name.0.to_string())? {
            true => Ok(()),
            false => Err(Problem::not_found("token", &name.to_string())),
        }
    });
    change.await?;
    api.revocations.ring();
    Ok(())
}

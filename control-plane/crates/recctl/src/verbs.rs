//! list, get, create, update, delete and call: one way for every resource, led by the contract's descriptors.

use prost_reflect::{Kind, MessageDescriptor, MethodDescriptor};
use serde_json::{Map, Value, json};

use crate::arguments::{Arguments, Output};
use crate::connection::{Connection, Messages};
use crate::contract::{self, Resource};
use crate::failure::Failure;
use crate::fields;
use crate::print::{self, say};
use crate::{columns, table};

/// Entries asked for at a time.
const PAGE: usize = 1_000;

/// `list WHAT [field=value ...]`: every page, up to `--limit`.
pub async fn list(connection: &Connection, arguments: &Arguments, words: &[String]) -> Result<(), Failure> {
    let (what, words) = first(words, "list what? for example recctl list templates")?;
    let resource = contract::resource_called(what)?;
    let method = contract::method(resource.list)?;
    let mut request = Map::new();
    // `list files recordings/...` reads better than parent=recordings/...
    let (parents, words): (Vec<_>, Vec<_>) = words.iter().cloned().partition(|word| !word.contains('='));
    match parents.as_slice() {
        [] => {}
        [parent] if method.input().get_field_by_name("parent").is_some() => {
            request.insert("parent".to_owned(), json!(parent));
        }
        [other, ..] => return Err(Failure::Usage(format!("{other} is no field=value"))),
    }
    fill(&mut request, &method.input(), &words)?;
    let limit = arguments.limit()?;
    let field = entries(&method, resource)?;
    let mut found: Vec<Value> = Vec::new();
    let more = loop {
        request.insert("page_size".to_owned(), json!(PAGE.min(limit - found.len())));
        let reply = call(connection, &method, &request, arguments.output()? == Output::Table).await?;
        let named = |name: &str, other: &str| reply.get(name).or_else(|| reply.get(other)).cloned();
        if let Some(Value::Array(page)) = named(&field.0, &field.1) {
            found.extend(page);
        }
        match named("next_page_token", "nextPageToken") {
            Some(token) if found.len() < limit => request.insert("page_token".to_owned(), token),
            token => break token.is_some(),
        };
    };
    match arguments.output()? {
        Output::Json => say(&print::pretty(&Value::Array(found)))?,
        Output::Table => {
            let columns = columns::of(resource.singular);
            let heads: Vec<&str> = columns.iter().map(|(head, _)| *head).collect();
            let rows: Vec<Vec<String>> =
                found.iter().map(|entry| columns.iter().map(|(_, cell)| cell.of(entry)).collect()).collect();
            say(&table::rows(&heads, &rows))?;
        }
    }
    if more {
        eprintln!("recctl: there are more; --limit raises the number shown");
    }
    Ok(())
}

/// `get NAME` or `get WHAT ID`.
pub async fn get(connection: &Connection, arguments: &Arguments, words: &[String]) -> Result<(), Failure> {
    let (resource, name, words) = named(words)?;
    if resource.get.is_empty() {
        let plural = resource.plural;
        return Err(Failure::Usage(format!("{plural} are not read one by one; recctl list {plural} shows them")));
    }
    let mut request = Map::from_iter([("name".to_owned(), json!(name))]);
    answer(connection, arguments, resource.get, &mut request, words).await
}

/// `create WHAT [ID] [field=value ...]`: fields of the resource, or of the request where only that has them.
pub async fn create(connection: &Connection, arguments: &Arguments, words: &[String]) -> Result<(), Failure> {
    let (what, words) = first(words, "create what? for example recctl create template show mp4={}")?;
    let resource = contract::resource_called(what)?;
    let method = contract::method(able(resource.create, resource, "created")?)?;
    let mut request = Map::new();
    let words = match words.split_first() {
        Some((id, rest)) if !id.contains('=') => {
            // A binding is known by its template.
            let field = [format!("{}_id", resource.singular), "template".to_owned()];
            let field = field.into_iter().find(|field| method.input().get_field_by_name(field).is_some());
            let field = field.ok_or_else(|| Failure::Usage(format!("{what} gets its id from the server, not {id}")))?;
            request.insert(field, json!(id));
            rest
        }
        _ => words,
    };
    within(&mut request, &method, resource, arguments, words)?;
    answer(connection, arguments, resource.create, &mut request, &[]).await
}

/// `update NAME field=value ...`; `field=` takes the value away.
pub async fn update(connection: &Connection, arguments: &Arguments, words: &[String]) -> Result<(), Failure> {
    let (resource, name, words) = named(words)?;
    let method = contract::method(able(resource.update, resource, "changed")?)?;
    let mut request = Map::new();
    within(&mut request, &method, resource, arguments, words)?;
    let body = request.entry(resource.singular.to_owned()).or_insert_with(|| json!({}));
    if let Value::Object(body) = body {
        body.insert("name".to_owned(), json!(name));
    }
    // Without a mask what is set counts, and nothing can be unset.
    if words.iter().any(|word| word.ends_with('=')) {
        let paths = words.iter().filter_map(|word| word.split_once('=')).map(|(path, _)| path);
        request.insert("update_mask".to_owned(), json!(camel_paths(&paths.collect::<Vec<_>>().join(","))));
    }
    answer(connection, arguments, resource.update, &mut request, &[]).await
}

/// `delete NAME [field=value ...]`.
pub async fn delete(connection: &Connection, arguments: &Arguments, words: &[String]) -> Result<(), Failure> {
    let (resource, name, words) = named(words)?;
    let method = able(resource.delete, resource, "deleted")?;
    let mut request = Map::new();
    if resource.singular == "binding" {
        let parts: Vec<&str> = name.split('/').collect();
        let ["domains", domain, "bindings", binding] = parts.as_slice() else {
            return Err(Failure::Usage("a binding is domains/DOMAIN/bindings/TEMPLATE[~APP]".to_owned()));
        };
        let (template, app) = binding.split_once('~').unwrap_or((binding, ""));
        request = Map::from_iter([
            ("template".to_owned(), json!(template)),
            ("domains".to_owned(), json!([domain])),
            ("app".to_owned(), json!(app)),
        ]);
    } else {
        request.insert("name".to_owned(), json!(name));
    }
    answer(connection, arguments, method, &mut request, words).await
}

/// `call METHOD [JSON] [field=value ...]`: any method of the API, with grpcurl's bodies.
pub async fn any(connection: &Connection, arguments: &Arguments, words: &[String]) -> Result<(), Failure> {
    let (name, words) = first(words, "call what? for example recctl call StopRecording name=recordings/...")?;
    let method = contract::method(name)?;
    let (json, words) = match words.split_first() {
        Some((json, rest)) if json.starts_with('{') => (Some(json.clone()), rest),
        _ => (None, words),
    };
    let mut request = match json {
        Some(json) => object(&json)?,
        None => body(arguments)?,
    };
    if !method.is_server_streaming() {
        return answer(connection, arguments, name, &mut request, words).await;
    }
    fill(&mut request, &method.input(), words)?;
    let mut messages = open(connection, &method, request).await?;
    while let Some(bytes) = messages.message().await? {
        say(&contract::to_json(method.output(), &bytes, false)?.to_string())?;
    }
    Ok(())
}

/// Starts a streaming call.
pub async fn open(
    connection: &Connection,
    method: &MethodDescriptor,
    request: Map<String, Value>,
) -> Result<Messages, Failure> {
    let message = contract::from_json(method.input(), Value::Object(request))?;
    connection.stream(&contract::path(method), &message).await
}

/// Puts `field=value` words into a request.
pub fn fill(request: &mut Map<String, Value>, message: &MessageDescriptor, words: &[String]) -> Result<(), Failure> {
    for word in words {
        let (path, text) = fields::split(word)?;
        fields::assign(request, message, path, text)?;
    }
    Ok(())
}

/// The first word and the rest.
pub fn first<'a>(words: &'a [String], question: &str) -> Result<(&'a str, &'a [String]), Failure> {
    let (first, rest) = words.split_first().ok_or_else(|| Failure::Usage(question.to_owned()))?;
    Ok((first, rest))
}

async fn call(
    connection: &Connection,
    method: &MethodDescriptor,
    request: &Map<String, Value>,
    contract_names: bool,
) -> Result<Value, Failure> {
    let message = contract::from_json(method.input(), Value::Object(request.clone()))?;
    let reply = connection.bytes(&contract::path(method), &message).await?;
    contract::to_json(method.output(), &reply, contract_names)
}

/// Calls and prints the reply.
async fn answer(
    connection: &Connection,
    arguments: &Arguments,
    method: &str,
    request: &mut Map<String, Value>,
    words: &[String],
) -> Result<(), Failure> {
    let method = contract::method(method)?;
    fill(request, &method.input(), words)?;
    let output = arguments.output()?;
    let reply = call(connection, &method, request, output == Output::Table).await?;
    match output {
        Output::Json => say(&print::pretty(&reply)),
        Output::Table if reply.as_object().is_some_and(Map::is_empty) => say("done"),
        Output::Table => say(&table::fields(&reply)),
    }
}

/// The field of a list's reply that holds the entries, under both spellings.
fn entries(method: &MethodDescriptor, resource: &Resource) -> Result<(String, String), Failure> {
    let field = method.output().get_field_by_name(resource.plural);
    let field = field.ok_or_else(|| Failure::Usage(format!("{} cannot be listed", resource.plural)))?;
    Ok((field.name().to_owned(), field.json_name().to_owned()))
}

fn able<'a>(method: &'a str, resource: &Resource, verb: &str) -> Result<&'a str, Failure> {
    if method.is_empty() {
        return Err(Failure::Usage(format!("{} cannot be {verb}", resource.plural)));
    }
    Ok(method)
}

/// `templates/show ...` or `template show ...`.
fn named(words: &[String]) -> Result<(&'static Resource, String, &[String]), Failure> {
    let (first, rest) = first(words, "which one? for example templates/show")?;
    if first.contains('/') {
        return Ok((contract::resource_of(first)?, first.to_owned(), rest));
    }
    let resource = contract::resource_called(first)?;
    match rest.split_first() {
        Some((id, rest)) if !id.contains('=') => Ok((resource, id.clone(), rest)),
        _ => Err(Failure::Usage(format!("which {}?", resource.singular))),
    }
}

/// Fields of the resource inside the request, or of the request itself where only that has them.
fn within(
    request: &mut Map<String, Value>,
    method: &MethodDescriptor,
    resource: &Resource,
    arguments: &Arguments,
    words: &[String],
) -> Result<(), Failure> {
    let whole = method.input();
    let field = whole.get_field_by_name(resource.singular);
    let inner = field.and_then(|field| match field.kind() {
        Kind::Message(message) => Some(message),
        _ => None,
    });
    let Some(inner) = inner else {
        request.extend(body(arguments)?);
        return fill(request, &whole, words);
    };
    let mut object = body(arguments)?;
    for word in words {
        let (path, text) = fields::split(word)?;
        let head = path.split('.').next().unwrap_or(path);
        let has = |message: &MessageDescriptor| {
            message.get_field_by_name(head).or_else(|| message.get_field_by_json_name(head)).is_some()
        };
        if !has(&inner) && has(&whole) {
            fields::assign(request, &whole, path, text)?;
        } else {
            fields::assign(&mut object, &inner, path, text)?;
        }
    }
    request.insert(resource.singular.to_owned(), Value::Object(object));
    Ok(())
}

/// The JSON of `--file`; empty without.
fn body(arguments: &Arguments) -> Result<Map<String, Value>, Failure> {
    let Some(path) = arguments.get("--file") else { return Ok(Map::new()) };
    let text = match path {
        "-" => std::io::read_to_string(std::io::stdin()),
        path => std::fs::read_to_string(path),
    };
    object(&text.map_err(|error| Failure::Io { what: path.to_owned(), error })?)
}

fn object(text: &str) -> Result<Map<String, Value>, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::Usage(format!("not a JSON object: {error}")))
}

/// A mask in JSON has camelCase paths.
fn camel_paths(paths: &str) -> String {
    let mut camel = String::new();
    let mut letters = paths.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '_' => camel.extend(letters.next().map(|letter| letter.to_ascii_uppercase())),
            letter => camel.push(letter),
        }
    }
    camel
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_spelled_as_json_wants_it() {
        assert_eq!(camel_paths("mp4.max_file_duration,display_name"), "mp4.maxFileDuration,displayName");
    }

    #[test]
    fn a_name_is_given_whole_or_by_kind_and_id() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let of = |line: &str| named(&words(line)).map(|(resource, name, rest)| (resource.singular, name, rest.len()));
        assert_eq!(of("templates/show x=1").unwrap(), ("template", "templates/show".to_owned(), 1));
        assert_eq!(of("template show").unwrap(), ("template", "show".to_owned(), 0));
        assert!(of("template").is_err() && of("template x=1").is_err() && of("show").is_err());
    }
}

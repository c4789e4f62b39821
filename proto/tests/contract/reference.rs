//! `proto/REFERENCE.md`: the public API for people, from the comments of the contract. The test compares;
//! `UPDATE_SNAPSHOTS=1 cargo nextest run -p recorder-proto reference` writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, ServiceDescriptorProto};

use crate::walk::{Contract, type_name};

const PACKAGE: &str = "recorder.v1";

const HEAD: &str = "# Reference of the API\n\n\
    Every service and message of package `recorder.v1`, made from the comments of the `.proto` files beside this one; a\n\
    test keeps it so. `google.protobuf` types are written in JSON as usual: a Timestamp as `2026-11-22T13:37:14Z`, a\n\
    Duration as `3600s`, 64-bit numbers as strings. Errors carry `google.rpc` details, `ErrorInfo.reason` first.\n\n";

/// What the writing of every section needs.
struct Reference {
    contract: Contract,
    /// Comments by full name.
    comments: BTreeMap<String, String>,
    text: String,
}

impl Reference {
    fn of(contract: Contract) -> String {
        let mut comments = BTreeMap::new();
        let mut note = |name: &str, comment: &str| drop(comments.insert(name.to_owned(), comment.to_owned()));
        contract.services.iter().for_each(|element| note(&element.name, &element.comment));
        contract.methods.iter().for_each(|element| note(&element.name, &element.comment));
        contract.messages.iter().for_each(|element| note(&element.name, &element.comment));
        contract.fields.iter().for_each(|element| note(&element.name, &element.comment));
        contract.enums.iter().for_each(|element| note(&element.name, &element.comment));
        contract.values.iter().for_each(|element| note(&element.name, &element.comment));
        let files: Vec<_> = contract.files.iter().filter(|file| file.package() == PACKAGE).cloned().collect();
        let mut reference = Self { contract, comments, text: HEAD.to_owned() };
        reference.contents(&files);
        files.iter().for_each(|file| reference.file(file));
        reference.text.truncate(reference.text.trim_end().len());
        reference.text + "\n"
    }

    /// Which service has which rpc, as a way into the rest.
    fn contents(&mut self, files: &[FileDescriptorProto]) {
        self.text.push_str("| service | rpcs |\n|---|---|\n");
        for service in files.iter().flat_map(|file| &file.service) {
            let rpcs: Vec<_> = service.method.iter().map(|method| format!("`{}`", method.name())).collect();
            let _ = writeln!(self.text, "| {} | {} |", linked(service.name()), rpcs.join(" "));
        }
        self.text.push('\n');
    }

    fn file(&mut self, file: &FileDescriptorProto) {
        let title = file.name().rsplit('/').next().unwrap();
        let about = file.source_code_info.iter().flat_map(|info| &info.location).find(|place| place.path == [12]);
        let about = about.map(|place| place.leading_comments().split_whitespace().collect::<Vec<_>>().join(" "));
        let _ = writeln!(self.text, "## {title}\n\n{}\n", about.unwrap_or_default());
        file.service.iter().for_each(|service| self.service(service));
        file.message_type.iter().for_each(|message| self.message("", message));
        file.enum_type.iter().for_each(|proto| self.enumeration("", proto));
    }

    fn service(&mut self, service: &ServiceDescriptorProto) {
        let name = service.name();
        let _ = writeln!(self.text, "### {name}\n\n{}\n\n| rpc | what it does |\n|---|---|", self.comment(name));
        for method in &service.method {
            let stream = if method.server_streaming() { "stream " } else { "" };
            let (input, output) = (linked(short(method.input_type())), linked(short(method.output_type())));
            let about = self.comment(&format!("{name}.{}", method.name()));
            let _ = writeln!(self.text, "| `{}`({input}) → {stream}{output} | {about} |", method.name());
        }
        self.text.push('\n');
    }

    fn message(&mut self, parent: &str, message: &DescriptorProto) {
        if message.options.as_ref().is_some_and(|options| options.map_entry()) {
            return;
        }
        let name = format!("{parent}{}", message.name());
        let _ = writeln!(self.text, "### {name}\n\n{}\n", self.comment(&name));
        if !message.field.is_empty() {
            self.text.push_str("| field | type | meaning |\n|---|---|---|\n");
        }
        for field in &message.field {
            let kind = described(&type_name(field, &self.contract.messages));
            let oneof = field.oneof_index.and_then(|index| message.oneof_decl.get(index as usize));
            let oneof = oneof.map(|oneof| format!("one of `{}`: ", oneof.name())).unwrap_or_default();
            let about = self.comment(&format!("{name}.{}", field.name()));
            let _ = writeln!(self.text, "| `{}` | {kind} | {oneof}{about} |", field.name());
        }
        if !message.field.is_empty() {
            self.text.push('\n');
        }
        let inside = format!("{name}.");
        message.enum_type.iter().for_each(|proto| self.enumeration(&inside, proto));
        message.nested_type.iter().for_each(|nested| self.message(&inside, nested));
    }

    fn enumeration(&mut self, parent: &str, proto: &EnumDescriptorProto) {
        let name = format!("{parent}{}", proto.name());
        let _ = writeln!(self.text, "### {name}\n\n{}\n\n| value | meaning |\n|---|---|", self.comment(&name));
        // What stands for "not set" is said once, by the type being optional.
        for value in proto.value.iter().filter(|value| value.number() != 0) {
            let about = self.comment(&format!("{name}.{}", value.name()));
            let _ = writeln!(self.text, "| `{}` | {about} |", value.name());
        }
        self.text.push('\n');
    }

    /// The comment on an element of the package, fit for a table.
    fn comment(&self, name: &str) -> String {
        self.comments[&format!("{PACKAGE}.{name}")].replace('|', "\\|").replace('<', "&lt;")
    }
}

/// The name without the package, if it is ours.
fn short(name: &str) -> &str {
    let name = name.trim_start_matches('.');
    name.strip_prefix(PACKAGE).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name)
}

/// A link to the section of one of our types; others by their name.
fn linked(name: &str) -> String {
    if name.contains("google.") {
        return name.rsplit('.').next().unwrap().to_owned();
    }
    format!("[{name}](#{})", name.to_lowercase().replace('.', ""))
}

/// A field's type as a reader says it.
fn described(kind: &str) -> String {
    if kind.starts_with("map<") {
        return format!("`{kind}`");
    }
    let (repeated, plain) = kind.strip_prefix("repeated ").map_or(("", kind), |plain| ("list of ", plain));
    let plain = if plain.contains('.') { linked(short(plain)) } else { plain.to_owned() };
    format!("{repeated}{plain}")
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("REFERENCE.md")
}

#[test]
fn reference_is_that_of_the_contract() {
    let now = Reference::of(Contract::read());
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(path(), &now).unwrap();
    }
    let there = std::fs::read_to_string(path()).unwrap_or_default();
    let first = there.lines().zip(now.lines()).position(|(there, now)| there != now);
    assert!(there == now, "proto/REFERENCE.md is not that of the contract from line {first:?} on; UPDATE_SNAPSHOTS=1");
}

/// Nothing of the contract is missing, and every link leads somewhere.
#[test]
fn reference_is_complete() {
    let text = Reference::of(Contract::read());
    let contract = Contract::read();
    let ours = |name: &str| name.starts_with("recorder.v1.");
    for method in contract.methods.iter().filter(|method| ours(&method.name)) {
        assert!(text.contains(&format!("| `{}`(", method.proto.name())), "{}", method.name);
    }
    let headings: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(|name| name.to_lowercase().replace('.', ""))
        .collect();
    for name in contract.messages.iter().map(|message| &message.name).filter(|name| ours(name)) {
        assert!(text.contains(&format!("\n### {}\n", short(name))), "{name}");
    }
    let mut links = 0;
    for link in text.split("](#").skip(1) {
        let anchor = link.split(')').next().unwrap();
        assert!(headings.iter().any(|heading| heading == anchor), "#{anchor} leads nowhere");
        links += 1;
    }
    assert!(links > 200, "only {links} links");
    let twice = headings.iter().filter(|heading| headings.iter().filter(|other| other == heading).count() > 1);
    assert_eq!(twice.collect::<Vec<_>>(), Vec::<&String>::new(), "two sections under one anchor");
}

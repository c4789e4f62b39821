//! Partial updates: which fields of a resource a request changes.
//!
//! Works on the encoded messages with the contract's own descriptors, so that a new field needs no code here.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FieldMask, FileDescriptorSet};
use recorder_proto::pb::FILE_DESCRIPTOR_SET;
use recorder_proto::problem::Violations;

/// More paths than any resource has fields.
const PATHS_MAX: usize = 200;
/// Name of the mask's field in every update request.
const FIELD: &str = "update_mask";

/// `current` with the fields of `patch` that the mask names; without a mask, with every field that is set in `patch`.
/// `message` is the full name, like `.recorder.v1.Template`. Paths that do not exist become violations.
pub fn apply<M: Message + Default>(
    message: &str,
    current: &M,
    patch: &M,
    mask: Option<&FieldMask>,
    violations: &mut Violations,
) -> M {
    let (current, patch) = (current.encode_to_vec(), patch.encode_to_vec());
    let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
    let merged = match paths {
        [] => merge(message, &current, &patch),
        [star] if star == "*" => patch,
        paths if paths.len() > PATHS_MAX => {
            violations.add(FIELD, format!("must name at most {PATHS_MAX} fields, got {}", paths.len()));
            return M::default();
        }
        paths => paths.iter().fold(current, |current, path| {
            let steps: Vec<&str> = path.split('.').collect();
            splice(message, &current, &patch, &steps).unwrap_or_else(|| {
                let shown: String = path.chars().filter(|c| !c.is_control()).take(64).collect();
                violations.add(FIELD, format!("`{shown}` is no field that can be changed"));
                current
            })
        }),
    };
    // What was put together from two encoded messages field by field decodes.
    M::decode(merged.as_slice()).unwrap_or_default()
}

/// Whether the mask replaces the whole resource.
pub fn is_whole(mask: Option<&FieldMask>) -> bool {
    mask.is_some_and(|mask| mask.paths == ["*"])
}

/// One field of an encoded message.
struct Field<'a> {
    number: u32,
    whole: &'a [u8],
    content: &'a [u8],
}

/// `current` with everything that is set in `patch`; messages of ours field by field, all else as a whole.
fn merge(message: &str, current: &[u8], patch: &[u8]) -> Vec<u8> {
    let (current, patch) = (fields(current), fields(patch));
    let set: BTreeSet<u32> = patch.iter().map(|field| field.number).collect();
    let mut merged = Vec::new();
    for field in current.iter().filter(|field| !set.contains(&field.number)) {
        merged.extend_from_slice(field.whole);
    }
    for number in set {
        let given = patch.iter().filter(|field| field.number == number);
        let nested = by_number(message, number).and_then(nested);
        let known = current.iter().find(|field| field.number == number);
        match (nested, known) {
            (Some(nested), Some(known)) => {
                let inner = given.fold(known.content.to_vec(), |inner, field| merge(nested, &inner, field.content));
                put(&mut merged, number, &inner);
            }
            _ => given.for_each(|field| merged.extend_from_slice(field.whole)),
        }
    }
    merged
}

/// `current` with one field as it is in `patch`, cleared if it is not set there. None for an unknown path.
fn splice(message: &str, current: &[u8], patch: &[u8], path: &[&str]) -> Option<Vec<u8>> {
    let (step, rest) = path.split_first()?;
    let field = by_name(message, step)?;
    let number = u32::try_from(field.number()).ok()?;
    let (current, patch) = (fields(current), fields(patch));
    let mut spliced: Vec<u8> = Vec::new();
    for field in current.iter().filter(|field| field.number != number) {
        spliced.extend_from_slice(field.whole);
    }
    if rest.is_empty() {
        for field in patch.iter().filter(|field| field.number == number) {
            spliced.extend_from_slice(field.whole);
        }
        return Some(spliced);
    }
    let content =
        |fields: &[Field<'_>]| fields.iter().find(|field| field.number == number).map(|field| field.content.to_vec());
    let (known, given) = (content(&current), content(&patch));
    let present = known.is_some() || given.is_some();
    let inner = splice(nested(field)?, &known.unwrap_or_default(), &given.unwrap_or_default(), rest)?;
    if present {
        put(&mut spliced, number, &inner);
    }
    Some(spliced)
}

fn put(message: &mut Vec<u8>, number: u32, content: &[u8]) {
    encode_key(number, WireType::LengthDelimited, message);
    encode_varint(content.len() as u64, message);
    message.extend_from_slice(content);
}

/// Takes an encoded message apart; stops at the first byte that is none.
fn fields(mut rest: &[u8]) -> Vec<Field<'_>> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let start = rest;
        let Ok((number, wire)) = decode_key(&mut rest) else { break };
        let value = rest;
        if skip_field(wire, number, &mut rest, DecodeContext::default()).is_err() {
            break;
        }
        let whole = start.get(..start.len() - rest.len()).unwrap_or_default();
        let mut content = value.get(..value.len() - rest.len()).unwrap_or_default();
        if wire == WireType::LengthDelimited {
            // The length was checked by skipping over it.
            let _ = decode_varint(&mut content);
        }
        fields.push(Field { number, whole, content });
    }
    fields
}

/// The message type of a field that is merged field by field: a single message of ours.
fn nested(field: &FieldDescriptorProto) -> Option<&str> {
    let single = field.label() != Label::Repeated && field.r#type() == Type::Message;
    single.then(|| field.type_name()).filter(|name| name.starts_with(".recorder."))
}

fn by_number(message: &str, number: u32) -> Option<&'static FieldDescriptorProto> {
    let number = i32::try_from(number).ok()?;
    descriptors().get(message)?.field.iter().find(|field| field.number() == number)
}

/// Takes `max_file_duration` and, leniently, `maxFileDuration`.
fn by_name(message: &str, name: &str) -> Option<&'static FieldDescriptorProto> {
    descriptors().get(message)?.field.iter().find(|field| field.name() == name || field.json_name() == name)
}

fn descriptors() -> &'static BTreeMap<String, DescriptorProto> {
    static DESCRIPTORS: OnceLock<BTreeMap<String, DescriptorProto>> = OnceLock::new();
    DESCRIPTORS.get_or_init(|| {
        // Our own build made the set; a test walks it.
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap_or_default();
        let mut found = BTreeMap::new();
        for file in set.file {
            let package = format!(".{}", file.package());
            file.message_type.into_iter().for_each(|message| collect(&mut found, &package, message));
        }
        found
    })
}

fn collect(found: &mut BTreeMap<String, DescriptorProto>, scope: &str, mut message: DescriptorProto) {
    let name = format!("{scope}.{}", message.name());
    std::mem::take(&mut message.nested_type).into_iter().for_each(|nested| collect(found, &name, nested));
    found.insert(name, message);
}

#[cfg(test)]
mod tests {
    use recorder_proto::pb::v1::storage::{Gcs, S3, Target};
    use recorder_proto::pb::v1::template::{Aac, Hls, Mp4};
    use recorder_proto::pb::v1::{Storage, Template};
    use recorder_proto::time;

    use super::*;

    fn seconds(seconds: u64) -> Option<prost_types::Duration> {
        Some(time::duration(std::time::Duration::from_secs(seconds)))
    }

    fn current() -> Template {
        Template {
            description: "old".to_owned(),
            record_standby: true,
            hls: Some(Hls { segment_duration: seconds(10), resume_timeout: seconds(30), ..Hls::default() }),
            aac: Some(Aac::default()),
            labels: [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())].into(),
            ..Template::default()
        }
    }

    fn update(patch: Template, paths: Option<&[&str]>) -> (Template, Violations) {
        let mask = paths.map(|paths| FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() });
        let mut violations = Violations::new();
        let merged = apply(".recorder.v1.Template", &current(), &patch, mask.as_ref(), &mut violations);
        (merged, violations)
    }

    fn updated(patch: Template, paths: Option<&[&str]>) -> Template {
        let (merged, violations) = update(patch, paths);
        assert!(violations.is_empty(), "{violations:?}");
        merged
    }

    #[test]
    fn without_a_mask_what_is_set_changes_and_the_rest_stays() {
        let patch = Template {
            description: "new".to_owned(),
            hls: Some(Hls { resume_timeout: seconds(0), ..Hls::default() }),
            mp4: Some(Mp4::default()),
            labels: [("c".to_owned(), "3".to_owned())].into(),
            ..Template::default()
        };
        let expected = Template {
            description: "new".to_owned(),
            hls: Some(Hls { segment_duration: seconds(10), resume_timeout: seconds(0), ..Hls::default() }),
            mp4: Some(Mp4::default()),
            labels: [("c".to_owned(), "3".to_owned())].into(),
            ..current()
        };
        assert_eq!(updated(patch.clone(), None), expected);
        assert_eq!(updated(patch, Some(&[])), expected, "an empty mask is no mask");
        assert_eq!(updated(Template::default(), None), current());
    }

    #[test]
    fn a_mask_changes_what_it_names_and_clears_what_is_not_set() {
        let patch = Template {
            description: "new".to_owned(),
            hls: Some(Hls { segment_duration: seconds(5), ..Hls::default() }),
            ..Template::default()
        };
        assert_eq!(updated(patch.clone(), Some(&["aac"])), Template { aac: None, ..current() });
        assert_eq!(
            updated(patch.clone(), Some(&["record_standby", "description"])),
            Template { record_standby: false, description: "new".to_owned(), ..current() }
        );
        let hls = |hls| Template { hls: Some(hls), ..current() };
        let with_timeout = Hls { segment_duration: seconds(5), resume_timeout: seconds(30), ..Hls::default() };
        assert_eq!(updated(patch.clone(), Some(&["hls.segment_duration"])), hls(with_timeout));
        assert_eq!(updated(patch.clone(), Some(&["hls.segmentDuration"])), hls(with_timeout));
        let whole = Hls { segment_duration: seconds(5), ..Hls::default() };
        assert_eq!(updated(patch.clone(), Some(&["hls"])), hls(whole));
        assert_eq!(updated(patch.clone(), Some(&["*"])), patch);
        let absent = updated(Template::default(), Some(&["mp4.max_file_duration"]));
        assert_eq!(absent, current(), "clearing a field of what is not there adds nothing");
    }

    #[test]
    fn unknown_paths_are_named() {
        for path in
            ["nothing", "hls.nothing", "labels.a", "description.x", "", ".", "hls.", "hls.resume_timeout.seconds"]
        {
            let (merged, violations) = update(Template::default(), Some(&["aac", path]));
            assert_eq!(violations.len(), 1, "{path}");
            assert_eq!(merged, Template { aac: None, ..current() });
        }
        let many: Vec<&str> = std::iter::repeat_n("aac", 201).collect();
        assert_eq!(update(Template::default(), Some(&many)).1.len(), 1);
    }

    #[test]
    fn another_kind_of_a_choice_replaces_the_first() {
        let s3 = Storage {
            prefix: "p".to_owned(),
            target: Some(Target::S3(S3 { bucket: "b".to_owned(), region: "r".to_owned(), ..S3::default() })),
            ..Storage::default()
        };
        let gcs = Storage {
            target: Some(Target::Gcs(Gcs { bucket: "g".to_owned(), ..Gcs::default() })),
            ..Storage::default()
        };
        let mut violations = Violations::new();
        let merged = apply(".recorder.v1.Storage", &s3, &gcs, None, &mut violations);
        assert_eq!(merged, Storage { target: gcs.target.clone(), ..s3.clone() });
        let bucket =
            Storage { target: Some(Target::S3(S3 { bucket: "c".to_owned(), ..S3::default() })), ..Storage::default() };
        let merged = apply(".recorder.v1.Storage", &s3, &bucket, None, &mut violations);
        let Some(Target::S3(target)) = merged.target else { panic!("{merged:?}") };
        assert_eq!((target.bucket.as_str(), target.region.as_str()), ("c", "r"));
        assert!(violations.is_empty());
    }
}

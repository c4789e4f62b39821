//! The descriptor set as flat lists, each element with its full name and comment.

use std::collections::HashMap;

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    MethodDescriptorProto,
};
use recorder_proto::pb::FILE_DESCRIPTOR_SET;

pub struct Element<T> {
    /// Full name, e.g. `recorder.v1.Template.Hls.segment`.
    pub name: String,
    pub comment: String,
    pub proto: T,
}

#[derive(Default)]
pub struct Contract {
    pub files: Vec<FileDescriptorProto>,
    pub services: Vec<Element<Vec<MethodDescriptorProto>>>,
    pub methods: Vec<Element<MethodDescriptorProto>>,
    pub messages: Vec<Element<DescriptorProto>>,
    pub fields: Vec<Element<FieldDescriptorProto>>,
    pub oneofs: Vec<Element<()>>,
    pub enums: Vec<Element<EnumDescriptorProto>>,
    pub values: Vec<Element<i32>>,
}

type Comments = HashMap<Vec<i32>, String>;

impl Contract {
    /// Our own packages; google's are somebody else's style.
    pub fn read() -> Self {
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let mut contract = Self::default();
        for file in set.file.into_iter().filter(|file| file.package().starts_with("recorder.")) {
            contract.file(&file);
            contract.files.push(file);
        }
        assert!(contract.files.len() >= 14, "the descriptor set holds our files");
        contract
    }

    fn file(&mut self, file: &FileDescriptorProto) {
        let locations = file.source_code_info.as_ref().unwrap().location.iter();
        let comments: Comments = locations
            .map(|l| (l.path.clone(), l.leading_comments().split_whitespace().collect::<Vec<_>>().join(" ")))
            .collect();
        for (i, service) in file.service.iter().enumerate() {
            let (path, name) = (vec![6, i as i32], format!("{}.{}", file.package(), service.name()));
            for (j, method) in service.method.iter().enumerate() {
                let path = [&path[..], &[2, j as i32]].concat();
                self.methods.push(element(format!("{name}.{}", method.name()), &comments, &path, method.clone()));
            }
            self.services.push(element(name, &comments, &path, service.method.clone()));
        }
        for (i, message) in file.message_type.iter().enumerate() {
            self.message(file.package(), &[4, i as i32], message, &comments);
        }
        for (i, proto) in file.enum_type.iter().enumerate() {
            self.enumeration(file.package(), &[5, i as i32], proto, &comments);
        }
    }

    fn message(&mut self, parent: &str, path: &[i32], message: &DescriptorProto, comments: &Comments) {
        if message.options.as_ref().is_some_and(|options| options.map_entry()) {
            return;
        }
        let name = format!("{parent}.{}", message.name());
        for (i, field) in message.field.iter().enumerate() {
            let path = [path, &[2, i as i32]].concat();
            self.fields.push(element(format!("{name}.{}", field.name()), comments, &path, field.clone()));
        }
        for (i, oneof) in message.oneof_decl.iter().enumerate() {
            let path = [path, &[8, i as i32]].concat();
            self.oneofs.push(element(format!("{name}.{}", oneof.name()), comments, &path, ()));
        }
        for (i, nested) in message.nested_type.iter().enumerate() {
            self.message(&name, &[path, &[3, i as i32]].concat(), nested, comments);
        }
        for (i, nested) in message.enum_type.iter().enumerate() {
            self.enumeration(&name, &[path, &[4, i as i32]].concat(), nested, comments);
        }
        self.messages.push(element(name, comments, path, message.clone()));
    }

    fn enumeration(&mut self, parent: &str, path: &[i32], proto: &EnumDescriptorProto, comments: &Comments) {
        let name = format!("{parent}.{}", proto.name());
        for (i, value) in proto.value.iter().enumerate() {
            let path = [path, &[2, i as i32]].concat();
            self.values.push(element(format!("{name}.{}", value.name()), comments, &path, value.number()));
        }
        self.enums.push(element(name, comments, path, proto.clone()));
    }
}

fn element<T>(name: String, comments: &Comments, path: &[i32], proto: T) -> Element<T> {
    Element { name, comment: comments.get(path).cloned().unwrap_or_default(), proto }
}

/// `map<string, string>` looks like a repeated message; everything else by its name.
pub fn type_name(field: &FieldDescriptorProto, messages: &[Element<DescriptorProto>]) -> String {
    let plain = match field.type_name() {
        "" => field.r#type().as_str_name().trim_start_matches("TYPE_").to_lowercase(),
        name => name.trim_start_matches('.').to_owned(),
    };
    let entry = messages.iter().flat_map(|m| m.proto.nested_type.iter().map(move |n| (m, n))).find(|(m, nested)| {
        nested.options.as_ref().is_some_and(|o| o.map_entry()) && format!("{}.{}", m.name, nested.name()) == plain
    });
    match entry {
        Some((_, entry)) => {
            format!("map<{}, {}>", type_name(&entry.field[0], messages), type_name(&entry.field[1], messages))
        }
        None if field.label() == prost_types::field_descriptor_proto::Label::Repeated => format!("repeated {plain}"),
        None => plain,
    }
}

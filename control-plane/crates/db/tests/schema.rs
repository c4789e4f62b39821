//! The two dialects have the same tables, and `schema.rs` describes them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};

use diesel::prelude::*;
use diesel::sql_types::{Bool, Text};
use recorder_db::scratch::{Scratch, kinds};
use recorder_db::{AnyConnection, Error, Kind};

const MIGRATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../migrations");

#[derive(QueryableByName, Debug)]
struct Column {
    #[diesel(sql_type = Text)]
    table_name: String,
    #[diesel(sql_type = Text)]
    column_name: String,
    #[diesel(sql_type = Text)]
    data_type: String,
    #[diesel(sql_type = Bool)]
    required: bool,
}

#[derive(QueryableByName, Debug)]
struct Index {
    #[diesel(sql_type = Text)]
    table_name: String,
    #[diesel(sql_type = Bool)]
    is_unique: bool,
    #[diesel(sql_type = Text)]
    column_names: String,
}

const SQLITE_COLUMNS: &str = "SELECT m.name AS table_name, c.name AS column_name, c.type AS data_type, \
     c.\"notnull\" AS required FROM sqlite_master m JOIN pragma_table_info(m.name) c \
     WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name NOT LIKE '\\_\\_%' ESCAPE '\\'";
const POSTGRES_COLUMNS: &str = "SELECT table_name::text, column_name::text, data_type::text, \
     is_nullable = 'NO' AS required FROM information_schema.columns \
     WHERE table_schema = 'public' AND table_name NOT LIKE '\\_\\_%'";
const SQLITE_INDEXES: &str = "SELECT m.name AS table_name, i.\"unique\" AS is_unique, \
     (SELECT group_concat(name, ',') FROM (SELECT name FROM pragma_index_info(i.name) ORDER BY seqno)) AS column_names \
     FROM sqlite_master m JOIN pragma_index_list(m.name) i \
     WHERE m.type = 'table' AND m.name NOT LIKE '\\_\\_%' ESCAPE '\\'";
const POSTGRES_INDEXES: &str = "SELECT t.relname::text AS table_name, x.indisunique AS is_unique, \
     (SELECT string_agg(a.attname, ',' ORDER BY k.ord) FROM unnest(x.indkey::int[]) WITH ORDINALITY k(attnum, ord) \
     JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.attnum)::text AS column_names \
     FROM pg_index x JOIN pg_class t ON t.oid = x.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace \
     WHERE n.nspname = 'public' AND t.relname NOT LIKE '\\_\\_%'";

type Schema = BTreeMap<String, BTreeSet<String>>;

fn schema(connection: &mut AnyConnection) -> Result<Schema, Error> {
    let postgres = matches!(connection, AnyConnection::Pg(_));
    let (columns, indexes) =
        if postgres { (POSTGRES_COLUMNS, POSTGRES_INDEXES) } else { (SQLITE_COLUMNS, SQLITE_INDEXES) };
    let columns: Vec<Column> = diesel::sql_query(columns).load(connection)?;
    let indexes: Vec<Index> = diesel::sql_query(indexes).load(connection)?;
    let mut tables = Schema::new();
    for column in columns {
        let class = match column.data_type.to_uppercase().as_str() {
            "BLOB" | "BYTEA" => "BYTES".to_owned(),
            other => other.to_owned(),
        };
        let required = if column.required { " NOT NULL" } else { "" };
        tables.entry(column.table_name).or_default().insert(format!("{} {class}{required}", column.column_name));
    }
    for index in indexes {
        let unique = if index.is_unique { "unique" } else { "index" };
        tables.entry(index.table_name).or_default().insert(format!("{unique} ({})", index.column_names));
    }
    Ok(tables)
}

fn on(kind: Kind) -> (Scratch, Schema) {
    let scratch = Scratch::new(kind).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let schema = runtime.block_on(scratch.db.read(schema)).unwrap();
    (scratch, schema)
}

#[test]
fn both_dialects_have_the_same_schema() {
    let schemas: Vec<Schema> = kinds().into_iter().map(|kind| on(kind).1).collect();
    assert!(schemas[0].len() > 15, "{:?}", schemas[0].keys());
    assert!(schemas[0]["templates"].contains("body BYTES NOT NULL"), "{:?}", schemas[0]["templates"]);
    assert!(schemas[0]["files"].contains("unique (object_key)"), "{:?}", schemas[0]["files"]);
    if let [sqlite, postgres] = schemas.as_slice() {
        assert_eq!(sqlite, postgres);
    }
}

#[test]
fn migrations_can_be_undone_and_done_again() {
    for kind in kinds() {
        let (scratch, before) = on(kind);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // Outside of a transaction of ours: migrations make their own.
        let mut connection = match kind {
            Kind::Sqlite => {
                let file = scratch.file().unwrap();
                AnyConnection::Sqlite(SqliteConnection::establish(file.to_str().unwrap()).unwrap())
            }
            Kind::Postgres => AnyConnection::Pg(PgConnection::establish(&scratch.url).unwrap()),
        };
        assert_eq!(recorder_db::migrations::run(&mut connection).unwrap(), 0, "nothing was pending");
        assert!(recorder_db::migrations::revert_all(&mut connection).unwrap() > 0);
        assert_eq!(schema(&mut connection).unwrap(), Schema::new());
        assert!(recorder_db::migrations::run(&mut connection).unwrap() > 0);
        assert_eq!(runtime.block_on(scratch.db.read(schema)).unwrap(), before);
    }
}

#[test]
fn migrations_have_the_same_names_and_say_why_they_are_safe() {
    let list = |dialect: &str| {
        let mut names: Vec<String> = std::fs::read_dir(format!("{MIGRATIONS}/{dialect}"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(list("sqlite"), list("postgres"));
    assert!(!list("sqlite").is_empty());
    for dialect in ["sqlite", "postgres"] {
        for name in list(dialect) {
            for side in ["up", "down"] {
                let text = std::fs::read_to_string(format!("{MIGRATIONS}/{dialect}/{name}/{side}.sql")).unwrap();
                let safe = text.lines().any(|line| line.starts_with("-- safe because"));
                assert!(safe, "{dialect}/{name}/{side}.sql lacks a `-- safe because` line");
            }
        }
    }
}

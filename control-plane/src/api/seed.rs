//! The built-in resources, made when the database is new: the embedded library and the default template.
use recorder_db::{storages, templates};
use recorder_proto::Problem;
use recorder_proto::pb::v1::storage::{FileSystem, Target};
use recorder_proto::pb::v1::{Storage, Template};
use recorder_proto::problem::Violations;

use super::change::{Call, Tx};
use super::{Api, storage, template};
use crate::domain;

/// Makes what is missing of `storages/library` and `templates/default`.
///
/// # Errors
/// When the database is away.
pub async fn seed(api: &Api) -> Result<(), Problem> {
    api.change(Call::plain("seed"), (), |tx, ()| {
        if storages::get(tx.connection, storage::BUILT_IN)?.is_none() {
            library(tx)?;
        }
        if templates::get(tx.connection, template::BUILT_IN)?.is_none() {
            default_template(tx)?;
        }
        Ok(())
    })
    .await
}

fn library(tx: &mut Tx<'_>) -> Result<(), Problem> {
    let folder = Target::FileSystem(FileSystem::default());
    let first = storages::default(tx.connection)?.is_none();
    let given = Storage { target: Some(folder), is_default: first, ..Storage::default() };
    let mut violations = Violations::new();
    let library = domain::storage::effective(storage::BUILT_IN, given, &mut violations);
    violations.finish()?;
    storage::insert(tx, storage::BUILT_IN, library).map(drop)
}

/// HLS into whichever storage is the default one (R17).
fn default_template(tx: &mut Tx<'_>) -> Result<(), Problem> {
    let mut violations = Violations::new();
    let default = domain::template::effective(template::BUILT_IN, Template::default(), &mut violations);
    violations.finish()?;
    template::insert(tx, template::BUILT_IN, &default).map(drop)
}

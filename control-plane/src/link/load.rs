//! Directives from the database, ready for the nodes: keys open, each command with the node that it is for.
use prost::Message;
use recorder_db::{AnyConnection, directives, recordings, streams};
use recorder_proto::names::{RecordingName, StreamName};
use recorder_proto::pb::node::Directive;
use recorder_proto::pb::node::directive::Directive as Kind;
use recorder_proto::pb::node::directive::control::Action;
use recorder_runtime::secret::Sealer;

use super::keys;
use crate::directives::changelog::{self, Effect};
use crate::directives::parcel::{Packing, Parcel};

/// Rows read at a time: everything is held encoded once, not as rows as well.
const PAGE: i64 = 2_000;

/// Everything in force.
pub(super) fn everything(db: &mut AnyConnection, sealer: &Sealer) -> recorder_db::Result<Parcel> {
    let version = changelog::version(db)?;
    let mut packing = Packing::everything();
    let mut after = String::new();
    loop {
        let rows = directives::page(db, &after, PAGE)?;
        let Some(last) = rows.last() else { return Ok(packing.close(version, Vec::new())) };
        after.clone_from(&last.name);
        for row in rows {
            let version = u64::try_from(row.version).unwrap_or_default();
            put(db, sealer, &mut packing, &row.name, version, &row.body)?;
        }
    }
}

/// What has changed since a version, one parcel per transaction; None when only everything will do.
pub(super) fn since(db: &mut AnyConnection, sealer: &Sealer, from: u64) -> recorder_db::Result<Option<Vec<Parcel>>> {
    let Some(effects) = changelog::since(db, from)? else { return Ok(None) };
    let mut parcels = Vec::with_capacity(effects.len());
    for effect in effects {
        let mut packing = Packing::delta();
        for directive in effect.upserts {
            let body = Directive { version: 0, ..directive.clone() }.encode_to_vec();
            put(db, sealer, &mut packing, &directive.name, effect.version, &body)?;
        }
        parcels.push(packing.close(effect.version, effect.removed));
    }
    Ok(Some(parcels))
}

/// Everything that a node would be told; for people, keys sealed.
pub(super) fn view(db: &mut AnyConnection, node: &str) -> recorder_db::Result<Effect> {
    let effect = changelog::snapshot(db)?;
    let mut upserts = Vec::with_capacity(effect.upserts.len());
    for directive in effect.upserts {
        let is_told = !is_command(&directive)
            || match audience(db, &directive)? {
                Some(Audience::Node(other)) => other == node,
                Some(Audience::Everyone) => true,
                None => false,
            };
        if is_told {
            upserts.push(directive);
        }
    }
    Ok(Effect { upserts, ..effect })
}

fn put(
    db: &mut AnyConnection,
    sealer: &Sealer,
    packing: &mut Packing,
    name: &str,
    version: u64,
    body: &[u8],
) -> recorder_db::Result<()> {
    if !name.starts_with("domain/") && !name.starts_with("control/") {
        packing.add(name, version, body);
        return Ok(());
    }
    let unreadable = |source| recorder_db::Error::Malformed { table: "directives", source };
    let directive = Directive::decode(body).map_err(unreadable)?;
    if is_command(&directive) {
        match audience(db, &directive)? {
            Some(Audience::Node(node)) => packing.command(node, Directive { version, ..directive }),
            Some(Audience::Everyone) => packing.add(name, version, body),
            None => {}
        }
        return Ok(());
    }
    packing.add(name, version, &keys::opened(sealer, directive).encode_to_vec());
    Ok(())
}

fn is_command(directive: &Directive) -> bool {
    matches!(directive.directive, Some(Kind::Control(_)))
}

/// Whom a command is for.
enum Audience {
    /// The node of this bare id.
    Node(String),
    /// Files of earlier epochs may wait on other nodes than the one that has the recording now.
    Everyone,
}

/// Whom a command is for, while there is somebody. It is asked when the command is read and holds for as long as that is
/// kept: nobody takes over a recording that is to stop, and a cut is not for who took over meanwhile.
fn audience(db: &mut AnyConnection, directive: &Directive) -> recorder_db::Result<Option<Audience>> {
    let Some(Kind::Control(control)) = &directive.directive else { return Ok(None) };
    if let Ok(session) = control.recording.parse::<StreamName>() {
        let live = streams::get(db, &session.0.to_string())?;
        return Ok(live.filter(|row| row.end_time.is_none()).map(|row| Audience::Node(row.node)));
    }
    let Ok(name) = control.recording.parse::<RecordingName>() else { return Ok(None) };
    let Some(row) = recordings::get(db, &name.0.to_string())? else { return Ok(None) };
    Ok(match control.action() {
        // It was asked for where the recording was then; whoever has taken over meanwhile began new files anyway.
        Action::Split if i64::try_from(control.epoch).is_ok_and(|epoch| epoch != row.epoch) => None,
        Action::RetryUploads => Some(Audience::Everyone),
        _ => Some(Audience::Node(row.node)),
    })
}

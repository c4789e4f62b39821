//! Recordings that go, with their objects or without: nothing that is live, and no object forgotten.
use std::path::{Path, PathBuf};

use recorder_proto::pb::v1;
use recorder_proto::pb::v1::file::State as FileState;
use recorder_proto::pb::v1::recording::State;
use tonic::Code;

use super::control::{Control, on_each, refused, until};
use super::node::Node;
use super::story::Story;

fn put(root: &Path, key: &str, text: &str) -> PathBuf {
    let path = root.join(key);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

/// A playlist and segments of both kinds, some of them named by nobody, beside something that is not the recorder's.
fn put_playlist(root: &Path, key: &str) -> (Vec<PathBuf>, PathBuf) {
    let folder = key.strip_suffix("/index.m3u8").unwrap();
    let text = "#EXTM3U\n#EXTINF:2,\n0.ts\n#EXTINF:2,\n1.ts\n#EXTINF:2,\n../../../../../precious.mp4\n#EXT-X-ENDLIST\n";
    let mut ours = vec![put(root, key, text)];
    for name in ["0.ts", "1.ts", "7.ts", "8.m4s", "init-0.mp4"] {
        ours.push(put(root, &format!("{folder}/{name}"), "media"));
    }
    put(root, "precious.mp4", "somebody else's");
    (ours, put(root, &format!("{folder}/holiday.mp4"), "somebody else's"))
}

fn request(story: &Story, delete_objects: bool) -> v1::DeleteRecordingRequest {
    v1::DeleteRecordingRequest { name: story.name(), delete_objects, ..Default::default() }
}

async fn delete(control: &Control, story: &Story, delete_objects: bool) {
    control.recordings().delete_recording(request(story, delete_objects)).await.unwrap();
}

async fn is_gone(control: &Control, story: &Story) -> bool {
    let get = v1::GetRecordingRequest { name: story.name() };
    control.recordings().get_recording(get).await.is_err_and(|status| status.code() == Code::NotFound)
}

/// One MP4 file and one playlist, both in their storages.
async fn recorded(node: &mut Node, story: &mut Story, playlist_in: &'static str) {
    let mut facts = vec![story.started(), story.opened(0)];
    let mp4_in = std::mem::replace(&mut story.storage, playlist_in);
    facts.push(story.playlist_opened());
    let ended = story.ended(1);
    facts.extend([ended, story.playlist_available()]);
    story.storage = mp4_in;
    facts.push(story.available(0));
    node.report(facts).await;
}

#[test]
fn a_recording_goes_with_its_objects_and_nothing_else_does() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let library = control.library();
        let mp4 = put(&library, &story.key(0), "media");
        let (ours, theirs) = put_playlist(&library, &story.playlist_key());
        recorded(&mut node, &mut story, "storages/library").await;
        assert_eq!(control.recording(&story.name()).await.state(), State::Succeeded);

        let stale = v1::DeleteRecordingRequest { etag: "\"stale\"".into(), ..request(&story, true) };
        let problem = refused(control.recordings().delete_recording(stale).await);
        assert_eq!((problem.code, problem.reason.as_str()), (Code::Aborted, "ETAG_MISMATCH"));
        let etag = control.recording(&story.name()).await.etag;
        let fresh = v1::DeleteRecordingRequest { etag, ..request(&story, true) };
        control.recordings().delete_recording(fresh).await.unwrap();

        assert!(is_gone(&control, &story).await);
        assert!(!mp4.exists() && ours.iter().all(|path| !path.exists()), "{ours:?}");
        assert!(theirs.exists() && library.join("precious.mp4").exists(), "what is not the recorder's stays");
        let told = control.told(&story.name()).await;
        let last: Vec<(&str, &str)> = told.iter().map(|(kind, subject)| (kind.as_str(), subject.as_str())).collect();
        let file = |file: &str| format!("{}/files/{file}", story.name());
        let (hls, mp4) = (file("hls-0"), file("mp4-0"));
        let name = story.name();
        assert!(last.ends_with(&[("recording.deleted", &name)]), "{told:?}");
        assert!(last.contains(&("file.deleted", &hls)) && last.contains(&("file.deleted", &mp4)), "{told:?}");
        let problem = refused(control.recordings().delete_recording(request(&story, true)).await);
        assert_eq!((problem.code, problem.reason.as_str()), (Code::NotFound, "RECORDING_NOT_FOUND"));
    });
}

#[test]
fn what_is_being_recorded_or_shipped_is_not_deleted() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let steps = [vec![story.started()], vec![story.opened(0)], vec![story.ended(1)]];
        for facts in steps {
            node.report(facts).await;
            let problem = refused(control.recordings().delete_recording(request(&story, true)).await);
            assert_eq!((problem.code, problem.reason.as_str()), (Code::FailedPrecondition, "RECORDING_RUNNING"));
        }
        let state = control.recording(&story.name()).await.state();
        assert_eq!(state, State::Finalizing);
        let facts = vec![story.available(0)];
        node.report(facts).await;
        delete(&control, &story, false).await;
        assert!(is_gone(&control, &story).await);
    });
}

#[test]
fn without_objects_the_record_goes_alone() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let mp4 = put(&control.library(), &story.key(0), "media");
        recorded(&mut node, &mut story, "storages/library").await;
        delete(&control, &story, false).await;
        assert!(is_gone(&control, &story).await && mp4.exists());
        let late = vec![story.available(1), story.started()];
        let answer = node.try_report(late).await.unwrap();
        let reasons: Vec<String> = answer
            .refusals
            .iter()
            .map(|refusal| recorder_proto::Problem::from(refusal.error.as_ref().unwrap()).reason)
            .collect();
        assert_eq!(reasons, ["RECORDING_NOT_FOUND", "RECORDING_NOT_FOUND"], "nothing makes it anew");
        assert!(is_gone(&control, &story).await);
    });
}

#[test]
fn what_a_node_brings_of_a_deleted_recording_goes_as_well() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        recorded(&mut node, &mut story, "storages/library").await;
        delete(&control, &story, true).await;
        let late = put(&control.library(), &story.key(1), "media");
        let facts = vec![story.available(1)];
        assert_eq!(node.try_report(facts).await.unwrap().refusals.len(), 1);
        until("the late object to be deleted", async || (!late.exists()).then_some(())).await;
        assert!(is_gone(&control, &story).await);
    });
}

#[test]
fn a_storage_that_is_away_is_deleted_from_when_it_is_back_even_after_a_restart() {
    on_each(async |control| {
        let folder = v1::storage::FileSystem { directory: "disk".into() };
        let storage = v1::Storage { target: Some(v1::storage::Target::FileSystem(folder)), ..Default::default() };
        let create =
            v1::CreateStorageRequest { storage_id: "disk".into(), storage: Some(storage), ..Default::default() };
        control.storages().create_storage(create).await.unwrap();
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let (library, disk) = (control.library(), control.library().join("disk"));
        let mp4 = put(&library, &story.key(0), "media");
        let (ours, _) = put_playlist(&disk, &story.playlist_key());
        recorded(&mut node, &mut story, "storages/disk").await;
        // A plain file in the place of the folder: nothing opens.
        let aside = library.join("aside");
        std::fs::rename(&disk, &aside).unwrap();
        std::fs::write(&disk, "").unwrap();

        let problem = refused(control.recordings().delete_recording(request(&story, true)).await);
        assert_eq!((problem.code, problem.reason.as_str()), (Code::Unavailable, "DELETION_PENDING"), "{problem}");
        assert!(!mp4.exists(), "what can be deleted is");
        let states = |files: Vec<v1::File>| files.iter().map(v1::File::state).collect::<Vec<_>>();
        let left = states(control.files(&story.name()).await);
        assert_eq!(left, [FileState::Available, FileState::Deleted], "and what is left can be seen");
        let in_use = v1::DeleteStorageRequest { name: "storages/disk".into(), ..Default::default() };
        let problem = refused(control.storages().delete_storage(in_use).await);
        assert_eq!(problem.reason, "STORAGE_IN_USE");
        assert!(problem.message.contains(&story.name()), "{problem}");

        node.hang_up();
        let control = control.restart().await;
        std::fs::remove_file(&disk).unwrap();
        std::fs::rename(&aside, &disk).unwrap();
        control.clock.advance(std::time::Duration::from_secs(600));
        until("the deletion to go on by itself", async || is_gone(&control, &story).await.then_some(())).await;
        assert!(ours.iter().all(|path| !path.exists()), "{ours:?}");
        let in_use = v1::DeleteStorageRequest { name: "storages/disk".into(), ..Default::default() };
        control.storages().delete_storage(in_use).await.unwrap();
    });
}

#[test]
fn a_recording_whose_node_may_still_record_it_is_not_deleted() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let facts = vec![story.started()];
        node.report(facts).await;
        // An end that was only presumed, as of a node that is cut off.
        let id = story.recording.to_string();
        control
            .scratch
            .db
            .write(move |db| {
                let row = recorder_db::recordings::get(db, &id)?.unwrap();
                let mut body = row.recording()?;
                body.set_state(State::Failed);
                body.set_end_reason(v1::recording::EndReason::NodeLost);
                let presumed =
                    recorder_control::domain::recording::End::presumed(chrono::DateTime::UNIX_EPOCH, "silent");
                body.error = presumed.cause.as_ref().map(Into::into);
                let body_bytes = prost::Message::encode_to_vec(&body);
                recorder_db::recordings::update(
                    db,
                    &recorder_db::recordings::Row { state: body.state, body: body_bytes, ..row },
                )
            })
            .await
            .unwrap();
        let problem = refused(control.recordings().delete_recording(request(&story, true)).await);
        assert_eq!((problem.code, problem.reason.as_str()), (Code::FailedPrecondition, "NODE_OWNS_MEDIA"));
        assert_eq!(problem.details.preconditions[0].subject, "nodes/m1");
    });
}

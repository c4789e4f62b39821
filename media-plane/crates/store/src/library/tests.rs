use std::sync::Arc;

use super::*;
use crate::contract::noise;

async fn open_library() -> (tempfile::TempDir, Arc<dyn Bucket>) {
    let root = tempfile::tempdir().unwrap();
    let library = Library::open(root.path(), "recordings/eu", AttemptLimit::default()).unwrap();
    (root, Arc::new(library))
}

crate::bucket_contract!(contract, open_library);

fn meta() -> ObjectMeta {
    ObjectMeta::of_type("video/mp4")
}

#[test]
fn directories_that_leave_the_root_are_refused() {
    let root = tempfile::tempdir().unwrap();
    for directory in ["../x", "a/../../x", "/etc", "a//b", "."] {
        let error = Library::open(root.path(), directory, AttemptLimit::default()).unwrap_err();
        assert_eq!(error.kind, Kind::Invalid, "{directory}");
    }
}

#[tokio::test]
async fn symbolic_links_are_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "s").unwrap();
    let root = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), root.path().join("link")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret"), root.path().join("file")).unwrap();
    let library = Library::open(root.path(), "", AttemptLimit::default()).unwrap();
    for key in ["link/secret", "link/sub/new", "file"] {
        assert_eq!(library.head(key).await.unwrap(), None, "{key}");
        assert_eq!(library.get_range(key, 0..1).await.unwrap_err().kind, Kind::NotFound);
        library.delete(key).await.unwrap();
    }
    let error = library.put("link/new", noise(1, 1), &meta(), If::Any).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (Kind::Invalid, "NotADirectory"));
    // The link itself is replaced, not what it points to.
    library.put("file", noise(5, 1), &meta(), If::Any).await.unwrap();
    assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"s");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(library.list("").await.unwrap().len(), 1);
    assert!(Library::open(root.path(), "link", AttemptLimit::default()).is_err());
}

#[tokio::test]
async fn staging_is_hidden_and_not_a_key() {
    let (_root, library) = open_library().await;
    let error = library.put(".recorder-staging/x", noise(1, 1), &meta(), If::Any).await.unwrap_err();
    assert_eq!(error.kind, Kind::Invalid);
    library.create_upload("x", &meta()).await.unwrap();
    assert_eq!(library.list("").await.unwrap(), []);
    assert_eq!(library.list(".recorder").await.unwrap(), []);
}

#[tokio::test]
async fn uploads_survive_a_new_process() {
    let root = tempfile::tempdir().unwrap();
    let open = || Library::open(root.path(), "", AttemptLimit::default()).unwrap();
    let before = open();
    let upload = before.create_upload("a/b.mp4", &meta()).await.unwrap();
    before.put_part("a/b.mp4", &upload, 1, noise(1000, 1)).await.unwrap();
    drop(before);
    let after = open();
    assert_eq!(after.list_uploads("").await.unwrap(), [Upload { key: "a/b.mp4".into(), id: upload.clone() }]);
    let mut parts = after.list_parts("a/b.mp4", &upload).await.unwrap();
    parts.push(after.put_part("a/b.mp4", &upload, 2, noise(10, 2)).await.unwrap());
    after.complete("a/b.mp4", &upload, &parts, If::Absent).await.unwrap();
    assert_eq!(fs::read(root.path().join("a/b.mp4")).unwrap(), [noise(1000, 1), noise(10, 2)].concat());
    let staging: Vec<_> = fs::read_dir(root.path().join(".recorder-staging")).unwrap().collect();
    assert!(staging.is_empty(), "{staging:?}");
}

#[tokio::test]
async fn what_a_crash_left_is_swept_after_a_day_and_not_before() {
    let root = tempfile::tempdir().unwrap();
    let staging = root.path().join(".recorder-staging");
    fs::create_dir_all(&staging).unwrap();
    let fresh = File::create(staging.join("tmp-fresh")).unwrap();
    let now = fresh.metadata().unwrap().modified().unwrap();
    let old = File::create(staging.join("tmp-old")).unwrap();
    old.set_modified(now - Duration::from_secs(25 * 3600)).unwrap();
    Library::open(root.path(), "", AttemptLimit::default()).unwrap();
    let left: Vec<_> = fs::read_dir(&staging).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["tmp-fresh"]);
}

#[tokio::test]
async fn a_full_or_foreign_disk_is_the_nodes_fault() {
    let root = tempfile::tempdir().unwrap();
    let library = Library::open(root.path(), "", AttemptLimit::default()).unwrap();
    library.put("dir", noise(1, 1), &meta(), If::Any).await.unwrap();
    // A file where a directory is needed.
    let error = library.put("dir/file", noise(1, 1), &meta(), If::Any).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (Kind::Invalid, "NotADirectory"));
    let full = disk("put", "k", &std::io::Error::from(std::io::ErrorKind::StorageFull));
    assert_eq!((full.kind, full.blame()), (Kind::Disk, crate::Blame::Node));
    assert_eq!((full.retry(), full.code.as_str()), (crate::Retry::Backoff, "StorageFull"));
    assert_eq!(library.uri("a b.mp4"), "library:///a%20b.mp4");
}

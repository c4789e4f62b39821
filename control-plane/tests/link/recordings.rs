//! Lists of recordings and files: filters, labels, pages.
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::ListRecordingsRequest;
use recorder_proto::pb::v1::recording::State;
use recorder_proto::time;

use super::control::{Control, on_each, refused};
use super::node::Node;
use super::story::{Story, at};

/// Three recordings: done on cam1, running on cam1, failed on cam2 of another domain.
async fn three(control: &Control) -> [Story; 3] {
    let mut node = Node::ready(control, "m1").await;
    let mut done = Story::new("push.example.com", "cam1");
    done.labels = [("team".to_owned(), "news".to_owned())].into();
    let facts =
        vec![done.started(), done.opened(0), done.opened(1), done.ended(2), done.available(0), done.available(1)];
    node.report(facts).await;
    let mut running = done.another("cam1");
    let fact = running.started();
    node.report(vec![fact]).await;
    let mut failed = Story { sequence: running.sequence, ..Story::new("other.example.com", "cam2") };
    let facts = vec![failed.started(), failed.ended(0)];
    node.report(facts).await;
    [done, running, failed]
}

async fn names(control: &Control, request: ListRecordingsRequest) -> Vec<String> {
    let listed = control.recordings().list_recordings(request).await.unwrap().into_inner();
    let mut names: Vec<String> = listed.recordings.into_iter().map(|recording| recording.name).collect();
    names.sort();
    names
}

fn sorted(stories: &[&Story]) -> Vec<String> {
    let mut names: Vec<String> = stories.iter().map(|story| story.name()).collect();
    names.sort();
    names
}

#[test]
fn every_filter_keeps_what_it_says() {
    on_each(async |control| {
        let [done, running, failed] = &three(&control).await;
        let stream = |domain: &str, stream: &str| {
            Some(v1::StreamRef { domain: domain.into(), app: String::new(), stream: stream.into() })
        };
        let all = ListRecordingsRequest::default;
        let cases = [
            (all(), vec![done, running, failed]),
            (ListRecordingsRequest { stream: stream("PUSH.example.com", ""), ..all() }, vec![done, running]),
            (ListRecordingsRequest { stream: stream("", "cam2"), ..all() }, vec![failed]),
            (ListRecordingsRequest { states: vec![State::Recording as i32], ..all() }, vec![running]),
            (
                ListRecordingsRequest { states: vec![State::Succeeded as i32, State::Failed as i32], ..all() },
                vec![done, failed],
            ),
            (ListRecordingsRequest { node: "nodes/m1".into(), ..all() }, vec![done, running, failed]),
            (ListRecordingsRequest { node: "m2".into(), ..all() }, vec![]),
            (ListRecordingsRequest { template: "default".into(), ..all() }, vec![done, running, failed]),
            (ListRecordingsRequest { task: "tasks/t".into(), ..all() }, vec![]),
            (ListRecordingsRequest { start_after: Some(time::timestamp(at(2))), ..all() }, vec![]),
            (
                ListRecordingsRequest { start_before: Some(time::timestamp(at(2))), ..all() },
                vec![done, running, failed],
            ),
            (ListRecordingsRequest { labels: [("team".into(), "news".into())].into(), ..all() }, vec![done]),
            (ListRecordingsRequest { labels: [("team".into(), "sport".into())].into(), ..all() }, vec![]),
        ];
        for (request, expected) in cases {
            assert_eq!(names(&control, request.clone()).await, sorted(&expected), "{request:?}");
        }
        let nonsense = ListRecordingsRequest { states: vec![99], node: "N O".into(), ..all() };
        let problem = refused(control.recordings().list_recordings(nonsense).await);
        assert_eq!(problem.fields.len(), 2, "{problem}");
    });
}

#[test]
fn pages_cover_the_list_once_with_and_without_labels() {
    on_each(async |control| {
        three(&control).await;
        for labels in [Default::default(), [("team".to_owned(), "news".to_owned())].into()] {
            let request = ListRecordingsRequest { labels, page_size: 1, ..Default::default() };
            let whole = names(&control, ListRecordingsRequest { page_size: 0, ..request.clone() }).await;
            let (mut paged, mut token) = (Vec::new(), String::new());
            loop {
                let request = ListRecordingsRequest { page_token: token, ..request.clone() };
                let page = control.recordings().list_recordings(request).await.unwrap().into_inner();
                assert!(page.recordings.len() <= 1);
                paged.extend(page.recordings.into_iter().map(|recording| recording.name));
                token = page.next_page_token;
                if token.is_empty() {
                    break;
                }
            }
            assert!(paged.is_sorted_by(|newer, older| newer > older), "newest first");
            paged.sort();
            assert_eq!(paged, whole);
        }
    });
}

#[test]
fn files_are_listed_by_format_and_index() {
    on_each(async |control| {
        let [done, _, failed] = &three(&control).await;
        let mut request = v1::ListFilesRequest { parent: done.name(), page_size: 1, ..Default::default() };
        let first = control.recordings().list_files(request.clone()).await.unwrap().into_inner();
        assert_eq!(first.files[0].index, 0);
        request.page_token = first.next_page_token;
        let second = control.recordings().list_files(request).await.unwrap().into_inner();
        assert_eq!((second.files[0].index, second.next_page_token.as_str()), (1, ""));
        let hls = v1::ListFilesRequest {
            parent: done.name(),
            formats: vec![v1::format::Kind::Hls as i32],
            ..Default::default()
        };
        assert_eq!(control.recordings().list_files(hls).await.unwrap().into_inner().files, []);
        assert_eq!(control.files(&failed.name()).await, []);
        let get = v1::GetFileRequest { name: format!("{}/files/mp4-7", done.name()) };
        assert_eq!(refused(control.recordings().get_file(get).await).reason, "FILE_NOT_FOUND");
    });
}

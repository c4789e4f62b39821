//! Many events at once: all of them, each subject in its order, past every batch.
use std::collections::BTreeMap;
use std::time::Instant;

use prost::Message;
use recorder_db::{AnyConnection, events};
use recorder_proto::pb::v1;

use super::receiver::{Manner, Receiver};
use super::{create, of_templates, on_each};

/// More than is read at once.
const EVENTS: usize = 400;

/// Resources that they are about.
const SUBJECTS: usize = 40;

#[test]
fn a_burst_arrives_completely_and_in_order() {
    on_each(async |control| {
        let mut receiver = Receiver::always(Manner::Status(200)).await;
        create(&control, "ops", of_templates(receiver.url("/"))).await;
        let write = |db: &mut AnyConnection| {
            for number in 0..EVENTS {
                let name = format!("templates/t{}", number % SUBJECTS);
                let body = v1::Template { name: name.clone(), description: number.to_string(), ..Default::default() };
                events::append(db, &format!("e{number}"), "template.updated", &name, 0, body.encode_to_vec())?;
            }
            Ok::<_, recorder_db::Error>(())
        };
        let began = Instant::now();
        control.scratch.db.write(write).await.unwrap();
        let mut told: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for _ in 0..EVENTS {
            let event = receiver.next().await.json();
            let number = event["data"]["description"].as_str().unwrap().parse().unwrap();
            told.entry(event["subject"].as_str().unwrap().to_owned()).or_default().push(number);
        }
        let rate = EVENTS as f64 / began.elapsed().as_secs_f64();
        println!("{}: {EVENTS} events to one receiver, {rate:.0} a second", control.scratch.db.kind().as_str());
        for (subject, numbers) in told {
            assert!(
                numbers.is_sorted() && numbers.windows(2).all(|pair| pair[1] == pair[0] + SUBJECTS),
                "{subject}: {numbers:?}"
            );
        }
        assert!(receiver.rest().is_empty());
    });
}

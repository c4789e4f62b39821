//! Runs worlds: one with its log (`--seed 7`), or many (`--seeds 1000 --from 0 --jobs 2`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use recorder_sim::check::TAILS;
use recorder_sim::plan::{Kind, Mutant};
use recorder_sim::run::Order;

/// What was asked for.
struct Wish {
    child: bool,
    seed: Option<u64>,
    seeds: u64,
    from: u64,
    jobs: usize,
    kind: Kind,
    mutant: Option<Mutant>,
}

fn wish() -> Wish {
    let (kind, mutant) = (Kind::Any, None);
    let mut wish = Wish { child: false, seed: None, seeds: 100, from: 0, jobs: 2, kind, mutant };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse::<u64>().ok()).expect("a number");
        match argument.as_str() {
            "--child" => wish.child = true,
            "--seed" => wish.seed = Some(number()),
            "--seeds" => wish.seeds = number(),
            "--from" => wish.from = number(),
            "--jobs" => wish.jobs = number() as usize,
            "--asymmetric" => wish.kind = Kind::Asymmetric,
            "--mutant" => {
                let name = arguments.next().unwrap_or_default();
                let known = Mutant::ALL.iter().find(|(known, _)| *known == name);
                wish.mutant = Some(known.unwrap_or_else(|| panic!("no mutant {name}")).1);
            }
            other => panic!("unknown argument {other}"),
        }
    }
    wish
}

fn main() -> ExitCode {
    let wish = wish();
    let order = |seed| Order { seed, kind: wish.kind, mutant: wish.mutant };
    let program = std::env::current_exe().expect("this program").display().to_string();
    match wish.seed {
        Some(seed) if wish.child => {
            return if order(seed).live() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        Some(seed) => {
            let outcome = order(seed).run(&program);
            println!("{}", outcome.log);
            eprintln!("{}", outcome.trouble);
            return if outcome.clean { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        None => {}
    }
    let (next, failed, tails) = (AtomicU64::new(wish.from), AtomicU64::new(0), AtomicU64::new(0));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..wish.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= wish.from + wish.seeds {
                        return;
                    }
                    let outcome = order(seed).run(&program);
                    tails.fetch_add(u64::from(outcome.log.contains(TAILS)), Ordering::Relaxed);
                    if !outcome.clean {
                        failed.fetch_add(1, Ordering::Relaxed);
                        eprintln!("seed {seed}: {}\n  replay: {}", outcome.trouble.trim(), order(seed).replay());
                    }
                }
            });
        }
    });
    let (failed, tails, seconds) = (failed.into_inner(), tails.into_inner(), started.elapsed().as_secs());
    println!("{} seeds from {}: {failed} failed, {seconds} s; {tails} with frames in {TAILS}", wish.seeds, wish.from);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

//! One environment for both binaries, as in a compose file: neither stumbles over what is meant for the other.

use recorder_runtime::config::Program;

fn assert_passes_over(program: &Program, other: &Program) {
    let own: Vec<String> = program.settings.iter().map(|setting| setting.env()).collect();
    let mut others: Vec<String> = other.settings.iter().map(|setting| setting.env()).collect();
    others.retain(|name| !own.contains(name));
    others.sort();
    let mut neighbours: Vec<String> = program.neighbours.iter().map(|name| (*name).to_owned()).collect();
    neighbours.sort();
    assert_eq!(neighbours, others, "{}", program.name);
    // Values that no setting would accept: they are not even looked at.
    let environment = others.into_iter().map(|name| (name, "?".to_owned())).collect();
    if let Err(errors) = program.load([], &environment) {
        panic!("{}: {errors}", program.name);
    }
}

#[test]
fn each_binary_passes_over_the_settings_of_the_other() {
    let (control, media) = (recorder_control::config::PROGRAM, recorder_media::config::PROGRAM);
    assert_passes_over(&control, &media);
    assert_passes_over(&media, &control);
}

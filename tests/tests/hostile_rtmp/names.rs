//! Attacks on where files go and who may publish: stream names, apps, push domains, signatures.

use recorder_tests::attack::{After, Case, Outcome, case};
use rtmp::client::Client;

use super::media::proper;

/// A push domain that wants signed URLs; the others are open.
pub const SIGNED: &str = "signed.example.com";

fn publish(stream: &str) -> Vec<u8> {
    let client = Client::new();
    [client.create_stream(stream), client.publish(stream), proper(), client.unpublish(stream)].concat()
}

/// Names that are taken: two seconds are recorded under each.
pub fn taken() -> Vec<(&'static str, String)> {
    [
        ("two dots", ".."),
        ("one dot", "."),
        ("a hidden file", ".bashrc"),
        ("backslashes", "..\\..\\..\\windows\\win.ini"),
        ("a drive", "C:"),
        ("percent escapes of dots and slashes", "%2e%2e%2f%2e%2e%2fetc%2fpasswd"),
        ("percent escapes of percent escapes", "%252e%252e%252f"),
        ("percent escapes of nothing", "%00%zz%"),
        ("percent escapes of overlong utf-8", "%c0%ae%c0%ae%c0%af"),
        ("full-width dots and slashes", "．．／．．／etc"),
        ("unicode", "直播 ☃ ❤\u{1f600} Zürich"),
        ("bidi controls", "\u{202e}gpj.exe\u{2066}x\u{2069}\u{200b}"),
        ("combining marks", "e\u{301}\u{301}\u{301}\u{301}"),
        ("noncharacters", "a\u{fffe}\u{ffff}"),
        ("line separators", "a\u{2028}b\u{2029}c"),
        ("template variables", "{RecordId}{StreamID}{}"),
        ("shell", "$(reboot);`id`|&<>\"'*~!"),
        ("sql", "'; DROP TABLE recordings; --"),
        ("a playlist", "index.m3u8#EXT-X"),
        ("a space", " "),
        ("a device", "CON.txt"),
    ]
    .map(|(what, name)| (what, name.to_owned()))
    .into_iter()
    .chain([
        ("500 characters", "x".repeat(500)),
        ("512 bytes of three-byte characters", "中".repeat(170)),
        ("500 dots", ".".repeat(500)),
    ])
    .collect()
}

/// Every name, taken or refused.
pub fn streams() -> Vec<Case> {
    let accepted = taken().into_iter().map(|(what, name)| {
        case(format!("a stream named with {what}"), After::Connect, publish(&name), Outcome::Served)
    });
    let refused = [
        ("slashes", "../../../../../../tmp/recorder-escaped".to_owned()),
        ("an absolute path", "/tmp//recorder-escaped".to_owned()),
        ("NUL", "a\0b".to_owned()),
        ("a line feed", "a\nb\r\nSet-Cookie: x".to_owned()),
        ("a C1 control", "a\u{9b}31m".to_owned()),
        ("513 characters", "x".repeat(513)),
        ("16,000 characters", "x".repeat(16_000)),
        ("nothing", String::new()),
        ("slashes only", "///".to_owned()),
    ];
    let refused = refused.map(|(what, name)| {
        let client = Client::new();
        // The courtesies are left out: what matters is the answer to publish, unread bytes could take it away.
        let bytes = client.publish(&name);
        case(format!("a stream named with {what}"), After::Connect, bytes, Outcome::Told("NetStream.Publish.BadName"))
    });
    accepted.chain(refused).collect()
}

/// Apps, domains and signatures that are not right.
pub fn places() -> Vec<Case> {
    let ask = |app: &str, url: &str, stream: &str| {
        let client = Client::new();
        [client.connect(app, url), client.create_stream(stream), client.publish(stream)].concat()
    };
    let at = |app: &str, domain: &str, stream: &str| ask(app, &format!("rtmp://{domain}/live"), stream);
    let domain = "push.example.com";
    let far = "f".repeat(20);
    let bad = Outcome::Told("NetStream.Publish.BadName");
    let wrong = Outcome::Told("the signature of the URL is wrong");
    let unknown = Outcome::Told("is not known here");
    let mut cases = vec![("an unknown domain", at("live", "unknown.example.com", "x"), unknown)];
    for app in ["..", "live/../../..", "live/..", "a//b", "live\0", "live\\..", "%2e%2e", "ä"] {
        cases.push(("an app that is none", at(app, domain, "x"), bad));
    }
    cases.push(("an app of 300 characters", at(&"a".repeat(300), domain, "x"), bad));
    for host in ["..", "../..", "a_b", "", "-a", "push.example.com%2f.."] {
        cases.push(("a domain that is none", at("live", domain, &format!("x?domain={host}/")), bad));
    }
    cases.push(("a url that is none", ask("live", "://///?@:[", "x"), bad));
    cases.push(("a domain of 300 characters", at("live", &"a".repeat(300), "x"), bad));
    let signed = |query: &str| at("live", SIGNED, &format!("x?{query}"));
    cases.extend([
        ("no signature", signed(""), Outcome::Told("txSecret and txTime are missing")),
        ("an empty signature", signed("txSecret=&txTime=7fffffff"), wrong),
        ("a wrong signature", signed("txSecret=00112233445566778899aabbccddeeff&txTime=7fffffff"), wrong),
        ("a signature of 8 KB", signed(&format!("txSecret={}&txTime=7fffffff", "a".repeat(8_000))), wrong),
        ("a time beyond time", signed(&format!("txSecret=00&txTime={far}")), wrong),
        ("a time before time", signed("txSecret=00&txTime=-1"), wrong),
        ("1,000 parameters", signed(&"a=b&".repeat(1_000)), Outcome::Told("txSecret and txTime are missing")),
    ]);
    let numbered = cases.into_iter().zip(1..);
    numbered
        .map(|((name, bytes, outcome), n)| case(format!("{name} ({n})"), After::Handshake, bytes, outcome))
        .collect()
}

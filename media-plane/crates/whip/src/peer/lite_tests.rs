//! Who is believed, from where, and until when.

use rtc::crypto::RTCCryptoProvider;

use super::*;

fn crypto() -> std::sync::Arc<dyn RTCCryptoProvider> {
    rtc::crypto::default_provider().unwrap()
}

fn credentials(generation: &str) -> Credentials {
    Credentials {
        ufrag: format!("local{generation}"),
        password: format!("local-password-number-{generation}"),
        remote_ufrag: format!("remote{generation}"),
        remote_password: format!("remote-password-number-{generation}"),
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 9], port))
}

fn check(credentials: &Credentials, nominate: bool) -> BytesMut {
    let crypto = crypto();
    if nominate {
        return nomination(credentials, crypto.crypto()).unwrap();
    }
    let name = format!("{}:{}", credentials.ufrag, credentials.remote_ufrag);
    let password = credentials.password.clone();
    message(vec![
        Box::new(BINDING_REQUEST),
        Box::new(TransactionId::new()),
        Box::new(Username::new(ATTR_USERNAME, name)),
        Box::new(MessageIntegrity::new_short_term_integrity_with_provider(password, crypto.crypto())),
        Box::new(FINGERPRINT),
    ])
    .unwrap()
}

fn judge(lite: &mut Lite, port: u16, data: &[u8]) -> bool {
    lite.check(address(port), data, crypto().crypto()).genuine
}

#[test]
fn a_genuine_check_is_answered_with_the_address_it_came_from() {
    let mut lite = Lite::new(credentials("1"));
    let data = check(&credentials("1"), false);
    let checked = lite.check(address(5000), &data, crypto().crypto());
    let mut answer = Message::new();
    answer.unmarshal_binary(&checked.answer.unwrap()).unwrap();
    assert_eq!(answer.typ, BINDING_SUCCESS);
    let mut mapped = XorMappedAddress::default();
    rtc::stun::message::Getter::get_from(&mut mapped, &answer).unwrap();
    assert_eq!((mapped.ip, mapped.port), (address(5000).ip(), 5000));
    assert!(lite.knows(address(5000)) && lite.nominated().is_none());
}

#[test]
fn forged_and_broken_checks_change_nothing() {
    let mut lite = Lite::new(credentials("1"));
    let wrong_password = Credentials { password: "another".into(), ..credentials("1") };
    let wrong_name = Credentials { remote_ufrag: "other".into(), ..credentials("1") };
    assert!(!judge(&mut lite, 1, &check(&wrong_password, true)));
    assert!(!judge(&mut lite, 1, &check(&wrong_name, true)));
    let genuine = check(&credentials("1"), true);
    for cut in 0..genuine.len() {
        assert!(!judge(&mut lite, 1, &genuine[..cut]), "{cut}");
    }
    for position in 0..genuine.len() - 8 {
        let mut bent = genuine.to_vec();
        bent[position] ^= 0x40;
        assert!(!judge(&mut lite, 1, &bent), "{position}");
    }
    assert!(lite.nominated().is_none() && !lite.knows(address(1)));
}

#[test]
fn the_newest_nomination_decides_where_to_send_to() {
    let mut lite = Lite::new(credentials("1"));
    assert!(judge(&mut lite, 1, &check(&credentials("1"), true)));
    assert!(judge(&mut lite, 2, &check(&credentials("1"), false)));
    assert_eq!(lite.nominated(), Some(address(1)));
    assert!(judge(&mut lite, 2, &check(&credentials("1"), true)));
    assert_eq!(lite.nominated(), Some(address(2)), "another network");
    assert!(lite.knows(address(1)));
}

#[test]
fn paths_are_bounded() {
    let mut lite = Lite::new(credentials("1"));
    for port in 1..1_000 {
        assert!(judge(&mut lite, port, &check(&credentials("1"), false)));
    }
    assert_eq!(lite.paths.len(), MAX_PATHS);
    assert!(lite.knows(address(999)) && !lite.knows(address(1)));
}

#[test]
fn after_a_restart_the_old_password_is_good_until_the_new_one_is_used() {
    let mut lite = Lite::new(credentials("1"));
    assert!(judge(&mut lite, 1, &check(&credentials("1"), true)));
    lite.restart(credentials("2"));
    assert!(judge(&mut lite, 1, &check(&credentials("1"), true)), "consent goes on");
    assert!(judge(&mut lite, 2, &check(&credentials("2"), false)));
    assert!(judge(&mut lite, 2, &check(&credentials("2"), true)));
    assert_eq!(lite.nominated(), Some(address(2)));
    assert!(!judge(&mut lite, 1, &check(&credentials("1"), true)), "over");
    lite.restart(credentials("3"));
    lite.restart(credentials("4"));
    assert!(judge(&mut lite, 2, &check(&credentials("4"), true)), "a restart that was given up is replaced");
    assert!(!judge(&mut lite, 2, &check(&credentials("3"), true)));
}

#[test]
fn a_publisher_in_the_wrong_role_is_told_so() {
    let mut lite = Lite::new(credentials("1"));
    let (one, crypto) = (credentials("1"), crypto());
    let data = message(vec![
        Box::new(BINDING_REQUEST),
        Box::new(TransactionId::new()),
        Box::new(Username::new(ATTR_USERNAME, format!("{}:{}", one.ufrag, one.remote_ufrag))),
        Box::new(rtc::ice::attributes::control::AttrControlled(7)),
        Box::new(MessageIntegrity::new_short_term_integrity_with_provider(one.password, crypto.crypto())),
        Box::new(FINGERPRINT),
    ])
    .unwrap();
    let answer = lite.check(address(1), &data, crypto.crypto()).answer.unwrap();
    let mut told = Message::new();
    told.unmarshal_binary(&answer).unwrap();
    assert_eq!(told.typ, BINDING_ERROR);
    assert!(!lite.knows(address(1)));
}

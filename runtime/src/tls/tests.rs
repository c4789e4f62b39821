//! What becomes of files that change, in the order in which they may change.
use rcgen::{CertificateParams, KeyPair};

use super::*;

struct Folder {
    folder: tempfile::TempDir,
    files: Files,
}

fn pair(name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

impl Folder {
    fn with(pair: &(String, String)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = Files {
            certificate: folder.path().join("certificate.pem"),
            key: folder.path().join("key.pem"),
            client_ca: None,
        };
        let made = Self { folder, files };
        made.replace(&made.files.certificate, &pair.0);
        made.replace(&made.files.key, &pair.1);
        made
    }

    /// As tools do it: written beside it, then moved into its place.
    fn replace(&self, file: &std::path::Path, text: &str) {
        let fresh = self.folder.path().join("fresh");
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(fresh, file).unwrap();
    }
}

#[test]
fn a_pair_that_is_replaced_one_after_the_other_is_taken_up_when_it_fits() {
    let folder = Folder::with(&pair("one"));
    let tls = Tls::load(folder.files.clone(), Protocol::Grpc).unwrap();
    assert!(!tls.refresh().unwrap(), "nothing has changed");
    let (certificate, key) = pair("two");
    folder.replace(&folder.files.certificate, &certificate);
    let error = tls.refresh().unwrap_err();
    assert!(matches!(&error, Error::Tls { path, .. } if *path == folder.files.certificate), "{error}");
    assert!(!tls.refresh().unwrap(), "it is told once, not every second");
    folder.replace(&folder.files.key, &key);
    assert!(tls.refresh().unwrap());
    std::fs::remove_file(&folder.files.key).unwrap();
    assert!(matches!(tls.refresh(), Err(Error::TlsFile { .. })));
    folder.replace(&folder.files.key, &key);
    assert!(tls.refresh().unwrap());
}

#[test]
fn what_is_no_certificate_or_key_is_named_without_being_shown() {
    let sound = pair("one");
    let swapped = Folder::with(&(sound.1.clone(), sound.0.clone()));
    let error = Tls::load(swapped.files.clone(), Protocol::Http).unwrap_err().to_string();
    assert!(error.contains(swapped.files.certificate.to_str().unwrap()), "{error}");
    assert!(!error.contains("PRIVATE KEY"), "{error}");
    let mut files = Folder::with(&sound);
    files.files.client_ca = Some(files.folder.path().join("ca.pem"));
    assert!(matches!(Tls::load(files.files.clone(), Protocol::Http), Err(Error::TlsFile { .. })));
    files.replace(files.files.client_ca.as_ref().unwrap(), "nothing");
    let error = Tls::load(files.files.clone(), Protocol::Http).unwrap_err().to_string();
    assert!(error.contains("ca.pem"), "{error}");
    files.replace(files.files.client_ca.as_ref().unwrap(), &sound.0);
    assert!(Tls::load(files.files.clone(), Protocol::Http).unwrap().is_mutual());
}

#[test]
fn the_names_of_a_certificate_are_its_dns_names() {
    use rustls_pki_types::pem::PemObject;
    let key = KeyPair::generate().unwrap();
    let names = vec!["m1".to_owned(), "m2.example.com".to_owned(), "192.0.2.1".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let der = CertificateDer::from_pem_slice(certificate.pem().as_bytes()).unwrap();
    assert_eq!(dns_names(&der), ["m1", "m2.example.com"]);
    assert_eq!(dns_names(&CertificateDer::from(vec![1, 2, 3])), Vec::<String>::new());
}

//! The cluster's certificate authority, and a key and certificate for everybody in it (ECDSA P-256).

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use super::InitError;
use super::plan::Plan;
use crate::tls::Principal;

/// Certificates are valid from before any clock that is merely wrong ...
const FIRST_YEAR: i32 = 2020;
/// ... and outlive the hardware: an expired certificate would stop a cluster that nobody has touched.
const LAST_YEAR: i32 = 2060;

/// A file of `keys/`.
pub struct KeyFile {
    /// Its name in there.
    pub name: String,
    /// PEM.
    pub text: String,
    /// Only its owner may read it.
    pub secret: bool,
}

/// Everything in `keys/`.
pub fn make(plan: &Plan) -> Result<Vec<KeyFile>, InitError> {
    let failed = |who: String| move |source| InitError::Key { who, source };
    let ca = authority(plan).map_err(failed("the cluster's authority".to_owned()))?;
    let mut files = pair("ca", ca.pem(), ca.key());
    for who in plan.principals() {
        let key = KeyPair::generate().map_err(failed(who.to_string()))?;
        let cert =
            params(plan, &who).and_then(|p| p.signed_by(&key, &ca)).map_err(failed(who.to_string()))?;
        files.extend(pair(who.file_name(), cert.pem(), &key));
    }
    Ok(files)
}

fn pair(name: &str, cert: String, key: &KeyPair) -> Vec<KeyFile> {
    vec![
        KeyFile { name: format!("{name}.pem"), text: cert, secret: false },
        KeyFile { name: format!("{name}.key"), text: key.serialize_pem(), secret: true },
    ]
}

fn authority(plan: &Plan) -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.not_before = date_time_ymd(FIRST_YEAR, 1, 1);
    params.not_after = date_time_ymd(LAST_YEAR, 1, 1);
    params.distinguished_name.push(DnType::CommonName, format!("hanfs cluster {}", plan.cluster));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

/// Everybody both calls and is called, so every certificate is good for both.
fn params(plan: &Plan, who: &Principal) -> Result<CertificateParams, rcgen::Error> {
    let mut names = vec![who.dns_name()];
    names.extend(plan.address_of(who).map(|ip| ip.to_string()));
    let mut params = CertificateParams::new(names)?;
    params.not_before = date_time_ymd(FIRST_YEAR, 1, 1);
    params.not_after = date_time_ymd(LAST_YEAR, 1, 1);
    params.distinguished_name.push(DnType::CommonName, who.dns_name());
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

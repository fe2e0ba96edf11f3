//! The certificate that the public URL shows, or would show, against its host.

use super::{Findings, count};
use crate::facts::{CertificateFacts, Trust, UrlFacts};
use crate::finding::{Check, Finding};

const CERTIFICATE: Check = Check::Certificate;

const DAY_S: i64 = 86_400;

/// From how many days before its end on a certificate is warned of. Those that renew themselves do it 30 days before, of
/// 90; one that is still there after two more weeks was forgotten.
const WARNING_DAYS: i64 = 15;

/// `is_private` is whether clients are told about its authority (CT_TRUST_ALL_CERTS).
pub(super) fn judge(url: &UrlFacts, is_private: bool, findings: &mut Findings) {
    match &url.certificate {
        Some(Ok(certificate)) => {
            let before = findings.len();
            let it = match &certificate.file {
                Some(file) => format!("The certificate {file}"),
                None => "The certificate".to_owned(),
            };
            let is_told = is_private && certificate.trust == Trust::UnknownIssuer;
            troubles(url, certificate, &it, is_told, findings);
            if findings.len() == before {
                let days = count(days(certificate.ends_in_s), "day", "days");
                let trust = if is_told { "of an authority of your own" } else { "trusted here" };
                let sentence = format!("{it} is for {}, {trust}, and ends in {days}.", url.host);
                findings.push(Finding::ok(CERTIFICATE, "certificate.ok", sentence));
            }
        }
        Some(Err(problem)) => findings.push(Finding::error(
            CERTIFICATE,
            "certificate.no-tls",
            format!("What answers at {} does not speak TLS as clients do: {problem}.", url.url),
            "Let the URL lead to the HTTPS port (1443 of the balancer, published as 443), or end TLS in the proxy before it.",
        )),
        None if !url.is_https && !is_loopback(&url.host) => findings.push(Finding::warning(
            CERTIFICATE,
            "certificate.plain-http",
            "The public URL is plain HTTP: tokens can be read on their way, and browsers refuse what they allow only on HTTPS.",
            "Use an https:// URL; the balancer takes a certificate below [[certificates]].",
        )),
        None => {}
    }
}

fn troubles(url: &UrlFacts, certificate: &CertificateFacts, it: &str, is_told: bool, findings: &mut Findings) {
    let CertificateFacts { names, names_host, issuer, is_self_signed, chain_length, trust, .. } = certificate;
    let mut error = |code, sentence: String, remedy: &str| {
        findings.push(Finding::error(CERTIFICATE, code, sentence, remedy));
    };
    if !names_host {
        let names = if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") };
        error(
            "certificate.wrong-name",
            format!("{it} is for {names}, but the public URL has the host {}: clients refuse it.", url.host),
            "Get a certificate with this name, or correct CT_SERVER_URL (server_url).",
        );
    }
    if certificate.ends_in_s < 0 {
        let days = count(days(-certificate.ends_in_s), "day", "days");
        error(
            "certificate.expired",
            format!("{it} ended {days} ago: clients refuse it."),
            "Renew it; the balancer takes changed files up by itself.",
        );
    }
    if certificate.begins_in_s > 0 {
        error(
            "certificate.not-yet-valid",
            format!("{it} is not valid yet by the clock of this machine."),
            "Compare this machine's clock with another one, and then the dates of the certificate.",
        );
    }
    match trust {
        Trust::Rooted => {}
        // Each editor's users are told at /clients how to make it known.
        Trust::UnknownIssuer if is_told => {}
        Trust::UnknownIssuer if *is_self_signed => findings.push(Finding::warning(
            CERTIFICATE,
            "certificate.self-signed",
            format!("{it} is self-signed: clients refuse it, except those that were told to trust it."),
            "Get one from an authority that clients know and name it below [[certificates]], or give this one to every client.",
        )),
        Trust::UnknownIssuer if *chain_length == 1 => findings.push(Finding::error(
            CERTIFICATE,
            "certificate.chain",
            format!("The issuer {issuer} is not known here, and no certificate between it and a root was sent."),
            "Give the full chain (fullchain.pem), the server's certificate first; if the issuer is your own, its root \
             belongs on every client, and here.",
        )),
        Trust::UnknownIssuer => findings.push(Finding::warning(
            CERTIFICATE,
            "certificate.unknown-issuer",
            format!("The issuer {issuer} is not known here."),
            "If it is your own, its root belongs on every client, and on this machine for this command.",
        )),
        Trust::Broken(problem) => findings.push(Finding::error(
            CERTIFICATE,
            "certificate.broken",
            format!("The chain of certificates is not sound: {problem}."),
            "Get a certificate that browsers take, and give it with its full chain.",
        )),
    }
    if (0..WARNING_DAYS * DAY_S).contains(&certificate.ends_in_s) {
        let days = count(days(certificate.ends_in_s), "day", "days");
        findings.push(Finding::warning(
            CERTIFICATE,
            "certificate.ends-soon",
            format!("{it} ends in {days}."),
            "Renew it; the balancer takes changed files up by itself. If something renews it, see why it did not.",
        ));
    }
}

fn days(seconds: i64) -> usize {
    usize::try_from(seconds / DAY_S).unwrap_or(0)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

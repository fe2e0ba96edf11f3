//! Plain requests to the public URL: whether our edge answers, and nobody in between changes it.

use super::{Findings, described, reaches_no_node};
use crate::facts::{Answer, UrlFacts};
use crate::finding::{Cause, Check, Finding};

const HTTP: Check = Check::Http;

pub(super) fn judge(url: &UrlFacts, serves_others: bool, findings: &mut Findings) {
    match &url.meta {
        None => return,
        Some(Err(problem)) => findings.push(Finding::error(
            HTTP,
            "http.no-answer",
            format!("{} takes connections but gives no answer: {problem}.", url.url),
            "See error.log of the balancer, and the log of the proxy before it; an HTTPS port does not answer plain HTTP.",
        )),
        Some(Ok(answer)) if answer.is_ours => {
            findings.push(Finding::ok(HTTP, "http.ok", format!("{} answers as an edge does.", url.url)));
        }
        Some(Ok(answer)) if serves_others && answer.status < 500 => {
            let sentence = format!("{} answers for other servers than nodes of this edge: {}.", url.url, described(answer));
            findings.push(Finding::ok(HTTP, "http.others", sentence));
        }
        Some(Ok(answer)) => findings.push(strange(url, answer)),
    }
    if url.shows_private_figures {
        findings.push(Finding::warning(
            HTTP,
            "http.private-figures",
            format!("Everybody can read at {}/metrics what a part of the edge counts for itself.", url.url),
            "What passes requests on to the nodes does not say so: set metrics.token, and give it to Prometheus; or let the \
             proxy send X-Forwarded-For. balancer.admin must not be passed on at all.",
        ));
    }
    if url.is_https && url.cookie_secure == Some(false) {
        findings.push(Finding::warning(
            HTTP,
            "http.cookie-not-secure",
            "The stickiness cookie comes without Secure over HTTPS: the balancer does not know that clients use HTTPS.",
            "Let the proxy before it send X-Forwarded-Proto, and name the proxy's network in balancer.trusted_proxies.",
        ));
    }
}

fn strange(url: &UrlFacts, answer: &Answer) -> Finding {
    let said = described(answer);
    let error = |code, sentence: String, remedy: &str| Finding::error(HTTP, code, sentence, remedy);
    if let (300..=399, Some(location)) = (answer.status, &answer.location) {
        let sentence = format!("The public URL sends clients elsewhere, to {location}; most of them do not follow.");
        let remedy = "Set CT_SERVER_URL (server_url) to the URL where it ends, or take the redirect away for /api/ and /socket.io/.";
        return error("http.redirect", sentence, remedy);
    }
    if reaches_no_node(answer) {
        let sentence = format!("The balancer reaches no node: it answered {said}.");
        let remedy =
            "See `ctedge status`, or for another balancer its list of servers; the finding about nodes says more.";
        let code = if answer.code.is_some() { "http.no-node" } else { "http.gateway" };
        return error(code, sentence, remedy).because(Cause::NodeDown);
    }
    match answer.status {
        404 => {
            let prefix = if url.prefix.is_empty() {
                "The proxy must pass the path on as it is; what it serves itself must not hide /api/ and /socket.io/."
                    .to_owned()
            } else {
                format!(
                    "Our balancer takes {} off itself and wants it passed on (server_url has it); nodes without that balancer \
                     want it taken off by the proxy.",
                    url.prefix
                )
            };
            let sentence = format!("Nothing is served at {}/api/meta: {said}.", url.url);
            Finding::error(HTTP, "http.not-found", sentence, prefix)
        }
        401 | 403 | 407 => error(
            "http.forbidden",
            format!("Somebody before the edge wants a login of its own, or refuses: {said}."),
            "IDE clients cannot log in there: exempt /api/ and /socket.io/ from the proxy's or the firewall's rules.",
        ),
        200..=299 => error(
            "http.foreign",
            format!("Something else than an edge answers at {}: {said}, but not what a node says.", url.url),
            "See where the name and the proxy lead to; a page to log in or a cached page also looks like this.",
        ),
        _ => error(
            "http.status",
            format!("A plain request was answered with {said}."),
            "The log of whoever answered says why: the Server header names it, and ours keeps error.log.",
        ),
    }
}

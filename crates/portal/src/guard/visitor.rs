//! Visitors who have had the right password before.
//!
//! Wrong tries are counted by address, and many may share one: an office, or everybody behind a proxy that is not trusted. So
//! whoever got in keeps a cookie and is counted alone from then on; strangers at the same address cannot lock them out (OWASP,
//! "Slow Down Online Guessing Attacks with Device Cookies"). The cookie lets nobody in. It is signed under the cluster secret
//! and the login, so that any node knows it, nobody can make one, and it ends with the password.

use axum::http::header::COOKIE;
use axum::http::{HeaderMap, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ctedge_settings::Login;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

const ID_BYTES: usize = 16;

/// Half a year: whoever looks more rarely counts as a stranger until the password is right again.
const SECONDS_MAX: u32 = 180 * 86_400;

/// A visitor's id.
pub(super) type VisitorId = [u8; ID_BYTES];

/// Makes and knows the cookies of one guard.
pub(super) struct Visitors {
    key: [u8; 32],
    cookie: &'static str,
}

impl Visitors {
    /// Guards with logins of their own have cookies of their own.
    pub(super) fn new(key: [u8; 32], cookie: &'static str) -> Self {
        Self { key, cookie }
    }

    /// The visitor who has had this login right, if one asks.
    pub(super) fn known(&self, headers: &HeaderMap, login: &Login) -> Option<VisitorId> {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let mut values = pairs.filter(|(name, _)| *name == self.cookie).map(|(_, value)| value);
        values.find_map(|value| {
            let bytes = URL_SAFE_NO_PAD.decode(value).ok()?;
            let (id, signature) = bytes.split_first_chunk::<ID_BYTES>()?;
            self.mac(id, login).verify_slice(signature).ok()?;
            Some(*id)
        })
    }

    /// A cookie for somebody who has just had this login right, and asked with these headers.
    pub(super) fn welcome(&self, headers: &HeaderMap, login: &Login) -> Option<HeaderValue> {
        let mut id = [0; ID_BYTES];
        // Without randomness nobody is told apart.
        getrandom::fill(&mut id).ok()?;
        let signature = self.mac(&id, login).finalize().into_bytes();
        let value = URL_SAFE_NO_PAD.encode([&id[..], &signature[..]].concat());
        let is_secure = headers.get("x-forwarded-proto").is_some_and(|scheme| scheme == "https");
        let secure = if is_secure { "; Secure" } else { "" };
        let name = self.cookie;
        HeaderValue::try_from(format!("{name}={value}; Path=/; Max-Age={SECONDS_MAX}; HttpOnly; SameSite=Lax{secure}"))
            .ok()
    }

    fn mac(&self, id: &VisitorId, login: &Login) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(id);
        // Digests are of one length, so that no user and password can be read as another pair.
        mac.update(&Sha256::digest(&login.user));
        mac.update(&Sha256::digest(login.password.reveal()));
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(password: &str) -> Login {
        Login { user: "ada".into(), password: password.into() }
    }

    fn cookies(value: &str) -> HeaderMap {
        [(COOKIE, HeaderValue::from_str(value).unwrap())].into_iter().collect()
    }

    #[test]
    fn a_visitor_is_known_by_any_node_until_the_login_changes() {
        let visitors = Visitors::new([1; 32], "known");
        let cookie = visitors.welcome(&HeaderMap::new(), &login("right")).unwrap();
        let pair = cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
        let asked = cookies(&format!("a=b; {pair}; known=x"));
        let known = visitors.known(&asked, &login("right"));
        assert!(known.is_some());
        assert_eq!(Visitors::new([1; 32], "known").known(&asked, &login("right")), known);
        assert_eq!(visitors.known(&asked, &login("other")), None);
        assert_eq!(Visitors::new([2; 32], "known").known(&asked, &login("right")), None);
        assert_eq!(Visitors::new([1; 32], "another").known(&asked, &login("right")), None);
        for forged in ["known=", "known=AAAA", &format!("{pair}A"), &pair.replace("known=", "known=B"), ""] {
            assert_eq!(visitors.known(&cookies(forged), &login("right")), None, "{forged}");
        }
        assert!(!cookie.to_str().unwrap().contains("Secure"));
        let over_tls =
            [("x-forwarded-proto".parse().unwrap(), HeaderValue::from_static("https"))].into_iter().collect();
        assert!(visitors.welcome(&over_tls, &login("right")).unwrap().to_str().unwrap().ends_with("; Secure"));
    }
}

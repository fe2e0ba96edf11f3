//! Asks an OCI registry for the tags of a repository (OCI Distribution Specification 1.1, "Listing Tags").

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use axum::http::header::{ACCEPT, AUTHORIZATION, LINK, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ctedge_https::{Answer, HttpsClient, HttpsError, origin_of};
use http_body_util::Full;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::challenge::Challenge;

/// How long the whole list may take.
const WITHIN: Duration = Duration::from_secs(30);

/// Tags that are asked for at once. Registries may give fewer, and some give all whatever was asked for.
const PAGE: usize = 100;

/// Pages that are asked for.
const PAGES_MAX: usize = 200;

/// Tags in all; no repository of one program has more, but a hostile registry may.
const TAGS_MAX: usize = 20_000;

/// Why the tags are not known.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The file of the password cannot be read.
    #[error(
        "cannot read the password file {} (portal.registry_password_file): {problem}; name a file that this user may read",
        path.display()
    )]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: io::Error,
    },
    /// Nobody answered, or nothing that can be read.
    #[error(transparent)]
    Asking(#[from] HttpsError),
    /// This machine trusts no certificates.
    #[error("the certificates that this machine trusts cannot be read: {0}")]
    Roots(#[from] io::Error),
    /// It took too long.
    #[error("the registry did not answer within {} s", WITHIN.as_secs())]
    Slow,
    /// The user and the password are wrong, or none were given where they are needed.
    #[error("{0} does not admit {1}: look at the user and the password file")]
    Denied(String, String),
    /// There is no such repository, or whoever asks may not know of it.
    #[error("{0} has no repository {1}, or does not show it to whoever asks")]
    NoRepository(String, String),
    /// It answered something that no registry answers.
    #[error("{0} answers like no OCI registry: {1}")]
    Strange(String, String),
}

type User = Option<(String, String)>;

/// The tags of `repository` in the registry at `url`, in the registry's order.
pub async fn tags(url: &str, repository: &str, login: User) -> Result<Vec<String>, RegistryError> {
    let asking = Asking::new(url, repository, login)?.all();
    tokio::time::timeout(WITHIN, asking).await.unwrap_or(Err(RegistryError::Slow))
}

#[derive(Deserialize)]
struct TagsList {
    /// Null for a repository whose tags were all deleted.
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// One list that is being asked for.
struct Asking {
    client: HttpsClient,
    /// Without a slash at its end.
    url: String,
    repository: String,
    login: User,
    authorization: Option<HeaderValue>,
}

impl Asking {
    fn new(url: &str, repository: &str, login: User) -> Result<Self, RegistryError> {
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { client: HttpsClient::new()?, url, repository: repository.to_owned(), login, authorization: None })
    }

    async fn all(mut self) -> Result<Vec<String>, RegistryError> {
        let mut tags = Vec::new();
        let mut next = Some(format!("{}/v2/{}/tags/list?n={PAGE}", self.url, self.repository));
        for _ in 0..PAGES_MAX {
            let Some(page) = next.take() else { break };
            let answer = self.page(&page).await?;
            let list: TagsList =
                serde_json::from_slice(&answer.body).map_err(|error| self.strange(error.to_string()))?;
            tags.extend(list.tags.unwrap_or_default());
            if tags.len() > TAGS_MAX {
                return Err(self.strange(format!("it lists more than {TAGS_MAX} tags")));
            }
            next = self.next_page(&page, &answer.headers)?;
        }
        match next {
            None => Ok(tags),
            // What is missing may be the newest.
            Some(_) => Err(self.strange(format!("its list has more than {PAGES_MAX} pages"))),
        }
    }

    /// One page; says who asks if the registry wants to know.
    async fn page(&mut self, page: &str) -> Result<Answer, RegistryError> {
        let mut answer = self.get(page, self.authorization.clone()).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            // A token may also have run out between two pages.
            let given = answer.headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
            let challenge =
                Challenge::best(given).ok_or_else(|| self.strange("it asks for a login in no known way"))?;
            self.authorization = Some(self.authorize(&challenge).await?);
            answer = self.get(page, self.authorization.clone()).await?;
        }
        match answer.status {
            StatusCode::OK => Ok(answer),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.denied()),
            StatusCode::NOT_FOUND => Err(RegistryError::NoRepository(self.url.clone(), self.repository.clone())),
            status => Err(self.strange(format!("status {status}"))),
        }
    }

    async fn authorize(&self, challenge: &Challenge) -> Result<HeaderValue, RegistryError> {
        let (realm, service, scope) = match challenge {
            Challenge::Basic => return self.basic().ok_or_else(|| self.denied()),
            Challenge::Bearer { realm, service, scope } => (realm, service, scope),
        };
        // A password that went out encrypted to the registry must not go on in the clear.
        if self.url.starts_with("https://") && !realm.starts_with("https://") {
            return Err(self.strange(format!("its tokens come from {realm}, without encryption")));
        }
        let scope = scope.clone().unwrap_or_else(|| format!("repository:{}:pull", self.repository));
        let query = [("service", service.as_ref()), ("scope", Some(&scope))];
        let mut url = realm.clone();
        for (name, value) in query {
            if let Some(value) = value {
                url.push(if url.contains('?') { '&' } else { '?' });
                url.push_str(&format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
            }
        }
        let answer = self.get(&url, self.basic()).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(self.denied()),
            status => return Err(self.strange(format!("status {status} where a token is had"))),
        }
        let token: Token = serde_json::from_slice(&answer.body).map_err(|error| self.strange(error.to_string()))?;
        let token = token.token.or(token.access_token).ok_or_else(|| self.strange("it gives no token"))?;
        secret(&format!("Bearer {token}")).ok_or_else(|| self.strange("its token is no text"))
    }

    fn basic(&self) -> Option<HeaderValue> {
        let (user, password) = self.login.as_ref()?;
        secret(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
    }

    async fn get(&self, url: &str, authorization: Option<HeaderValue>) -> Result<Answer, RegistryError> {
        let request = Request::get(url).header(ACCEPT, "application/json").body(Full::default());
        let mut request = request.map_err(|_| self.strange(format!("it names {url:?}, which is no address")))?;
        if let Some(authorization) = authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        Ok(self.client.send(request, WITHIN).await?)
    }

    /// The page that a `Link` header names (RFC 8288), if it is one of this registry: a token must not go elsewhere.
    fn next_page(&self, page: &str, headers: &HeaderMap) -> Result<Option<String>, RegistryError> {
        let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
        let Some(target) = links.flat_map(|header| header.split(',')).find_map(next_target) else { return Ok(None) };
        let origin = origin_of(page).unwrap_or_default();
        let next = if target.starts_with("http://") || target.starts_with("https://") {
            target.to_owned()
        } else if target.starts_with('/') && !target.starts_with("//") {
            format!("{origin}{target}")
        } else if let Some(query) = target.strip_prefix('?') {
            format!("{}?{query}", page.split('?').next().unwrap_or_default())
        } else {
            return Err(self.strange(format!("its next page is at {target:?}")));
        };
        if origin_of(&next).as_deref() != Some(&*origin) {
            return Err(self.strange(format!("its next page is at {}", host_of(&next))));
        }
        Ok(Some(next).filter(|next| next != page))
    }

    fn strange(&self, what: impl Into<String>) -> RegistryError {
        RegistryError::Strange(self.url.clone(), what.into())
    }

    fn denied(&self) -> RegistryError {
        let who =
            self.login.as_ref().map_or("whoever gives no name".to_owned(), |(user, _)| format!("the user {user:?}"));
        RegistryError::Denied(self.url.clone(), who)
    }
}

/// The target of `<target>; rel="next"`.
fn next_target(link: &str) -> Option<&str> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = parameters.split(';').any(|parameter| {
        let parameter = parameter.trim().replace([' ', '"'], "");
        parameter.eq_ignore_ascii_case("rel=next")
    });
    is_next.then_some(target)
}

/// The address without its query, which may say more than a message should.
fn host_of(url: &str) -> String {
    origin_of(url).unwrap_or_else(|| "the registry".to_owned())
}

/// A header that debug output does not show.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

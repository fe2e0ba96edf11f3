//! The sign-on provider: asked for who somebody is.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderValue, Request, StatusCode};
use bytes::Bytes;
use ctedge_https::{Answer, HttpsClient, HttpsError};
use ctedge_protocol::User;
use ctedge_protocol::http::SIGN_ON_CALLBACK_PATH;
use ctedge_settings::{NodeSettings, ProviderEndpoints, ServerUrl, SignOnSettings};
use ctedge_sign_on::{Attempt, Client, Endpoints, EndpointsFault, Expected, Identity, IdentityFault, TokenAnswer};
use ctedge_wire::KeyedToken;
use http_body_util::Full;
use parking_lot::Mutex;

use crate::clock::unix_now;

/// How long one request to the provider may take. A person waits.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(15);

/// How long a provider's description of itself is believed. It changes when the provider moves, once in years.
const DESCRIPTION_KEPT: Duration = Duration::from_secs(3600);

/// The provider, and how this edge is known to it.
pub(crate) struct SignOn {
    settings: SignOnSettings,
    client: Client,
    /// Everything of an attempt is derived under it.
    key: [u8; 32],
    https: HttpsClient,
    described: Mutex<Option<(Arc<Endpoints>, Instant)>>,
}

/// Why nobody has signed on. Holds no secret, code or token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignOnFault {
    #[error(transparent)]
    Asking(#[from] HttpsError),
    #[error("{0:?} cannot be asked")]
    Address(String),
    #[error("{url} answers with status {status} where it should describe itself; look at sign_on.url")]
    NotDescribed { url: String, status: StatusCode },
    #[error("{url}: {fault}; look at sign_on.url")]
    Description { url: String, fault: EndpointsFault },
    #[error("the provider gives no token: {0}; look at sign_on.client_id and sign_on.client_secret")]
    NoToken(String),
    #[error(transparent)]
    Identity(#[from] IdentityFault),
}

impl SignOn {
    /// The provider of the settings, if they name one. An error when this machine trusts no certificates.
    pub(crate) fn of(settings: &NodeSettings) -> io::Result<Option<Self>> {
        let Some(sign_on) = settings.sign_on.clone() else { return Ok(None) };
        let client = Client {
            id: sign_on.client_id.clone(),
            secret: sign_on.client_secret.reveal().to_owned(),
            redirect_uri: format!("{}{SIGN_ON_CALLBACK_PATH}", sign_on.server_url.as_str()),
        };
        let (key, https) = (settings.secret.sign_on_key(), HttpsClient::new()?);
        Ok(Some(Self { settings: sign_on, client, key, https, described: Mutex::default() }))
    }

    /// What people call the provider; its users' logins name it.
    pub(crate) fn provider(&self) -> &str {
        &self.settings.provider
    }

    /// The public URL, to which the provider sends browsers back.
    pub(crate) fn server_url(&self) -> &ServerUrl {
        &self.settings.server_url
    }

    /// The attempt to decide the login that is polled for by `token`.
    pub(crate) fn attempt(&self, token: &KeyedToken) -> Attempt {
        Attempt::of(&self.key, token)
    }

    /// Where the browser of an attempt is sent.
    pub(crate) async fn authorization_url(&self, attempt: &Attempt) -> Result<String, SignOnFault> {
        Ok(self.client.authorization_url(&*self.endpoints().await?, attempt))
    }

    /// Who has signed on, by the code that the provider gave the browser.
    pub(crate) async fn user(&self, attempt: &Attempt, code: &str) -> Result<User, SignOnFault> {
        let endpoints = self.endpoints().await?;
        let request = self.client.token_request(endpoints.login, attempt, code);
        let mut builder = Request::post(&endpoints.token).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(authorization) = &request.authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        let answer = self.ask(&endpoints.token, builder, request.body.into()).await?;
        let tokens = read_tokens(&answer).map_err(SignOnFault::NoToken)?;
        let expected = Expected {
            issuer: endpoints.issuer.as_deref(),
            client_id: &self.client.id,
            attempt,
            now: unix_now().as_secs(),
        };
        let identity = Identity::of(&tokens.id, &expected)?;
        let identity = match tokens.access.filter(|_| identity.is_nameless()) {
            Some(access_token) => self.named(identity, &endpoints, &access_token).await,
            None => identity,
        };
        Ok(User {
            id: identity.user_id(&self.key),
            name: identity.name().to_owned(),
            email: identity.email().map(str::to_owned),
            auth_provider: self.settings.provider.clone(),
        })
    }

    /// The user with a name, where the ID token has none and the provider tells one elsewhere. Somebody without a name is
    /// somebody all the same.
    async fn named(&self, identity: Identity, endpoints: &Endpoints, access_token: &str) -> Identity {
        let with_name = async {
            // The token's issuer is believed: the token came from the endpoint that the operator has given.
            let user_info = match &endpoints.user_info {
                Some(url) => Some(url.clone()),
                None if endpoints.token.starts_with("https://") && !identity.issuer.starts_with("https://") => None,
                None => self.described(&identity.issuer).await?.user_info.clone(),
            };
            let Some(url) = user_info else { return Ok(identity.clone()) };
            let request = Request::get(&url).header(AUTHORIZATION, format!("Bearer {access_token}"));
            let answer = self.ask(&url, request, Bytes::new()).await?;
            Ok::<_, SignOnFault>(identity.clone().with_user_info(&answer.body)?)
        };
        with_name.await.unwrap_or_else(|fault| {
            tracing::warn!(provider = self.provider(), %fault, "the sign-on provider does not tell a user's name");
            identity
        })
    }

    async fn endpoints(&self) -> Result<Arc<Endpoints>, SignOnFault> {
        match &self.settings.endpoints {
            ProviderEndpoints::Given { authorization, token } => Ok(Arc::new(Endpoints::fixed(authorization, token))),
            ProviderEndpoints::OfIssuer(issuer) => self.described(issuer).await,
        }
    }

    /// The endpoints that an issuer describes. There is one issuer, or the one behind the endpoints that were given.
    async fn described(&self, issuer: &str) -> Result<Arc<Endpoints>, SignOnFault> {
        let known = self.described.lock().clone();
        let is_current = |(endpoints, since): &(Arc<Endpoints>, Instant)| {
            since.elapsed() < DESCRIPTION_KEPT && endpoints.are_of(issuer)
        };
        if let Some((endpoints, _)) = known.filter(is_current) {
            return Ok(endpoints);
        }
        let url = Endpoints::description_of(issuer);
        let answer = self.ask(&url, Request::get(&url), Bytes::new()).await?;
        if answer.status != StatusCode::OK {
            return Err(SignOnFault::NotDescribed { url, status: answer.status });
        }
        let described = Endpoints::described(issuer, &answer.body);
        let endpoints = Arc::new(described.map_err(|fault| SignOnFault::Description { url, fault })?);
        *self.described.lock() = Some((Arc::clone(&endpoints), Instant::now()));
        Ok(endpoints)
    }

    async fn ask(&self, url: &str, request: axum::http::request::Builder, body: Bytes) -> Result<Answer, SignOnFault> {
        let request = request.header(ACCEPT, HeaderValue::from_static("application/json")).body(Full::new(body));
        let request = request.map_err(|_| SignOnFault::Address(url.to_owned()))?;
        Ok(self.https.send(request, ANSWER_TIME_MAX).await?)
    }
}

struct Tokens {
    id: String,
    access: Option<String>,
}

/// The tokens of an answer, or why there are none, in words for the log.
fn read_tokens(answer: &Answer) -> Result<Tokens, String> {
    let status = answer.status;
    let Ok(read) = serde_json::from_slice::<TokenAnswer>(&answer.body) else {
        return Err(format!("its answer, of status {status}, is no JSON"));
    };
    match (read.id_token, read.error, read.error_description) {
        (Some(id), None, _) if status == StatusCode::OK => Ok(Tokens { id, access: read.access_token }),
        (_, Some(error), Some(description)) => Err(format!("{error:?}, {description:?}")),
        (_, Some(error), None) => Err(format!("{error:?}")),
        (Some(_), None, _) => Err(format!("status {status}")),
        (None, None, _) => Err("there is none in its answer".to_owned()),
    }
}

//! Which versions of this program there are: the tags of a repository in an OCI registry.
//!
//! - [`registry`]: asks the registry. `challenge`: what it wants to know of whoever asks.
//! - `order`: the newest first.

mod challenge;
mod order;
pub mod registry;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ctedge_settings::RegistrySettings;
use serde::Serialize;
use tokio::sync::Mutex;

#[cfg(fuzzing)]
pub(crate) use challenge::hold_for as challenge_holds_for;
pub use registry::RegistryError;

/// How long an answer of the registry holds for pages.
const HOLDS: Duration = Duration::from_secs(600);

/// How long a registry that could not be asked is left alone.
const LEFT_ALONE: Duration = Duration::from_secs(60);

/// One version, as the registry has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Version {
    /// The tag.
    pub tag: String,
    /// Whether it is the one that runs.
    pub runs: bool,
}

/// The versions in the repository of `settings`, the newest first. `running` are those that run.
pub async fn versions(settings: &RegistrySettings, running: &[&str]) -> Result<Vec<Version>, RegistryError> {
    let login = settings.login.as_ref().map(|(user, file)| {
        let password = fs::read_to_string(file);
        let password = password.map_err(|problem| RegistryError::PasswordFile { path: file.clone(), problem })?;
        Ok::<_, RegistryError>((user.clone(), password.trim_end_matches(['\r', '\n']).to_owned()))
    });
    let mut tags = registry::tags(&settings.url, &settings.repository, login.transpose()?).await?;
    order::newest_first(&mut tags);
    let runs = |tag: &str| running.iter().any(|running| order::is_same(tag, running));
    Ok(tags.into_iter().map(|tag| Version { runs: runs(&tag), tag }).collect())
}

/// The versions as pages show them: asked for now and then, whoever looks.
pub struct Published {
    settings: Option<RegistrySettings>,
    last: Mutex<Option<(Instant, Listed)>>,
}

/// What the registry said last.
pub type Listed = Result<Arc<Vec<Version>>, Arc<RegistryError>>;

impl Published {
    /// The versions in this repository, if one is set.
    #[must_use]
    pub fn new(settings: Option<RegistrySettings>) -> Self {
        Self { settings, last: Mutex::default() }
    }

    /// The versions; none where no registry is set. `running` is the version that runs.
    pub async fn list(&self, running: &str) -> Option<Listed> {
        let settings = self.settings.as_ref()?;
        let mut last = self.last.lock().await;
        let holds = |(at, listed): &(Instant, Listed)| at.elapsed() < if listed.is_ok() { HOLDS } else { LEFT_ALONE };
        if let Some((_, listed)) = last.as_ref().filter(|last| holds(last)) {
            return Some(listed.clone());
        }
        let listed = versions(settings, &[running]).await.map(Arc::new).map_err(Arc::new);
        if let Err(error) = &listed {
            tracing::warn!(%error, registry = settings.url, "the versions cannot be listed");
        }
        *last = Some((Instant::now(), listed.clone()));
        Some(listed)
    }
}

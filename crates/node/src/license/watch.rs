//! What the license is worth at the moment. A change of a file changes that, and midnight does.

use std::sync::Arc;
use std::time::Duration;

use ctedge_license::{Day, Verdict, judge};
use ctedge_protocol::{Info, InfoCode};
use ctedge_settings::LicenseSettings;
use parking_lot::Mutex;

use super::source::{Reading, find};
use crate::clock::unix_now;

/// How often the files are looked at. Reading a few kilobytes each second costs nothing and, unlike a file watch, also
/// notices a replaced folder, as container platforms do it.
const LOOK: Duration = Duration::from_secs(1);

/// The license of a node.
#[derive(Debug)]
pub struct Licensing {
    settings: Mutex<Arc<LicenseSettings>>,
    says: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What the verdict was found on.
    judged: Reading,
    /// What it was held against.
    judged_by: Arc<LicenseSettings>,
    /// What the last look found. Many editors write a file in place: what a look in the middle of that sees is not
    /// taken over, only what two looks see alike.
    seen: Reading,
    today: Day,
    verdict: Arc<Verdict>,
}

impl Licensing {
    /// Finds and judges the license. If it `says` so, it tells the server log what the license is worth, and again with each
    /// change; of all processes of one edge only one should.
    #[must_use]
    pub fn begin(settings: LicenseSettings, says: bool) -> Arc<Self> {
        let settings = Arc::new(settings);
        let reading = find(&settings);
        let today = Day::at(unix_now());
        let verdict = Arc::new(judge(&reading.found, settings.public_key.as_ref(), settings.host.as_deref(), today));
        if says {
            say(&verdict, reading.source.as_deref());
        }
        let judged_by = Arc::clone(&settings);
        let state = State { judged: reading.clone(), judged_by, seen: reading, today, verdict };
        Arc::new(Self { settings: Mutex::new(settings), says, state: Mutex::new(state) })
    }

    /// What the license is worth.
    #[must_use]
    pub fn verdict(&self) -> Arc<Verdict> {
        Arc::clone(&self.state.lock().verdict)
    }

    /// Why no session may begin, in words for the person who would have begun it.
    #[must_use]
    pub fn refusal(&self) -> Option<Info> {
        refusal(&self.verdict())
    }

    /// Looks where other settings say from here on, and holds what is there against them; the verdict, if it differs.
    pub async fn take_over(&self, settings: LicenseSettings) -> Option<Arc<Verdict>> {
        if **self.settings.lock() == settings {
            return None;
        }
        *self.settings.lock() = Arc::new(settings);
        self.look_again().await
    }

    /// Looks again and again, until it is dropped. `changed` is called with each verdict that differs from the one
    /// before it.
    pub async fn watch(self: Arc<Self>, changed: impl Fn(&Verdict) + Send) {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Some(verdict) = self.look_again().await {
                changed(&verdict);
            }
        }
    }

    async fn look_again(&self) -> Option<Arc<Verdict>> {
        let settings = Arc::clone(&self.settings.lock());
        let place = Arc::clone(&settings);
        // Files may lie on a network: a thread that relays does not wait for them.
        let reading = tokio::task::spawn_blocking(move || find(&place)).await.ok()?;
        // Others may have come meanwhile, and with them a look of their own.
        let is_current = Arc::ptr_eq(&settings, &self.settings.lock());
        if is_current { self.look(reading, &settings, Day::at(unix_now())) } else { None }
    }

    /// Takes over what was found; the verdict, if it differs.
    fn look(&self, reading: Reading, settings: &Arc<LicenseSettings>, today: Day) -> Option<Arc<Verdict>> {
        let mut state = self.state.lock();
        let is_elsewhere = *settings != state.judged_by;
        // Whoever names another file has put it there before.
        let is_settled = reading == state.seen || is_elsewhere;
        let is_other = reading != state.judged || is_elsewhere;
        let is_next_day = today != state.today;
        state.seen = reading;
        if !(is_settled && is_other || is_next_day) {
            return None;
        }
        if is_settled {
            state.judged = state.seen.clone();
        }
        state.today = today;
        state.judged_by = Arc::clone(settings);
        let (key, host) = (settings.public_key.as_ref(), settings.host.as_deref());
        let verdict = judge(&state.judged.found, key, host, today);
        // A license that ends soon is another verdict each day, and so is said each day.
        let is_said = verdict.as_str() == state.verdict.as_str() && !is_other && !verdict.ends_soon();
        if verdict == *state.verdict {
            return None;
        }
        state.verdict = Arc::new(verdict);
        if self.says && !is_said {
            say(&state.verdict, state.judged.source.as_deref());
        }
        Some(Arc::clone(&state.verdict))
    }
}

/// Why no session may begin under `verdict`. Operators find the particulars in the log; what a person with an editor can
/// do is to tell the operator.
fn refusal(verdict: &Verdict) -> Option<Info> {
    let (code, message) = match verdict {
        Verdict::Valid { .. } | Verdict::Evaluation => return None,
        Verdict::Expired { terms } => {
            let text = format!(
                "The license of this server ended on {}. Please ask its operator to renew it",
                terms.expiration()
            );
            (InfoCode::LicenseExpired, text)
        }
        Verdict::Forged | Verdict::Malformed(_) | Verdict::OtherLocator { .. } | Verdict::Unverifiable => {
            let why = match verdict {
                Verdict::Forged => "is not genuine",
                Verdict::Malformed(_) => "cannot be read",
                Verdict::OtherLocator { .. } => "is for another server",
                _ => "cannot be verified",
            };
            (InfoCode::LicenseInvalid, format!("The license of this server {why}. Please tell its operator"))
        }
    };
    Some(Info::new(code, message))
}

/// One line for each thing that an operator has to know. Scripts of operators look for the first one as it stands here.
/// Neither the licensee nor the signature is in a log.
fn say(verdict: &Verdict, source: Option<&str>) {
    let source = source.unwrap_or("none");
    match verdict {
        Verdict::Valid { .. } => {
            tracing::info!(target: "server", "Valid CodeTogether license installed");
            if verdict.ends_soon() {
                tracing::warn!(target: "server", "{verdict}; renew it (from {source})");
            } else {
                tracing::info!(target: "server", "{verdict} (from {source})");
            }
        }
        Verdict::Evaluation => tracing::warn!(target: "server", "{verdict}"),
        _ => tracing::error!(target: "server", "{verdict} (from {source}); no new sessions until then"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctedge_license::{FileKind, License, Locator, PrivateKey, Terms};
    use std::fs;

    fn licensing(expiration: &str) -> (tempfile::TempDir, Arc<Licensing>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("licensing.properties");
        let key = PrivateKey::from_random(&[1; 32]);
        let terms = Terms::new("Example Corp", 7, expiration.parse().unwrap(), Locator::Anywhere).unwrap();
        fs::write(&file, License::sign(terms, &key).write(FileKind::Properties)).unwrap();
        let settings = LicenseSettings { file, public_key: Some(key.public_key()), ..LicenseSettings::default() };
        (folder, Licensing::begin(settings, true))
    }

    fn look(licensing: &Licensing, today: &str) -> Option<&'static str> {
        let settings = Arc::clone(&licensing.settings.lock());
        licensing.look(find(&settings), &settings, today.parse().unwrap()).map(|verdict| verdict.as_str())
    }

    #[test]
    fn a_change_of_the_file_counts_once_it_is_whole() {
        let (_folder, licensing) = licensing("2999/12/31");
        let today = Day::at(unix_now()).to_string();
        assert_eq!((licensing.verdict().as_str(), look(&licensing, &today)), ("valid", None));
        let file = licensing.settings.lock().file.clone();
        fs::write(&file, "licensee=Exa").unwrap();
        assert_eq!(look(&licensing, &today), None, "a single look cannot tell whether the file is complete");
        assert_eq!(look(&licensing, &today), Some("malformed"));
        assert_eq!(look(&licensing, &today), None);
        assert_eq!(licensing.refusal().map(|info| info.code), Some(InfoCode::LicenseInvalid));
        fs::remove_file(&file).unwrap();
        assert_eq!((look(&licensing, &today), look(&licensing, &today)), (None, Some("evaluation")));
        assert_eq!(licensing.refusal(), None);
    }

    #[tokio::test]
    async fn other_settings_count_at_once() {
        let (folder, licensing) = licensing("2999/12/31");
        let settings = LicenseSettings::clone(&licensing.settings.lock());
        let other_key = PrivateKey::from_random(&[2; 32]).public_key();
        let take_over = async |settings| licensing.take_over(settings).await.map(|verdict| verdict.as_str());
        assert_eq!(take_over(settings.clone()).await, None);
        let with_other_key = LicenseSettings { public_key: Some(other_key), ..settings.clone() };
        assert_eq!(take_over(with_other_key).await, Some("forged"));
        let elsewhere = LicenseSettings { file: folder.path().join("nothing"), ..settings.clone() };
        assert_eq!(take_over(elsewhere).await, Some("evaluation"));
        assert_eq!(take_over(settings).await, Some("valid"));
    }

    /// What is logged meanwhile.
    fn logged(act: impl FnOnce()) -> String {
        #[derive(Clone, Default)]
        struct Written(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Written {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, act);
        let text = written.0.lock().clone();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_license_that_ends_within_thirty_days_is_warned_of_each_day() {
        let (_folder, licensing) = licensing("2999/12/31");
        let said = |day| {
            logged(|| {
                let _ = look(&licensing, day);
            })
        };
        assert!(!said("2999/11/30").contains("WARN"), "31 days");
        for (day, left) in [("2999/12/01", 30), ("2999/12/02", 29), ("2999/12/29", 2)] {
            let text = said(day);
            assert!(text.contains("WARN server: ") && text.contains(&format!("{left} day")), "{day}: {text}");
            assert_eq!(said(day), "", "once a day");
        }
    }

    #[test]
    fn who_shall_not_say_what_the_license_is_worth_knows_it_all_the_same() {
        let (_folder, other) = licensing("2999/12/31");
        let settings = LicenseSettings::clone(&other.settings.lock());
        let text = logged(|| {
            let licensing = Licensing::begin(settings.clone(), false);
            assert_eq!(
                (look(&licensing, "2999/12/30"), look(&licensing, "3000/01/01")),
                (Some("valid"), Some("expired"))
            );
        });
        assert_eq!(text, "");
    }

    #[test]
    fn midnight_ends_a_license_without_a_restart() {
        let (_folder, licensing) = licensing("2999/12/31");
        assert_eq!(look(&licensing, "2999/12/31"), Some("valid"));
        assert_eq!(licensing.refusal(), None);
        assert_eq!(look(&licensing, "3000/01/01"), Some("expired"));
        let info = licensing.refusal().unwrap();
        assert_eq!(info.code, InfoCode::LicenseExpired);
        assert!(info.message.contains("2999/12/31") && !info.message.contains("Example Corp"), "{}", info.message);
    }
}

//! The password of dashboard and logs where the settings have none.
//!
//! It is derived from the cluster secret: the nodes of all machines have the same one without asking each other, and whoever asks for a page
//! comes to any of them. It is kept in a file, so that it is told once for each data folder, and so that the operator may put
//! another one there.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context;
use ctedge_settings::{ClusterSecret, GENERATED_USER, PortalSettings};

use crate::data::write_draft;

/// Keeps the password in the file of the settings and tells it in the log, if nothing else opens the pages and the file has
/// none. Says whether it did; of several processes that do so at once, one does.
pub fn ensure_password(portal: &PortalSettings, secret: &ClusterSecret) -> anyhow::Result<bool> {
    if portal.dashboard.is_some() || portal.logs.is_some() {
        return Ok(false);
    }
    let password = secret.dashboard_password();
    let is_made = keep(&portal.password_file, &password)
        .context("portal.password_file: name a file that the user who runs the edge may read and write")?;
    if is_made {
        // The only place that shows it, as the operators' notes promise.
        tracing::info!("The dashboard and the logs are for the user {GENERATED_USER} with the password {password}");
    }
    Ok(is_made)
}

fn keep(path: &Path, password: &str) -> anyhow::Result<bool> {
    let context = || format!("cannot write the password {}", path.display());
    let is_empty = match fs::metadata(path) {
        Ok(metadata) if metadata.len() > 0 => return Ok(false),
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error).with_context(|| format!("cannot read the password {}", path.display())),
    };
    let draft = write_draft(path, &format!("{password}\n"))?;
    if is_empty {
        return fs::rename(&draft, path).map(|()| true).with_context(context);
    }
    // Unlike a rename, this fails where somebody was faster.
    let linked = fs::hard_link(&draft, path);
    let _ = fs::remove_file(&draft);
    match linked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error).with_context(context),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_password_is_made_where_there_is_none_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dashboard.password");
        let text = || fs::read_to_string(&path).unwrap();
        assert!(keep(&path, "one").unwrap());
        assert_eq!(text(), "one\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!keep(&path, "two").unwrap());
        assert_eq!(text(), "one\n");
        // An empty one lets nobody in.
        fs::write(&path, "").unwrap();
        assert!(keep(&path, "two").unwrap());
        assert_eq!(text(), "two\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a draft is left over");
    }

    #[test]
    fn of_several_processes_one_makes_and_tells_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dashboard.password");
        let made: Vec<_> = std::thread::scope(|scope| {
            let keeping: Vec<_> = (0..8).map(|_| scope.spawn(|| keep(&path, "one").unwrap())).collect();
            keeping.into_iter().map(|keeping| keeping.join().unwrap()).collect()
        });
        assert_eq!(made.iter().filter(|made| **made).count(), 1);
    }

    #[test]
    fn nothing_is_made_beside_a_login_of_the_settings() {
        let folder = tempfile::tempdir().unwrap();
        let secret = ClusterSecret::new(&"s".repeat(32)).unwrap();
        let portal = |text: &str| {
            let text = format!("data = {:?}\n[portal]\n{text}", folder.path());
            ctedge_settings::parse_with(&text, []).unwrap().portal()
        };
        for name in ["dashboard", "logs"] {
            let portal = portal(&format!("{name}_user = 'a'\n{name}_password = 'b'\n"));
            assert!(!ensure_password(&portal, &secret).unwrap());
            assert!(!portal.password_file.exists());
        }
        let portal = portal("");
        assert!(ensure_password(&portal, &secret).unwrap());
        assert_eq!(fs::read_to_string(&portal.password_file).unwrap().trim(), secret.dashboard_password());
    }
}

//! From the path of a request to a file of a folder, and to nothing else.

use std::io;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A file.
    File(PathBuf),
    /// A folder, asked for without the slash that relative links in its pages need.
    FolderWithoutSlash,
    /// A folder that has no `index.html`.
    Folder,
    /// Nothing that may be served.
    Nothing,
}

/// The segments of `path`, an undecoded path below that of the folder, or `None` where one could lead astray. The last is empty
/// where the path ends with a slash.
pub(crate) fn segments(path: &str) -> Option<Vec<String>> {
    let mut segments = Vec::new();
    let mut rest = path.split('/').peekable();
    while let Some(segment) = rest.next() {
        let segment = percent_decode_str(segment).decode_utf8().ok()?.into_owned();
        let is_last = rest.peek().is_none();
        // Files with a dot are drafts of ours and leftovers of others; `.` and `..` begin with one.
        let leads_astray = segment.starts_with('.') || segment.contains(['/', '\\', '\0']);
        if leads_astray || (segment.is_empty() && !is_last) {
            return None;
        }
        segments.push(segment);
    }
    Some(segments)
}

/// What `segments` name below `root`. A symbolic link counts as what it leads to, which must be below `root` as well.
pub(crate) async fn find(root: &Path, segments: &[String]) -> io::Result<Found> {
    let has_slash = segments.last().is_none_or(String::is_empty);
    let asked = root.join(segments.iter().filter(|segment| !segment.is_empty()).collect::<PathBuf>());
    let Some(path) = inside(root, &asked).await? else { return Ok(Found::Nothing) };
    let metadata = tokio::fs::metadata(&path).await?;
    if metadata.is_file() {
        return Ok(if has_slash { Found::Nothing } else { Found::File(path) });
    }
    if !metadata.is_dir() {
        return Ok(Found::Nothing);
    }
    if !has_slash {
        return Ok(Found::FolderWithoutSlash);
    }
    match inside(root, &path.join("index.html")).await? {
        Some(index) if tokio::fs::metadata(&index).await?.is_file() => Ok(Found::File(index)),
        _ => Ok(Found::Folder),
    }
}

/// Where `path` really is, if that is below `root` and not hidden.
async fn inside(root: &Path, path: &Path) -> io::Result<Option<PathBuf>> {
    let is_absent = |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    let real = match tokio::fs::canonicalize(path).await {
        Ok(real) => real,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let root = tokio::fs::canonicalize(root).await?;
    let Ok(below) = real.strip_prefix(&root) else { return Ok(None) };
    let is_hidden = below.iter().any(|part| part.as_encoded_bytes().starts_with(b"."));
    Ok((!is_hidden).then_some(real))
}

/// What holds for any path: it has no segments, or each is a plain name, so that joined to a folder they lead into it.
#[cfg(any(test, fuzzing))]
pub(crate) fn hold_for(bytes: &[u8]) {
    use std::path::Component;
    let Some(segments) = segments(&String::from_utf8_lossy(bytes)) else { return };
    let (last, folders) = segments.split_last().expect("a path has a last segment");
    for name in folders.iter().chain(Some(last).filter(|last| !last.is_empty())) {
        let components: Vec<_> = Path::new(name).components().collect();
        assert!(matches!(components[..], [Component::Normal(only)] if only == name.as_str()), "{name:?}");
        assert!(!name.starts_with('.') && !name.contains('\0'), "{name:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctedge_testing::hostile;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_path_that_could_lead_astray_has_no_segments() {
        for path in [
            "../x",
            "a/../../x",
            "%2e%2e/x",
            "a/%2E%2E/x",
            "a%2f..%2fx",
            ".git/config",
            "a/.hidden",
            "a//b",
            "a\\..\\b",
            "a/%5c..",
            "a%00",
            "%ff",
            "./a",
        ] {
            assert_eq!(segments(path), None, "{path}");
        }
        assert_eq!(segments("eclipse/plugins/a%20b.jar").unwrap(), ["eclipse", "plugins", "a b.jar"]);
        assert_eq!(segments("eclipse/").unwrap(), ["eclipse", ""]);
    }

    #[test]
    fn no_path_leads_out_of_a_folder() {
        hostile::check("path", hold_for);
    }

    async fn check(root: &Path, path: &str, expected: Found) {
        assert_eq!(find(root, &segments(path).unwrap()).await.unwrap(), expected, "{path}");
    }

    #[tokio::test]
    async fn only_what_lies_in_the_folder_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("secret");
        let root = folder.path().join("clients");
        fs::create_dir_all(root.join("eclipse")).unwrap();
        fs::create_dir_all(root.join("site")).unwrap();
        fs::create_dir_all(root.join(".draft")).unwrap();
        fs::write(&outside, "secret").unwrap();
        for file in ["eclipse/a.jar", "site/index.html", ".draft/a.jar"] {
            fs::write(root.join(file), "x").unwrap();
        }
        symlink(&outside, root.join("out")).unwrap();
        symlink(folder.path(), root.join("up")).unwrap();
        symlink(root.join("eclipse/a.jar"), root.join("in")).unwrap();
        symlink(root.join(".draft"), root.join("drafts")).unwrap();

        let real = root.canonicalize().unwrap();
        check(&root, "eclipse/a.jar", Found::File(real.join("eclipse/a.jar"))).await;
        check(&root, "in", Found::File(real.join("eclipse/a.jar"))).await;
        check(&root, "site/", Found::File(real.join("site/index.html"))).await;
        check(&root, "site", Found::FolderWithoutSlash).await;
        check(&root, "eclipse/", Found::Folder).await;
        for nothing in ["out", "up/secret", "drafts/a.jar", "eclipse/b.jar", "eclipse/a.jar/", "eclipse/a.jar/b"] {
            check(&root, nothing, Found::Nothing).await;
        }
    }
}

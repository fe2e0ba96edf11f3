//! What holds for any file that is taken for a license. The fuzz target and the test command call the same function.

use crate::{Fields, FileKind, License, PrivateKey, file_text};

/// A file is refused with a line of it, or its license is the same however it is written.
pub fn license(bytes: &[u8]) {
    let text = file_text(bytes);
    let key = PrivateKey::from_random(&[1; 32]).public_key();
    for kind in [FileKind::Properties, FileKind::Shell] {
        let Ok(fields) = Fields::from_file("file", kind, &text) else { continue };
        let Ok(license) = License::read(&fields) else { continue };
        for kind in [FileKind::Properties, FileKind::Shell] {
            let written = Fields::from_file("file", kind, &license.write(kind)).expect("what we write we can read");
            let again = License::read(&written).expect("what we write we can read");
            assert_eq!(again, license);
            assert_eq!(again.is_signed_by(&key), license.is_signed_by(&key));
        }
    }
}

#[cfg(test)]
mod tests {
    use ctedge_testing::hostile;

    #[test]
    fn no_file_breaks_the_reading_of_a_license() {
        hostile::check("license", super::license);
    }
}

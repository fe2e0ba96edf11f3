//! What holds for any target of a request. The fuzz target and the test command call the same function.

use crate::redact;

/// The random part of a token, which admits its bearer.
const SECRET: &str = "s3cr3tS3CR3Ts3cr3tS3CR3T";

/// No secret remains of a request line, whatever stands before it.
pub fn redaction(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if text.contains(SECRET) {
        return;
    }
    let path = text.split(['?', '#']).next().unwrap_or_default();
    for target in [
        format!("{path}/poll/key.{SECRET}"),
        format!("{path}/poll//key.{SECRET}?{text}"),
        format!("{path}?{text}&sid=key.{SECRET}"),
        format!("/api/meta?x-oct-jwt={SECRET}&{text}"),
        format!("https://edge.example/?{text}?token={SECRET}"),
    ] {
        let clean = redact(&target);
        assert!(!clean.contains(SECRET), "{target:?} gives {clean:?}");
    }
}

#[cfg(test)]
mod tests {
    use ctedge_testing::hostile;

    #[test]
    fn no_target_brings_a_secret_into_a_log() {
        hostile::check("redaction", super::redaction);
    }
}

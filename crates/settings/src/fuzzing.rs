//! What holds for any text that is taken for settings. The fuzz target and the test command call the same function.

use crate::{Origin, parse};

/// A text has faults, each with a line of it, or settles; and what is written down of it settles to the same.
pub fn settings(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let nothing_set = |_: &str| None;
    match parse(&text, &nothing_set) {
        Ok(settings) => match parse(settings.written(), &nothing_set) {
            Ok(again) => assert_eq!(again.written(), settings.written()),
            Err(faults) => panic!("what is written has faults: {faults:?}"),
        },
        Err(faults) => {
            assert!(!faults.is_empty());
            let lines = text.split('\n').count();
            for fault in faults {
                assert!(!matches!(fault.origin, Origin::Line(line) if line == 0 || line > lines), "{fault:?}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ctedge_testing::hostile;

    #[test]
    fn no_text_breaks_the_reading_of_settings() {
        hostile::check("settings", super::settings);
    }
}

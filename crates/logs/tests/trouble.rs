//! What goes wrong with a log file is told in the logs. A log is installed once a process, so this test has one of its own.

use std::fs;
use std::time::Duration;

use ctedge_logs::{Format, Level, LogFiles, Rotation, Zone, init};

#[test]
fn a_server_log_that_cannot_be_set_aside_says_so_once_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let server = folder.path().join("server.log");
    fs::create_dir_all(folder.path().join("server.log.1/not empty")).unwrap();
    fs::write(&server, "long enough\n").unwrap();
    let rotation = Rotation { bytes_max: 4, age_max: Duration::from_secs(3600), kept: 1 };
    let files = LogFiles { server: Some(server.clone()), ..LogFiles::default() };
    init(Format::Human, Level::Info, &files, rotation, &Zone::default()).unwrap();
    // A writer looks at its file every second.
    for count in 0..3 {
        std::thread::sleep(Duration::from_millis(1_100));
        tracing::info!(target: "server", "line {count}");
    }
    let text = fs::read_to_string(&server).unwrap();
    assert_eq!(text.lines().filter(|line| line.contains("server.log cannot be set aside")).count(), 1, "{text}");
    for count in 0..3 {
        assert!(text.contains(&format!("INFO line {count}")), "{text}");
    }
}

//! The pages of the logs for people.

use std::fmt::Write as _;
use std::time::SystemTime;

use super::shelf::LogFile;
use super::tail::Tail;
use crate::page::{ago, encode, escape, size};

/// How many lines the links of the pages ask for.
const LINES: [usize; 3] = [200, 1_000, 10_000];

/// What the logs hold, for whoever looks for something.
const ABOUT: [(&str, &str); 6] = [
    ("server.log", "start, license, ports, trouble"),
    ("sessions.log", "sessions created, joined, left, ended"),
    ("usage.log", "users online and in sessions, every 5 minutes"),
    ("access.log", "one line a request"),
    ("error.log", "warnings and errors"),
    ("balancer.log", "what the balancer itself says: its starts, nodes that come and go"),
];

/// What the process of a node writes, into the file of its id.
const OF_NODE: &str = "what this node itself says: its starts, the store, sessions that move";

/// What the file `name` holds, whether it is written at this time or was set aside.
fn about(name: &str) -> &'static str {
    let Some(end) = name.find(".log") else { return "" };
    let log = &name[..end + ".log".len()];
    ABOUT.iter().find(|(of, _)| *of == log).map_or(OF_NODE, |(_, about)| about)
}

/// The body of the page of all files.
pub(super) fn overview(files: &[LogFile]) -> String {
    let mut html = String::from(
        "<main>\n<h1>Logs</h1>\n<p><a href=\"../dashboard\">Dashboard</a></p>\n<p class=\"quiet\">A name shows the last \
         lines. For a terminal: <code>curl -u USER URL/logs/server.log?lines=200</code></p>\n</main>\n",
    );
    let (current, set_aside): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.is_current);
    section(&mut html, "Written at this time", &current);
    if !set_aside.is_empty() {
        section(&mut html, "Set aside", &set_aside);
    }
    html
}

fn section(html: &mut String, title: &str, files: &[&LogFile]) {
    let _ = writeln!(html, "<section>\n<h2>{title}</h2>");
    if files.is_empty() {
        html.push_str("<p class=\"quiet\">There is no log file on this machine.</p>\n</section>\n");
        return;
    }
    html.push_str(
        "<div class=\"wide\"><table>\n<thead><tr><th>File</th><th>What it tells</th><th class=\"number\">Size</th>",
    );
    html.push_str("<th class=\"number\">Last line</th><th></th></tr></thead>\n<tbody>\n");
    for file in files {
        row(html, file);
    }
    html.push_str("</tbody>\n</table></div>\n</section>\n");
}

fn row(html: &mut String, file: &LogFile) {
    let (name, link) = (escape(&file.name), encode(&file.name));
    let about = about(&file.name);
    let is_packed = super::shelf::is_packed(file.name.as_ref());
    let shown = if is_packed { name } else { format!("<a href=\"{link}?lines={}#end\">{name}</a>", LINES[0]) };
    let age = SystemTime::now().duration_since(file.written).unwrap_or_default();
    let _ = writeln!(
        html,
        "<tr><td class=\"word\">{shown}</td><td class=\"quiet\">{about}</td><td class=\"number\">{}</td>\
         <td class=\"number\">{} ago</td><td class=\"word\"><a href=\"{link}\" download>Download</a></td></tr>",
        size(file.bytes),
        ago(age),
    );
}

/// The body of the page of the end of one file.
pub(super) fn tail(name: &str, tail: &Tail, lines: usize) -> String {
    let link = encode(name);
    let count = tail.text.lines().count();
    let mut html = format!("<main>\n<h1>{}</h1>\n<p><a href=\"./\">All logs</a>", escape(name));
    for lines in LINES {
        let _ = write!(html, " · <a href=\"{link}?lines={lines}#end\">Last {lines} lines</a>");
    }
    let _ = writeln!(html, " · <a href=\"{link}\" download>Download</a></p>");
    let _ = match (count, tail.more) {
        (0, _) => writeln!(html, "<p class=\"quiet\">The file is empty.</p>"),
        (_, false) => writeln!(html, "<p class=\"quiet\">All of its {count} lines, the latest at the end.</p>"),
        (_, true) => writeln!(html, "<p class=\"quiet\">Its last {count} lines, the latest at the end.</p>"),
    };
    let _ = writeln!(html, "</main>\n<pre>{}</pre>", escape(&tail.text));
    let _ = writeln!(html, "<p id=\"end\"><a href=\"{link}?lines={lines}#end\">Read again</a></p>");
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_log_has_a_description_also_when_it_was_set_aside() {
        for (name, words) in [
            ("access.log", "one line a request"),
            ("access.log.2", "one line a request"),
            ("balancer.log", "the balancer itself"),
            ("node-12.log", "this node itself"),
            ("node-12.log.1.gz", "this node itself"),
        ] {
            assert!(about(name).contains(words), "{name}: {}", about(name));
        }
        assert_eq!(about("notes.txt"), "");
    }

    #[test]
    fn a_line_of_a_log_stays_text() {
        let end = Tail { text: "<script>alert(1)</script>\n".into(), more: true };
        let html = tail("a \"b\".log", &end, 200);
        assert!(html.contains("&lt;script&gt;") && !html.contains("<script"), "{html}");
        assert!(html.contains("a%20%22b%22.log?lines=200#end") && html.contains("Its last 1 lines"), "{html}");
    }
}

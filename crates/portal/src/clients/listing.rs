//! The page of what there is, by editor, and how to install it.

use std::fmt::Write as _;

use super::catalog::{Artifact, Catalog};
use super::eclipse::{SITE_INDEXES, site_of};
use crate::ide::Ide;
use crate::page::{encode, escape, size};

/// The body of the page. `url` is that of the server; editors do not know the authority of a `private_certificate`.
pub(super) fn body(catalog: &Catalog, url: &str, private_certificate: bool) -> String {
    let url = escape(url);
    let mut html = String::from("<main>\n<h1>Client downloads</h1>\n");
    let _ = writeln!(html, "<p class=\"quiet\">What connects your editor to <code>{url}</code>.</p>");
    if private_certificate {
        html.push_str(PRIVATE_CERTIFICATE);
    }
    for ide in Ide::ALL {
        section(&mut html, ide, catalog, &url);
    }
    html.push_str("</main>\n");
    html
}

fn section(html: &mut String, ide: Ide, catalog: &Catalog, url: &str) {
    let id = ide.as_str();
    let _ = writeln!(html, "<section id=\"{id}\">\n<h2>{}</h2>", ide.name());
    let artifacts: Vec<_> = catalog.of_ide(ide).collect();
    if artifacts.is_empty() {
        html.push_str("<p class=\"quiet\">This server offers no client for this editor.</p>\n</section>\n");
        return;
    }
    match ide {
        Ide::Eclipse => return eclipse(html, catalog, &artifacts, url),
        Ide::IntelliJ => intellij(html, url),
        Ide::VsCode => html.push_str(VS_CODE),
    }
    html.push_str("<table>\n<thead><tr><th>Client</th><th>Version</th><th>For</th>");
    html.push_str("<th class=\"number\">Size</th></tr></thead>\n<tbody>\n");
    for artifact in artifacts {
        row(html, artifact);
    }
    html.push_str("</tbody>\n</table>\n</section>\n");
}

fn row(html: &mut String, artifact: &Artifact) {
    let about = &artifact.about;
    let path: Vec<_> = artifact.path.split('/').map(encode).collect();
    let asks: Vec<_> = [&about.requires, &about.platform].into_iter().flatten().map(|text| escape(text)).collect();
    let _ = writeln!(
        html,
        "<tr><td><a href=\"{}\" download>{}</a><br><span class=\"quiet\">{}</span></td><td>{}</td><td>{}</td>\
         <td class=\"number\">{}</td></tr>",
        escape(&path.join("/")),
        escape(&about.name),
        escape(artifact.path.rsplit('/').next().unwrap_or_default()),
        escape(&about.version),
        asks.join(", "),
        size(artifact.bytes),
    );
}

/// Nobody installs the files of an update site by hand, so that none is offered: the site is.
fn eclipse(html: &mut String, catalog: &Catalog, artifacts: &[&Artifact], url: &str) {
    let _ = writeln!(
        html,
        "<ol>\n<li>In Eclipse, choose <em>Help</em>, <em>Install New Software…</em></li>\n\
         <li>Work with <code>{url}/clients/eclipse/</code></li>\n\
         <li>Select the client, go through the pages, and restart Eclipse.</li>\n</ol>\n\
         <p class=\"quiet\">The update site has {} in all. Eclipse fetches what it needs by itself.</p>",
        size(catalog.eclipse_bytes),
    );
    if !SITE_INDEXES.iter().any(|index| catalog.has(&format!("eclipse/{index}"))) {
        html.push_str("<p class=\"bad\">This is no whole update site: its metadata (content.jar) is missing.</p>\n");
    }
    html.push_str("<table>\n<thead><tr><th>Client</th><th>Version</th><th>Update site</th></tr></thead>\n<tbody>\n");
    for Artifact { about, path, .. } in artifacts {
        let site: Vec<_> = site_of(path).split('/').map(encode).collect();
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td>{}</td><td><code>{url}/clients/{}/</code></td></tr>",
            escape(&about.name),
            escape(&about.version),
            escape(&site.join("/")),
        );
    }
    html.push_str("</tbody>\n</table>\n</section>\n");
}

fn intellij(html: &mut String, url: &str) {
    let _ = writeln!(
        html,
        "<ol>\n<li>In the settings of the IDE, open <em>Plugins</em>; behind the gear choose \
         <em>Manage Plugin Repositories…</em></li>\n\
         <li>Add <code>{url}/clients/intellij/updatePlugins.xml</code></li>\n\
         <li>Find the client below <em>Marketplace</em>, install it, and restart the IDE. It finds updates there too.</li>\n\
         </ol>\n\
         <p class=\"quiet\">Or download it, and choose <em>Install Plugin from Disk…</em> behind the gear.</p>",
    );
}

const PRIVATE_CERTIFICATE: &str = "<section>\n<h2>Before you begin</h2>\n\
    <p>Editors do not know the authority of this server's certificate by themselves, and refuse to connect until they do. Get \
    its certificate from whoever runs this server, and make it known to</p>\n\
    <ul>\n<li>VS Code and browsers: in the certificate store of your operating system. VS Code reads it at its start as \
    long as the setting <code>http.systemCertificates</code> is on.</li>\n\
    <li>IntelliJ: in the settings, below <em>Tools</em>, <em>Server Certificates</em>.</li>\n\
    <li>Eclipse: in the trust store of the Java that runs it: <code>keytool -importcert -cacerts -file FILE</code>.</li>\n\
    </ul>\n</section>\n";

const VS_CODE: &str = "<ol>\n<li>Download the extension.</li>\n\
    <li>In the view <em>Extensions</em>, choose <em>Install from VSIX…</em> in the menu; or run \
    <code>code --install-extension FILE</code></li>\n</ol>\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::about::About;

    #[test]
    fn what_a_client_says_of_itself_stays_text() {
        let about = About { name: "<b>".into(), version: "\"1\"".into(), ..About::default() };
        let artifact = Artifact { ide: Ide::VsCode, path: "vscode/a \"b\"?.vsix".into(), bytes: 1, about };
        let catalog = Catalog { artifacts: vec![artifact], ..Catalog::default() };
        let html = body(&catalog, "https://edge.example", false);
        assert!(html.contains("<a href=\"vscode/a%20%22b%22%3F.vsix\" download>&lt;b&gt;</a>"), "{html}");
        assert!(html.contains("<td>&quot;1&quot;</td>"), "{html}");
        assert!(html.contains("no client for this editor"), "{html}");
    }
}

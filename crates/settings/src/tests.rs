//! Whole files: what is accepted, what is refused, and how the refusal reads.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ctedge_license::Field;
use ctedge_wire::ClusterSecret;

use crate::{Fault, Override, ProviderEndpoints, Settings, Value, default_config, parse, parse_with};

fn no_variable(_: &str) -> Option<String> {
    None
}

fn faults_of(text: &str) -> Vec<String> {
    parse(text, &no_variable).expect_err("there is a fault").iter().map(Fault::to_string).collect()
}

fn valid(text: &str) -> Settings {
    parse(text, &no_variable).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn secret() -> ClusterSecret {
    ClusterSecret::new(&"s".repeat(32)).unwrap()
}

#[track_caller]
fn check_fault(text: &str, expected: &str) {
    let faults = faults_of(text);
    assert_eq!(faults, [expected], "{text}");
}

#[test]
fn the_default_file_settles_to_the_defaults() {
    let text = default_config();
    assert_eq!(valid(&text).written(), text);
    assert_eq!(valid("").written(), text);
}

#[test]
fn all_faults_of_a_file_are_reported_in_one_run_in_the_order_of_its_lines() {
    let faults = faults_of(
        "colour = 1\n[balancer]\nhttp = \"here\"\nhttsp = \"0.0.0.0:1\"\n[balancer.timeouts]\nstop = 30\n[up]\nnodes = 65\n",
    );
    assert_eq!(
        faults,
        [
            "line 1: colour: there is no such setting; `ctedge default-config` shows all",
            "line 3: balancer.http: \"here\" is not an address with a port, like \"127.0.0.1:1080\" or \"[::1]:1080\"",
            "line 4: balancer.httsp: there is no such setting; is balancer.https meant?",
            "line 6: balancer.timeouts.stop: 30 is not a time with its unit, like \"500ms\", \"30s\", \"10m\" or \"1h\"",
            "line 8: up.nodes: 65 is not from 0 to 64",
        ]
    );
}

#[test]
fn a_fault_says_what_to_write_instead() {
    check_fault(
        "[log]\nlevel = \"loud\"",
        "line 2: log.level: \"loud\" is none of \"info\", \"error\", \"warn\", \"debug\", \"trace\"",
    );
    check_fault(
        "[balancer]\nexpose_node = \"yes\"",
        "line 2: balancer.expose_node: \"yes\" is not true or false, without quotes",
    );
    check_fault(
        "[balancer]\ntrusted_proxies = [\"10.0.0.0/33\"]",
        "line 2: balancer.trusted_proxies: \"10.0.0.0/33\" is no network; write it like \"10.0.0.0/8\" or \"fd00::/8\"",
    );
    check_fault(
        "server_url = \"edge.example.com\"",
        "line 1: server_url: \"edge.example.com\" is not the URL that clients use, like \"https://edge.example.com\"",
    );
    check_fault(
        "[limits]\ntunnels_max = 5",
        "line 2: limits.tunnels_max: there is no such setting; is balancer.limits.tunnels_max meant?",
    );
    check_fault("balancer = 3", "line 1: balancer: is a section: write [balancer] and its settings below");
}

#[test]
fn a_row_is_reported_with_its_line() {
    check_fault(
        "[[nodes]]\nid = \"a\"\naddress = \"127.0.0.1:0\"\n",
        "line 3: nodes.address: 127.0.0.1:0 is no address that a balancer can connect to",
    );
    check_fault("[[nodes]]\nid = \"a\"\n", "line 2: nodes: needs a setting address");
    check_fault(
        "[[dns]]\nname = \"x\"\nport = 1\nwieght = 3\n",
        "line 4: dns.wieght: there is no such setting; is weight meant?",
    );
    check_fault(
        "[nodes]\nid = \"a\"\n",
        "line 2: nodes.id: there is no such setting; nodes is a list: write [[nodes]]",
    );
}

#[test]
fn settings_that_contradict_each_other_are_faults() {
    check_fault(
        "[balancer]\nhttp = \"\"\nhttps = \"\"",
        "line 2: balancer.http: this and balancer.https are both switched off; clients need one of them",
    );
    check_fault(
        "[balancer]\nadmin = \"0.0.0.0:1090\"",
        "line 2: balancer.admin: 0.0.0.0:1090 can be reached from other machines: set balancer.admin_token as well",
    );
    check_fault(
        "[balancer]\nadmin = \"127.0.0.1:1080\"",
        "line 2: balancer.admin: port 1080 is taken by another setting of [balancer]",
    );
    check_fault(
        "[node.lease]\nlost_after = \"1500ms\"",
        "line 2: node.lease.lost_after: is not twice as long as node.lease.beat: one late heartbeat would cost a node its sessions",
    );
    check_fault(
        "[balancer.timeouts]\nresponse = \"30s\"",
        "line 2: balancer.timeouts.response: is not longer than node.timeouts.poll: every poll would fail",
    );
    check_fault(
        "[up]\nnode_base_port = 65534",
        "line 2: up.node_base_port: 3 nodes from this port on end above port 65535",
    );
    check_fault(
        "[up]\nnodes = 0\nmachine = \"10.0.0.11\"\n[[nodes]]\nid = \"far\"\naddress = \"10.0.0.12:3001\"",
        "line 3: up.machine: no node of [[nodes]] has the address 10.0.0.11",
    );
    check_fault(
        "[up]\nnodes = 0\nmachine = \"0.0.0.0\"",
        "line 3: up.machine: 0.0.0.0 is no address that other machines can connect to",
    );
    check_fault(
        "[up]\nnodes = 1\nmachine = \"10.0.0.11\"\n[[nodes]]\nid = \"here\"\naddress = \"10.0.0.11:3001\"",
        "line 2: up.nodes: has to be 0 where up.machine says which of [[nodes]] this machine starts",
    );
    check_fault(
        "[up]\nnodes = 0\nmachine = \"10.0.0.11\"\n[[nodes]]\nid = \"balancer\"\naddress = \"10.0.0.11:3001\"",
        "line 4: nodes: the id \"balancer\" is the balancer's, where up.machine starts nodes",
    );
}

#[test]
fn what_is_no_toml_is_a_fault_beside_the_others() {
    let faults = faults_of("[up]\nnodes = 99\nnodes = 3\n[log\n");
    assert!(faults.iter().any(|fault| fault.starts_with("line 2: up.nodes: 99")), "{faults:?}");
    assert!(faults.iter().any(|fault| fault.starts_with("line 3: ")), "{faults:?}");
    assert!(faults.iter().any(|fault| fault.starts_with("line 4: ")), "{faults:?}");
}

#[test]
fn a_variable_counts_more_than_the_file_and_is_named_in_its_faults() {
    let variable = |name: &str| (name == "CT_SERVER_URL").then(|| "https://edge.example/ct/".to_owned());
    let settings = parse("server_url = \"https://other\"", &variable).unwrap();
    let url = settings.server_url().unwrap();
    assert_eq!((url.as_str(), url.path_prefix()), ("https://edge.example/ct", "/ct"));

    let wrong = |name: &str| (name == "CT_SERVER_URL").then(|| "edge".to_owned());
    let faults = parse("", &wrong).unwrap_err();
    assert!(faults[0].to_string().starts_with("CT_SERVER_URL: server_url: \"edge\" is not the URL"), "{faults:?}");
}

#[test]
fn the_periodic_restart_is_set_by_its_variables_and_their_faults_name_them() {
    let of = |name: &'static str, value: &'static str| move |asked: &str| (asked == name).then(|| value.to_owned());
    let pattern = of("CT_AUTO_RESTART_CRON_PATTERN", "* 11 * * 0");
    let settings = parse("", &pattern).unwrap();
    assert_eq!(settings.restart().schedule.as_ref().map(crate::CronPattern::as_str), Some("* 11 * * 0"));

    let file = "[restart]\nschedule = \"0 4 * * 0\"\n";
    assert!(parse(file, &of("CT_AUTO_RESTART_DISABLED", "false")).unwrap().restart().schedule.is_some());
    assert!(parse(file, &of("CT_AUTO_RESTART_DISABLED", "true")).unwrap().restart().schedule.is_none());

    for (name, value, fault) in [
        ("CT_AUTO_RESTART_DISABLED", "perhaps", "CT_AUTO_RESTART_DISABLED: restart.disabled: \"perhaps\" is not true"),
        ("CT_AUTO_RESTART_CRON_PATTERN", "weekly", "CT_AUTO_RESTART_CRON_PATTERN: restart.schedule: \"weekly\" has 1"),
        ("CT_AUTO_RESTART_CRON_PATTERN", "* * * * *", "CT_AUTO_RESTART_CRON_PATTERN: restart.schedule: names every"),
        ("CT_AUTO_RESTART_CRON_PATTERN", "*/1 * * * *", "CT_AUTO_RESTART_CRON_PATTERN: restart.schedule: names every"),
    ] {
        let faults = parse("", &of(name, value)).unwrap_err();
        assert!(faults[0].to_string().starts_with(fault), "{faults:?}");
    }
}

#[test]
fn a_written_file_with_overrides_settles_to_the_same() {
    let node = vec![("id", Value::Text("node-1".into())), ("address", Value::Text("127.0.0.1:3001".into()))];
    let overrides =
        [Override::new("up.nodes", Value::Integer(5), "--nodes"), Override::rows("nodes", [node], "the supervisor")];
    let settings = parse_with("[balancer]\nadmin_token = \"quite \\\\ some token\"\n", overrides.clone()).unwrap_err();
    assert_eq!(settings.len(), 1, "{settings:?}");
    let settings = parse_with("[balancer]\nadmin_token = \"quite-\\\\-some-token\"\n", overrides).unwrap();
    assert_eq!(settings.up().nodes, 5);
    let again = valid(settings.written());
    assert_eq!(again.written(), settings.written());
    assert_eq!(again.nodes().fixed[0].weight, 100);
    assert_eq!(again.admin_token(), Some("quite-\\-some-token"));
}

#[test]
fn relative_paths_are_below_the_data_folder() {
    let settings = valid("data = \"/var/lib/ctedge\"\n[[certificates]]\nchain = \"a.pem\"\nkey = \"/b.pem\"\n");
    assert_eq!(settings.secret_file(), Path::new("/var/lib/ctedge/cluster.secret"));
    assert_eq!(settings.log().access, Some(PathBuf::from("/var/lib/ctedge/logs/access.log")));
    assert_eq!(settings.certificates()[0].chain, Path::new("/var/lib/ctedge/a.pem"));
    assert_eq!(settings.certificates()[0].key, Path::new("/b.pem"));
}

#[test]
fn a_role_gets_what_it_needs_or_says_what_is_missing() {
    let alone = valid("").balancer(secret(), 2).unwrap_err();
    assert_eq!(alone.len(), 2, "{alone:?}");

    let text =
        "[balancer]\nhttps = \"\"\n[[nodes]]\nid = \"a\"\naddress = \"10.0.0.1:3001\"\nlisten = \"0.0.0.0:3001\"\n";
    let settings = valid(text);
    let balancer = settings.balancer(secret(), 2).unwrap();
    assert_eq!((balancer.threads, balancer.https), (2, None));
    assert_eq!(balancer.timeouts.tunnel_idle, Duration::from_secs(3600));
    let node = settings.node("a", secret(), 2).unwrap();
    assert_eq!((node.listen.to_string().as_str(), node.threads), ("0.0.0.0:3001", 1));
    let unknown = settings.node("b", secret(), 2).unwrap_err();
    assert_eq!(unknown[0].to_string(), "nodes: no node has the id \"b\"; listed: a");
}

#[test]
fn a_size_reaches_the_role_in_bytes() {
    let settings = valid(
        "[balancer.limits]\nheader_bytes_max = \"64KiB\"\n[balancer]\nhttps = \"\"\n[[dns]]\nname = \"n\"\nport = 1\n",
    );
    assert_eq!(settings.balancer(secret(), 1).unwrap().limits.header_bytes_max, 65_536);
}

#[test]
fn no_debug_output_and_no_fault_shows_a_bearer_token() {
    let text = "[balancer]\nhttps = \"\"\nadmin_token = \"a-very-secret-token\"\n[[dns]]\nname = \"n\"\nport = 1\n";
    let settings = valid(text);
    let balancer = settings.balancer(secret(), 1).unwrap();
    assert_eq!(balancer.admin_token.as_deref(), Some("a-very-secret-token"));
    assert!(!format!("{settings:?} {balancer:?}").contains("very-secret"));
    let faults = faults_of(&text.replace("a-very-secret-token", "very-secret"));
    assert!(!faults[0].contains("very-secret"), "{faults:?}");

    let settings =
        valid("[metrics]\ntoken = \"a-very-secret-token\"\n[[nodes]]\nid = \"a\"\naddress = \"127.0.0.1:3001\"\n");
    let node = settings.node("a", secret(), 1).unwrap();
    assert_eq!(node.metrics.token.as_deref(), Some("a-very-secret-token"));
    assert!(!format!("{settings:?} {node:?}").contains("very-secret"));
}

#[test]
fn ct_noclients_switches_the_downloads_off_and_a_wrong_value_of_it_is_named() {
    let with = |value: &'static str| parse("", &move |name| (name == "CT_NOCLIENTS").then(|| value.to_owned()));
    assert!(valid("").portal().clients);
    for (value, clients) in [("true", false), ("1", false), ("Yes", false), ("false", true), ("", true)] {
        assert_eq!(with(value).unwrap().portal().clients, clients, "{value:?}");
    }
    let faults = with("maybe").unwrap_err();
    assert!(
        faults[0].to_string().starts_with("CT_NOCLIENTS: portal.clients: \"maybe\" is not true or false"),
        "{faults:?}"
    );
}

#[test]
fn credentials_come_from_variables_in_pairs_and_are_never_shown() {
    let pair = |name: &str| match name {
        "CT_DASHBOARD_USER" => Some("admin".to_owned()),
        "CT_DASHBOARD_PASSWORD" => Some("very-secret".to_owned()),
        _ => None,
    };
    let settings = parse("", &pair).unwrap();
    let portal = settings.portal();
    assert_eq!(portal.dashboard.as_ref().unwrap().user, "admin");
    assert_eq!(portal.dashboard.as_ref().unwrap().password.reveal(), "very-secret");
    assert_eq!(portal.logs, None);
    assert!(!format!("{portal:?} {settings:?}").contains("very-secret"));

    let half = |name: &str| (name == "CT_LOGS_PASSWORD").then(|| "very-secret".to_owned());
    let faults = parse("", &half).unwrap_err();
    let expected = "CT_LOGS_PASSWORD: portal.logs_password: needs portal.logs_user (CT_LOGS_USER) beside it";
    assert_eq!(faults.iter().map(Fault::to_string).collect::<Vec<_>>(), [expected]);
    let half = |name: &str| (name == "CT_DASHBOARD_USER").then(|| "admin".to_owned());
    assert_eq!(parse("", &half).unwrap_err().len(), 1);
    check_fault("[portal]\nlogs_password = 3", "line 2: portal.logs_password: a password stands in quotes");
}

#[test]
fn a_license_is_taken_from_variables_and_never_shown() {
    let variable = |name: &str| match name {
        "CT_LICENSEE" => Some("Example Corp".to_owned()),
        "CT_MAXCONNECTIONS" => Some("250".to_owned()),
        "CT_SIGNATURE" => Some("v1.a-very-secret-signature".to_owned()),
        "CT_SERVER_URL" => Some("https://edge.example.com:8443/ct".to_owned()),
        _ => None,
    };
    let settings =
        parse("data = \"/var/lib/ctedge\"\n[license]\nlicensee = \"Other\"\nexpiration = \"2027/12/31\"\n", &variable);
    let settings = settings.unwrap();
    let license = settings.license();
    assert_eq!(license.fields.value(Field::Licensee), Some("Example Corp"));
    assert_eq!(license.fields.value(Field::MaxConnections), Some("250"));
    assert_eq!(license.fields.value(Field::Expiration), Some("2027/12/31"));
    assert_eq!(license.fields.value(Field::Locator), None);
    assert_eq!(license.file, Path::new("/var/lib/ctedge/licensing.properties"));
    assert_eq!(license.host.as_deref(), Some("edge.example.com"));
    assert!(!format!("{settings:?} {license:?}").contains("very-secret"));
    assert_eq!(valid(settings.written()).license().fields, license.fields, "children read the file that `up` writes");
}

#[test]
fn a_license_may_stand_in_the_file_with_its_number_as_a_number() {
    let license = valid("[license]\nmax_connections = 250\n").license();
    assert_eq!(license.fields.value(Field::MaxConnections), Some("250"));
    check_fault(
        "[license]\nsignature = [\"very-secret\"]",
        "line 2: license.signature: a part of a license stands in quotes",
    );
}

#[test]
fn a_wrong_public_key_names_its_variable() {
    let wrong = |name: &str| (name == "CTEDGE_LICENSE_PUBLIC_KEY").then(|| "AAAA".to_owned());
    let faults = parse("", &wrong).unwrap_err();
    let expected = "CTEDGE_LICENSE_PUBLIC_KEY: license.public_key: this is no public key of licenses";
    assert!(faults[0].to_string().starts_with(expected), "{faults:?}");
}

#[test]
fn figures_are_sent_where_the_variables_say() {
    let variable = |name: &str| {
        let value = match name {
            "CT_METRICS_STATSD_HOST" => "http://statsd.example.com",
            "CT_METRICS_STATSD_PORT" => "9125",
            "CT_METRICS_STATSD_PROTOCOL" => "tcp",
            "CT_PROMETHEUS_ENABLED" => "true",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let file = "[metrics]\nstatsd_prefix = \"company.edge\"\nstatsd_tags = true\nstatsd_interval = \"30s\"\n\
                [[nodes]]\nid = \"a\"\naddress = \"127.0.0.1:3001\"\n";
    let settings = parse(file, &variable).unwrap();
    let metrics = settings.node("a", secret(), 1).unwrap().metrics;
    assert!(metrics.prometheus);
    let expected = crate::StatsdSettings {
        host: "statsd.example.com".into(),
        port: 9125,
        protocol: crate::StatsdProtocol::Tcp,
        prefix: "company.edge".into(),
        tags: true,
        interval: Duration::from_secs(30),
    };
    assert_eq!(metrics.statsd, Some(expected));
    let again = valid(settings.written()).node("a", secret(), 1).unwrap().metrics;
    assert_eq!(again, metrics, "children read the file that `up` writes");
}

#[test]
fn without_a_host_nothing_is_sent_and_a_url_says_more_than_the_settings_beside_it() {
    let metrics = |text: &str| {
        let text = format!("{text}\n[[nodes]]\nid = \"a\"\naddress = \"127.0.0.1:3001\"\n");
        valid(&text).node("a", secret(), 1).unwrap().metrics
    };
    assert_eq!(metrics(""), crate::MetricsSettings::default());
    let statsd = metrics("[metrics]\nstatsd_host = \"tcp://statsd:9125/\"").statsd.unwrap();
    assert_eq!((statsd.host.as_str(), statsd.port, statsd.protocol), ("statsd", 9125, crate::StatsdProtocol::Tcp));
    let statsd = metrics("[metrics]\nstatsd_host = \"statsd\"").statsd.unwrap();
    assert_eq!((statsd.port, statsd.protocol, statsd.tags), (8125, crate::StatsdProtocol::Udp, false));
    assert_eq!(statsd.prefix, "codetogether");
}

#[test]
fn a_wrong_variable_of_the_metrics_is_named_with_what_to_write_instead() {
    for (name, value, fault) in [
        ("CT_METRICS_STATSD_HOST", "http://", "metrics.statsd_host: \"http://\" names no host; write it like"),
        ("CT_METRICS_STATSD_PORT", "statsd", "metrics.statsd_port: \"statsd\" is not a whole number"),
        ("CT_METRICS_STATSD_PORT", "0", "metrics.statsd_port: 0 is not from 1 to 65535"),
        ("CT_METRICS_STATSD_PORT", "70000", "metrics.statsd_port: 70000 is not between 0 and 65535"),
        ("CT_METRICS_STATSD_PROTOCOL", "SCTP", "metrics.statsd_protocol: \"SCTP\" is none of \"UDP\", \"TCP\""),
        ("CT_PROMETHEUS_ENABLED", "maybe", "metrics.prometheus: \"maybe\" is not true or false"),
    ] {
        let faults = parse("", &|asked| (asked == name).then(|| value.to_owned())).unwrap_err();
        assert!(faults[0].to_string().starts_with(&format!("{name}: {fault}")), "{faults:?}");
    }
    check_fault(
        "[metrics]\nstatsd_prefix = \"a:b\"",
        "line 2: metrics.statsd_prefix: \"a:b\" is no beginning of a name; write it like \"codetogether\" or \"company.codetogether\"",
    );
}

#[test]
fn a_registry_has_a_repository_and_a_user_a_password() {
    let text = "data = \"d\"\n[portal]\nregistry = \"https://registry.example:5000\"\nrepository = \"a/b-c\"\n";
    let registry = valid(text).portal().registry.unwrap();
    assert_eq!((registry.url.as_str(), registry.repository.as_str()), ("https://registry.example:5000", "a/b-c"));
    assert_eq!(registry.login, None);
    let login = format!("{text}registry_user = \"u\"\nregistry_password_file = \"p\"\n");
    assert_eq!(valid(&login).portal().registry.unwrap().login, Some(("u".to_owned(), "d/p".into())));
    check_fault("[portal]\nrepository = \"a\"", "line 2: portal.repository: needs portal.registry beside it");
    check_fault(
        &format!("{text}registry_user = \"u\""),
        "line 5: portal.registry_user: needs portal.registry_password_file beside it",
    );
    check_fault(
        "[portal]\nregistry = \"ghcr.io\"",
        "line 2: portal.registry: \"ghcr.io\" is not the URL of a registry, like \"https://ghcr.io\"",
    );
    for wrong in ["A", "a//b", "/a", "-a", "a b", "../a"] {
        let faults = faults_of(&format!("[portal]\nrepository = \"{wrong}\""));
        assert!(faults[0].contains("is not the name of a repository"), "{faults:?}");
    }
}

#[test]
fn a_provider_is_whole_and_takes_the_place_of_just_giving_a_name() {
    let secret = || ClusterSecret::new(&"s".repeat(32)).unwrap();
    let rest = "client_id = \"edge\"\nclient_secret = \"s3\"\n";
    let node = |text: &str| {
        let nodes = "[[nodes]]\nid = \"node-1\"\naddress = \"127.0.0.1:3001\"\n";
        valid(&format!("server_url = \"https://edge.example/ct\"\n{text}{nodes}")).node("node-1", secret(), 1).unwrap()
    };
    assert!(node("").simple_login && node("").sign_on.is_none());

    let with_issuer = node(&format!("[sign_on]\nurl = \"https://id.example\"\n{rest}"));
    let sign_on = with_issuer.sign_on.unwrap();
    assert!(!with_issuer.simple_login);
    assert_eq!(sign_on.endpoints, ProviderEndpoints::OfIssuer("https://id.example".into()));
    assert_eq!((sign_on.provider.as_str(), sign_on.server_url.path_prefix()), ("single sign-on", "/ct"));
    assert!(!format!("{sign_on:?}").contains("s3"));

    let token = "token_endpoint = \"https://id.example/t\"\n";
    let given = node(&format!("[sign_on]\nurl = \"https://id.example/a\"\n{token}{rest}")).sign_on.unwrap().endpoints;
    let expected =
        ProviderEndpoints::Given { authorization: "https://id.example/a".into(), token: "https://id.example/t".into() };
    assert_eq!(given, expected);

    check_fault(
        "[sign_on]\nurl = \"https://id.example\"",
        "line 2: sign_on.url: needs sign_on.client_id (CT_SSO_CLIENT_ID), sign_on.client_secret (CT_SSO_CLIENT_SECRET), \
         server_url (CT_SERVER_URL) beside it",
    );
}

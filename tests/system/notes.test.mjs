//! What operators of the original rely on, row by row of their notes: each row is seen to work here, or names the test that
//! sees it.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import path from 'node:path';
import { test } from 'node:test';
import { eventually } from '../harness/deadline.mjs';
import { temporaryDirectory, withEdge } from '../harness/edge.mjs';
import { Issuer } from '../harness/license.mjs';
import { ctedge } from '../harness/process.mjs';

const ROOT = path.resolve(import.meta.dirname, '../..');
const VARIABLES = 'crates/settings/tests/documented.rs';

/**
 * Every row of the notes, as docs/moving.md has them for operators, with the file of its test and words of that test's name or body. All variables are also held, one
 * by one, against what they set and against wrong values.
 *
 * @type {Record<string, [file: string, words: string][]>}
 */
const ROWS = {
    CT_SERVER_URL: [[VARIABLES, 'CT_SERVER_URL'], ['tests/system/clients.test.mjs', 'CT_SERVER_URL']],
    CT_TRUST_ALL_CERTS: [
        [VARIABLES, 'CT_TRUST_ALL_CERTS'],
        ['tests/system/clients.test.mjs', 'CT_TRUST_ALL_CERTS tells'],
    ],
    CT_LICENSEE: [[VARIABLES, 'CT_LICENSEE'], ['tests/system/license.test.mjs', 'CT_LICENSEE']],
    CT_MAXCONNECTIONS: [[VARIABLES, 'CT_MAXCONNECTIONS'], ['tests/system/license.test.mjs', 'CT_MAXCONNECTIONS']],
    CT_EXPIRATION: [[VARIABLES, 'CT_EXPIRATION'], ['tests/system/license.test.mjs', 'CT_EXPIRATION']],
    CT_LOCATOR: [[VARIABLES, 'CT_LOCATOR'], ['tests/system/license.test.mjs', 'CT_LOCATOR']],
    CT_SIGNATURE: [[VARIABLES, 'CT_SIGNATURE'], ['tests/system/license.test.mjs', 'CT_SIGNATURE']],
    CT_DASHBOARD_USER: [[VARIABLES, 'CT_DASHBOARD_USER'], ['tests/system/portal.test.mjs', 'CT_DASHBOARD_USER']],
    CT_DASHBOARD_PASSWORD: [[VARIABLES, 'CT_DASHBOARD_PASSWORD'], ['tests/system/portal.test.mjs', 'CT_DASHBOARD_PASSWORD']],
    CT_LOGS_USER: [[VARIABLES, 'CT_LOGS_USER'], ['tests/system/portal.test.mjs', 'CT_LOGS_USER']],
    CT_LOGS_PASSWORD: [[VARIABLES, 'CT_LOGS_PASSWORD'], ['tests/system/portal.test.mjs', 'CT_LOGS_PASSWORD']],
    CT_METRICS_STATSD_HOST: [[VARIABLES, 'CT_METRICS_STATSD_HOST'], ['tests/system/metrics.test.mjs', 'CT_METRICS_STATSD_HOST']],
    CT_METRICS_STATSD_PORT: [[VARIABLES, 'CT_METRICS_STATSD_PORT'], ['tests/system/metrics.test.mjs', 'CT_METRICS_STATSD_PORT']],
    CT_METRICS_STATSD_PROTOCOL: [[VARIABLES, 'CT_METRICS_STATSD_PROTOCOL'], ['tests/system/metrics.test.mjs', 'CT_METRICS_STATSD_PROTOCOL']],
    CT_PROMETHEUS_ENABLED: [[VARIABLES, 'CT_PROMETHEUS_ENABLED'], ['tests/system/metrics.test.mjs', 'without CT_PROMETHEUS_ENABLED there is no public /metrics']],
    CT_NOCLIENTS: [[VARIABLES, 'CT_NOCLIENTS'], ['tests/system/clients.test.mjs', 'CT_NOCLIENTS switches the downloads off']],
    CT_TIME_ZONE: [
        [VARIABLES, 'CT_TIME_ZONE'],
        ['tests/system/logs.test.mjs', 'CT_TIME_ZONE is the time zone of all logs'],
        ['crates/node/src/ownership/journal.rs', 'a_day_of_the_figures_begins_at_midnight_of_the_time_zone'],
    ],
    CT_AUTO_RESTART_DISABLED: [
        [VARIABLES, 'CT_AUTO_RESTART_DISABLED'],
        ['crates/settings/src/tests.rs', 'of("CT_AUTO_RESTART_DISABLED", "true")).unwrap().restart().schedule.is_none()'],
        ['tests/system/notes.test.mjs', 'CT_AUTO_RESTART_DISABLED switches off what CT_AUTO_RESTART_CRON_PATTERN switches on'],
    ],
    CT_AUTO_RESTART_CRON_PATTERN: [
        [VARIABLES, 'CT_AUTO_RESTART_CRON_PATTERN'],
        ['crates/supervisor/src/schedule.rs', 'the_originals_pattern_restarts_once_a_week_and_not_sixty_times'],
        ['tests/system/notes.test.mjs', 'CT_AUTO_RESTART_DISABLED switches off what CT_AUTO_RESTART_CRON_PATTERN switches on'],
    ],
    CT_SSO_SYSTEM_BASE_URL: [[VARIABLES, 'CT_SSO_SYSTEM_BASE_URL'], ['tests/system/sign-on.test.mjs', 'behind CT_SSO_SYSTEM_BASE_URL']],
    CT_SSO_AUTHORIZATION_ENDPT: [
        [VARIABLES, 'CT_SSO_AUTHORIZATION_ENDPT'],
        ['tests/system/sign-on.test.mjs', 'CT_SSO_AUTHORIZATION_ENDPT and CT_SSO_TOKEN_ENDPT name'],
    ],
    CT_SSO_TOKEN_ENDPT: [[VARIABLES, 'CT_SSO_TOKEN_ENDPT'], ['tests/system/sign-on.test.mjs', 'CT_SSO_TOKEN_ENDPT']],
    CT_SSO_CLIENT_ID: [[VARIABLES, 'CT_SSO_CLIENT_ID'], ['tests/system/sign-on.test.mjs', 'CT_SSO_CLIENT_ID']],
    CT_SSO_CLIENT_SECRET: [[VARIABLES, 'CT_SSO_CLIENT_SECRET'], ['tests/system/sign-on.test.mjs', 'CT_SSO_CLIENT_SECRET']],
    CT_SSO_PROVIDER: [[VARIABLES, 'CT_SSO_PROVIDER'], ['tests/system/sign-on.test.mjs', 'CT_SSO_PROVIDER']],
    'CT_SERVER_URL/sso/authorization-code/callback, CT_SERVER_URL/sso/logout': [
        ['tests/system/sign-on.test.mjs', '/sso/authorization-code/callback'],
        ['tests/system/sign-on.test.mjs', 'CT_SERVER_URL/sso/logout forgets'],
    ],
    CT_REGION: [[VARIABLES, 'CT_REGION'], ['tests/system/region.test.mjs', 'CT_REGION is the region']],
    'a wrong value of any of these': [
        [VARIABLES, 'a_wrong_value_in_a_variable_is_one_line_that_names_it'],
        [VARIABLES, 'a_wrong_value_in_a_variable_of_the_license_is_one_line_that_names_it_where_it_is_judged'],
        [VARIABLES, 'nonsense_in_any_setting_is_one_line_that_names_it'],
        [VARIABLES, 'a_value_of_another_kind_in_any_setting_is_one_line_that_names_it'],
        [VARIABLES, 'a_number_a_time_and_a_size_outside_of_the_documented_range_is_refused_with_the_range'],
    ],
    'public HTTP, HTTPS: 1080, 1443': [['tests/system/notes.test.mjs', 'the ports of the notes are the defaults']],
    'a node\'s private port: 127.0.0.1:3001 and up': [['tests/system/notes.test.mjs', 'a node is reached on 127.0.0.1 alone']],
    '/ct-health/ on balancer and node': [
        ['tests/system/notes.test.mjs', 'balancer and nodes tell at /ct-health/ that they are well'],
        ['crates/node/tests/node/operating.rs', 'health_tells_what_the_node_is_and_has'],
    ],
    '/clients, /clients/eclipse, /clients/intellij, /clients/vscode': [
        ['tests/system/clients.test.mjs', 'what the operator adds is offered to each editor'],
        ['tests/system/clients.test.mjs', 'the files of an update site are served as they are'],
    ],
    'ctuser and a random password, written once to the server log': [['tests/system/portal.test.mjs', 'written once to the server log']],
    '/dashboard, /logs': [
        ['tests/system/portal.test.mjs', 'the dashboard tells of nodes, sessions, seats and license'],
        ['tests/system/portal.test.mjs', '/logs lists the logs, shows their ends'],
    ],
    '/metrics': [['tests/system/metrics.test.mjs', 'CT_PROMETHEUS_ENABLED shows the sums']],
    'server.log': [['tests/system/logs.test.mjs', 'the server log says where the edge is in the words that scripts look for']],
    'sessions.log': [['tests/system/logs.test.mjs', 'the session log tells who came and went']],
    'usage.log': [['tests/system/notes.test.mjs', 'usage.log has a line every five minutes unless told otherwise']],
    'access.log': [['tests/system/logs.test.mjs', 'every request is one line of the access log in the combined format']],
    'error.log': [
        ['crates/logs/src/lines.rs', 'the_error_log_is_written_as_nginx_does'],
        ['tests/system/logs.test.mjs', 'a line of error.log as nginx writes it'],
    ],
    'reopened on SIGUSR1': [['tests/system/logs.test.mjs', 'SIGUSR1']],
    'in the container: /opt/codetogether, /var/log/codetogether, /var/log/nginx': [['tests/system/notes.test.mjs', 'in the container each file is where the notes have it']],
    'licensing.properties': [['tests/system/license.test.mjs', 'licensing.properties']],
    'codetogether.config': [
        ['tests/system/license.test.mjs', 'one in variables or in a sourced file is a license'],
        ['tests/system/license.test.mjs', 'variables of codetogether.config that take no effect are told once'],
    ],
    'a license that ends within 30 days': [
        ['crates/license/src/verdict.rs', 'ends_soon'],
        ['crates/node/src/license/watch.rs', 'a_license_that_ends_within_thirty_days_is_warned_of_each_day'],
        ['tests/system/license.test.mjs', 'a license that ends soon is a warning'],
    ],
    'what a person is told who finds no seat': [
        ['crates/node/tests/node/license.rs', 'who_finds_no_seat_is_told_how_many_there_are'],
        ['tests/system/license.test.mjs', 'connections that this server is licensed for are in use'],
    ],
    'start and stop': [
        ['tests/system/lifecycle.test.mjs', '`ctedge stop` returns when every process has ended'],
        ['tests/system/restart.test.mjs', 'start'],
    ],
    'root INFO CodeTogether On-Premises services now available on port 1080 (HTTP) and 1443 (SSL)': [
        ['tests/system/logs.test.mjs', 'root INFO CodeTogether On-Premises services now available on '],
    ],
    'root INFO Valid CodeTogether license installed': [['tests/system/license.test.mjs', 'Valid CodeTogether license installed']],
    'the counts of the access log': [['tests/system/clients.test.mjs', 'the documented counts of the access log']],
    'the process list': [['tests/system/notes.test.mjs', 'the process list has a row a process']],
    'unique users online, active sessions, active session connections, average server lag, total sessions hosted, total downloads': [
        ['tests/system/metrics.test.mjs', 'figures go to Graphite over StatsD'],
        ['tests/system/metrics.test.mjs', 'Prometheus reads the edge'],
    ],
    'the dashboard: users, sessions, seats, nodes, days, downloads': [
        ['tests/system/portal.test.mjs', 'the dashboard tells of nodes, sessions, seats and license'],
    ],
    'metrics.tar.gz': [['tests/system/portal.test.mjs', 'metrics.tar.gz of the dashboard']],
    'session-metrics.csv, download-metrics.csv': [['crates/portal/tests/export.rs', 'the_archive_holds_the_figures_of_each_day']],
};

test('every row of the notes has a test that names it', () => {
    for (const [row, tests] of Object.entries(ROWS)) {
        for (const [file, words] of tests) {
            // In this file the table itself has all of the words.
            const text = readFileSync(path.join(ROOT, file), 'utf8').replace(/^const ROWS = .*?^};$/ms, '');
            assert.ok(text.includes(words), `${row}: there is no test with ${JSON.stringify(words)} in ${file}`);
        }
    }
});

test('every row that docs/moving.md promises has a test, and no other', () => {
    const text = readFileSync(path.join(ROOT, 'docs/moving.md'), 'utf8');
    const rows = text.split('\n').filter(line => line.startsWith('| ') && !/^\| (---|in the original) /.test(line));
    const names = rows.map(line => line.split(' | ')[0].replace(/^\| /, '').replaceAll('`', ''));
    assert.deepEqual(names.toSorted(), Object.keys(ROWS).toSorted());
    for (const name of names.filter(name => name.startsWith('CT_') && !name.includes('/'))) {
        const tests = ROWS[name].map(([file]) => file);
        assert.ok(tests.includes(VARIABLES), `${name} is not held against what it sets and against wrong values`);
    }
});

test('CT_AUTO_RESTART_DISABLED switches off what CT_AUTO_RESTART_CRON_PATTERN switches on', async () => {
    const env = { CT_AUTO_RESTART_CRON_PATTERN: '* 11 * * 0' };
    for (const [disabled, written] of [['true', 'disabled = true'], ['false', 'disabled = false']]) {
        await withEdge({ nodes: 1, env: { ...env, CT_AUTO_RESTART_DISABLED: disabled } }, async edge => {
            // What the processes of the edge read.
            const lines = readFileSync(path.join(edge.data, 'run/ctedge.toml'), 'utf8').split('\n');
            for (const line of [written, 'schedule = "* 11 * * 0"']) assert.ok(lines.includes(line), line);
        });
    }
});

/** The settings of the default file, without its comments. */
async function defaults() {
    const { code, output } = await ctedge(['default-config']);
    assert.equal(code, 0, output);
    return output.split('\n').filter(line => !line.startsWith('#'));
}

test('the ports of the notes are the defaults', async () => {
    const lines = await defaults();
    for (const line of ['http = "0.0.0.0:1080"', 'https = "0.0.0.0:1443"', 'node_base_port = 3001']) {
        assert.ok(lines.includes(line), line);
    }
});

test('usage.log has a line every five minutes unless told otherwise', async () => {
    const lines = await defaults();
    for (const line of ['usage = "logs/usage.log"', 'usage_interval = "5m"']) assert.ok(lines.includes(line), line);
});

/**
 * Whether something listens there.
 *
 * @param {string} host
 * @param {number} port
 * @returns {Promise<boolean>}
 */
function listens(host, port) {
    return new Promise(resolve => {
        const socket = connect({ host, port, timeout: 5_000 });
        const answer = (/** @type {boolean} */ is) => () => {
            socket.destroy();
            resolve(is);
        };
        socket.once('connect', answer(true)).once('error', answer(false)).once('timeout', answer(false));
    });
}

test('a running edge has the addresses, the files and the process list of the notes', async t => {
    await withEdge({ nodes: 2 }, async edge => {
        const nodes = (await edge.admin.status()).nodes.map((/** @type {any} */ node) => node.address);
        await t.test('a node is reached on 127.0.0.1 alone', async () => {
            for (const address of nodes) {
                assert.match(address, /^127\.0\.0\.1:\d+$/);
                const port = Number(address.split(':')[1]);
                assert.ok(await listens('127.0.0.1', port), address);
                // Another address of this machine stands for that of its network.
                assert.equal(await listens('127.0.0.2', port), false, `${port} can be reached from elsewhere`);
            }
        });
        await t.test('balancer and nodes tell at /ct-health/ that they are well', async () => {
            for (const url of [edge.http, ...nodes.map((/** @type {string} */ address) => `http://${address}`)]) {
                const response = await fetch(`${url}/ct-health/`, { signal: AbortSignal.timeout(10_000) });
                assert.equal(response.status, 200, url);
            }
        });
        await t.test('each log is there', async () => {
            const folder = path.join(edge.data, 'logs');
            for (const name of ['server.log', 'sessions.log', 'usage.log', 'access.log', 'error.log']) {
                await eventually(name, () => existsSync(path.join(folder, name)));
            }
            assert.ok(readdirSync(folder).length >= 5);
        });
        await t.test('the process list has a row a process', async () => {
            const { code, output } = await ctedge(['list', '--data', edge.data, '--admin', edge.admin.address]);
            assert.equal(code, 0, output);
            for (const [uid, command] of [['node-1', 'ctedge-node'], ['node-2', 'ctedge-node'], ['balancer', 'ctedge-balancer']]) {
                // Index, uid, command, pid, log file, and uptime as days:hours:minutes:seconds.millis.
                const row = new RegExp(`^\\[\\d+\\]\\s+${uid}\\S*\\s+${command}.*\\s+\\d+\\s+/\\S+\\s+\\d+:\\d+:\\d+:\\d+\\.\\d{3}\\s`, 'm');
                assert.match(output, row);
            }
            const columns = output.trim().split('\n').map(line => line.trim().split(/\s+/));
            for (const row of columns) assert.equal(row.length, columns[0].length, row.join(' '));
            assert.deepEqual(columns[0].slice(0, 6), ['INDEX', 'UID', 'COMMAND', 'PID', 'LOGFILE', 'UPTIME']);
        });
    });
});

test('in the container each file is where the notes have it', async () => {
    // What the container has at its root is below a folder here.
    const root = temporaryDirectory('container');
    const issuer = await Issuer.create();
    try {
        const dockerfile = readFileSync(path.join(ROOT, 'deploy/Dockerfile'), 'utf8');
        const folders = ['/opt/codetogether/runtime', '/var/log/codetogether', '/var/log/nginx'];
        for (const folder of folders) {
            assert.ok(dockerfile.includes(folder), folder);
            mkdirSync(path.join(root, folder), { recursive: true });
        }
        assert.match(dockerfile, /^ENTRYPOINT \["\/opt\/codetogether\/start-codetogether"\]$/m);
        assert.match(dockerfile, /^COPY configs\/container\.toml \/opt\/codetogether\/ctedge\.toml$/m);
        const script = readFileSync(path.join(ROOT, 'deploy/start-codetogether'), 'utf8');
        assert.match(script, /^exec ctedge up --config \/opt\/codetogether\/ctedge\.toml "\$@"$/m);

        await issuer.install(path.join(root, '/opt/codetogether'), { connections: 30 });
        const text = readFileSync(path.join(ROOT, 'configs/container.toml'), 'utf8');
        const config = text.replace(/"(\/(?:opt|var)\/)/g, `"${root}$1`);
        const data = path.join(root, '/opt/codetogether/runtime');
        await withEdge({ data, nodes: 1, config, env: issuer.env }, async edge => {
            assert.equal((await fetch(`${edge.http}/ct-health/`)).status, 200);
            const server = readFileSync(path.join(root, '/var/log/codetogether/server.log'), 'utf8');
            assert.match(server, /root INFO Valid CodeTogether license installed/);
            assert.match(server, /services now available on port/);
            for (const log of ['codetogether/sessions.log', 'codetogether/usage.log', 'nginx/access.log', 'nginx/error.log']) {
                await eventually(log, () => existsSync(path.join(root, '/var/log', log)));
            }
        });
    } finally {
        issuer.forget();
        rmSync(root, { recursive: true, force: true });
    }
});

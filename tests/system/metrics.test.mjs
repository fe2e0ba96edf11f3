//! The operators' figures in the hands of those who collect them: StatsD with Graphite behind it, and Prometheus with the
//! alerts and the dashboard that the edge comes with.

import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { eventually, within } from '../harness/deadline.mjs';
import { temporaryDirectory, withEdge } from '../harness/edge.mjs';
import { Graphite } from '../harness/graphite.mjs';
import { Issuer } from '../harness/license.mjs';
import { meeting } from '../harness/person.mjs';
import { withPostgres, withoutPostgres } from '../harness/postgres.mjs';
import { BINARY, Child, ctedge } from '../harness/process.mjs';
import { run, without } from '../harness/programs.mjs';
import { FILES, Prometheus } from '../harness/prometheus.mjs';
import { zipped } from '../harness/zip.mjs';

const ROOT = path.resolve(import.meta.dirname, '../..');
const PROMETHEUS = without({ prometheus: 'prometheus', promtool: 'prometheus' });
const GRAPHITE = without({ 'carbon-cache': 'graphite-carbon', 'whisper-fetch': 'graphite-carbon' });

/** A point a second, as no operator needs it. */
const EVERY_SECOND = '[metrics]\nstatsd_interval = "1s"\n';

/**
 * Two sessions: one of Ada with Grace in it, and one of Ada alone.
 *
 * @param {string} url
 * @param {() => Promise<void>} use
 */
async function twoSessions(url, use) {
    await meeting(async meet => {
        const ada = await meet('ada', url).host();
        await meet('grace', url).join(ada.roomId);
        await meet('ada', url).host();
        await use();
    });
}

/**
 * Offers an extension of VS Code and downloads it once.
 *
 * @param {import('../harness/edge.mjs').Edge} edge
 */
async function download(edge) {
    const about = { name: 'together', publisher: 'example', version: '1.2.3', engines: { vscode: '^1.73.0' } };
    const files = { 'extension.vsixmanifest': '<PackageManifest/>', 'extension/package.json': JSON.stringify(about) };
    const vsix = path.join(edge.data, 'together.vsix');
    writeFileSync(vsix, zipped(files));
    const { code, output } = await ctedge(['clients', 'add', vsix, '--data', edge.data]);
    assert.equal(code, 0, output);
    assert.equal((await read(`${edge.http}/clients/vscode/codetogether-onpremises-1.2.3.vsix`)).status, 200);
}

/** @param {string} url */
async function read(url) {
    const response = await fetch(url, { signal: AbortSignal.timeout(10_000) });
    return { status: response.status, type: response.headers.get('content-type'), text: await response.text() };
}

/**
 * Everything that an edge shows to Prometheus: to the public, on the admin address, and on the port of each node.
 *
 * @param {import('../harness/edge.mjs').Edge} edge
 */
async function everythingShown(edge) {
    const { nodes } = await edge.admin.status();
    const urls = [edge.http, edge.admin.url, ...nodes.map((/** @type {any} */ node) => `http://${node.address}`)];
    return Promise.all(urls.map(async url => (await read(`${url}/metrics`)).text));
}

test('CT_PROMETHEUS_ENABLED shows the sums and the figures of each node to the public, on any node', async () => {
    await withEdge({ nodes: 2, env: { CT_PROMETHEUS_ENABLED: 'true' } }, async edge => {
        await download(edge);
        await twoSessions(edge.http, async () => {
            const sums = [
                'codetogether_unique_users_online 2',
                'codetogether_active_sessions 2',
                'codetogether_active_session_connections 3',
                'codetogether_sessions_hosted_total 2',
                'codetogether_downloads_total{ide="eclipse"} 0',
                'codetogether_downloads_total{ide="vscode"} 1',
            ];
            for (let request = 0; request < 6; request += 1) {
                await eventually('sums', async () => {
                    const lines = new Set((await read(`${edge.http}/metrics`)).text.split('\n'));
                    return sums.every(line => lines.has(line));
                });
            }
        });
        const { status, type, text } = await read(`${edge.http}/metrics`);
        assert.equal(status, 200);
        assert.equal(type, 'text/plain; version=0.0.4; charset=utf-8');
        for (const node of ['node-1', 'node-2']) {
            assert.match(text, new RegExp(`^codetogether_node_server_lag_seconds\\{node="${node}"\\} [0-9.e-]+$`, 'm'));
        }
        assert.doesNotMatch(text, /ctedge_/, 'what the parts count for themselves is not public');
    });
});

test('without CT_PROMETHEUS_ENABLED there is no public /metrics', async () => {
    await withEdge({ nodes: 1 }, async edge => {
        assert.equal((await read(`${edge.http}/metrics`)).status, 404);
        assert.match((await read(`${edge.admin.url}/metrics`)).text, /^ctedge_balancer_nodes_up 1$/m);
    });
});

test('while the store is away each node goes on showing its own figures, and the sums pause', { skip: withoutPostgres() }, async () => {
    await withPostgres(async postgres => {
        const options = { nodes: 2, config: postgres.settings(), env: { CT_PROMETHEUS_ENABLED: 'true' } };
        await withEdge(options, async edge => {
            const shows = (/** @type {RegExp} */ line, wanted = true) => eventually(`${wanted} for ${line}`, async () => {
                return line.test((await read(`${edge.http}/metrics`)).text) === wanted;
            }, 30_000);
            await twoSessions(edge.http, async () => {
                await shows(/^codetogether_sessions_hosted_total 2$/m);
                postgres.freeze();
                await shows(/^codetogether_(?!node_)/m, false);
                assert.match((await read(`${edge.http}/metrics`)).text, /^codetogether_node_active_sessions\{/m);
                postgres.thaw();
                await shows(/^codetogether_sessions_hosted_total 2$/m);
                await shows(/^codetogether_active_sessions 2$/m);
            });
        });
    });
});

test('Prometheus reads the edge with the configuration, the alerts and the dashboard it comes with', { skip: PROMETHEUS }, async () => {
    // Without a license there is no end of it to show.
    const issuer = await Issuer.create();
    const data = temporaryDirectory('prometheus-edge');
    await issuer.install(data, { connections: 30 });
    const env = { ...issuer.env, CT_PROMETHEUS_ENABLED: 'true' };
    await withEdge({ data, nodes: 2, env }, async edge => {
        const prometheus = await Prometheus.start(edge);
        try {
            await twoSessions(edge.http, async () => {
                await eventually('sums in Prometheus', async () => {
                    const value = async (/** @type {string} */ query) => (await prometheus.query(query)).get('{}');
                    assert.equal(await value('codetogether_active_sessions'), 2);
                    assert.equal(await value('sum(codetogether_node_active_sessions)'), 2);
                    assert.equal(await value('codetogether_unique_users_online'), 2);
                    assert.equal(await value('sum(ctedge_node_peers)'), 3);
                    assert.equal(await value('count(up == 1)'), 4, 'the public name, the balancer and both nodes');
                    return true;
                }, 30_000);
                await drawsEverything(prometheus);
            });
            await judgesEverything(prometheus);
            const texts = await everythingShown(edge);
            for (const text of texts) assert.equal(run('promtool', ['check', 'metrics'], text).said, '', text);
            namesOnlyWhatIsShown(texts);
        } finally {
            await prometheus.destroy();
        }
    }).finally(() => {
        issuer.forget();
        rmSync(data, { recursive: true, force: true });
    });
});

/** @returns {{ title: string, targets: { expr: string }[] }[]} */
function panels() {
    const { panels } = JSON.parse(readFileSync(FILES.dashboard, 'utf8'));
    return panels.filter((/** @type {any} */ panel) => panel.type !== 'row');
}

/**
 * Each query of the dashboard has something to draw.
 *
 * @param {Prometheus} prometheus
 */
async function drawsEverything(prometheus) {
    for (const { title, targets } of panels()) {
        for (const { expr } of targets) {
            // Grafana puts in four times the time between two points.
            const query = expr.replaceAll('$__rate_interval', '4s');
            await eventually(`value of ${query} (${title})`, async () => (await prometheus.query(query)).size > 0);
        }
    }
}

/**
 * Prometheus can judge every rule, and finds nothing wrong with an edge that is well.
 *
 * @param {Prometheus} prometheus
 */
async function judgesEverything(prometheus) {
    const rules = await eventually('judgement of all rules', async () => {
        const { groups } = await prometheus.ask('rules');
        const rules = groups.flatMap((/** @type {any} */ group) => group.rules);
        return rules.every((/** @type {any} */ rule) => rule.health !== 'unknown') && rules;
    });
    assert.ok(rules.length >= 8, `${rules.length} rules`);
    for (const { name, health, lastError, state } of rules) {
        assert.deepEqual({ name, health, lastError, state }, { name, health: 'ok', lastError: undefined, state: 'inactive' });
    }
}

/**
 * Neither the dashboard nor the alerts name a metric that the edge does not have.
 *
 * @param {string[]} texts what the edge shows
 */
function namesOnlyWhatIsShown(texts) {
    const shown = new Set(['ctedge_node_store_seconds_bucket', 'ctedge_balancer_request_seconds_bucket']);
    for (const name of shown) assert.ok(texts.some(text => text.includes(`\n${name}{`)), `${name} is not shown`);
    for (const text of texts) for (const [, name] of text.matchAll(/^# TYPE (\S+)/gm)) shown.add(name);
    const queries = panels().flatMap(panel => panel.targets.map(target => target.expr));
    queries.push(...readFileSync(FILES.alerts, 'utf8').split('\n').filter(line => !line.trim().startsWith('#')));
    const named = new Set(queries.flatMap(query => query.match(/\b(codetogether|ctedge)(_[a-z]+)+\b/g) ?? []));
    assert.ok(named.size > 20, `${named.size} names`);
    assert.deepEqual([...named].filter(name => !shown.has(name)), []);
}

test('the alerts say what they are to say and nothing else', { skip: PROMETHEUS }, () => {
    for (const args of [['check', 'rules', FILES.alerts], ['test', 'rules', path.join(ROOT, 'tests/prometheus/alerts.yml')]]) {
        const { code, said } = run('promtool', args);
        assert.equal(code, 0, said);
    }
});

test('figures go to Graphite over StatsD in datagrams, each of a node and one sum', { skip: GRAPHITE }, async () => {
    const graphite = await Graphite.start();
    try {
        const env = {
            CT_METRICS_STATSD_HOST: 'http://localhost',
            CT_METRICS_STATSD_PORT: String(graphite.port),
            CT_METRICS_STATSD_PROTOCOL: 'UDP',
        };
        await withEdge({ nodes: 2, config: EVERY_SECOND, env }, async edge => {
            await twoSessions(edge.http, async () => {
                await graphite.has('codetogether.active_sessions', 2);
                await graphite.has('codetogether.active_session_connections', 3);
                await graphite.has('codetogether.unique_users_online', 2);
                await graphite.has('codetogether.total_sessions_hosted', 2);
                await eventually('the same of both nodes together', () => {
                    const own = ['node-1', 'node-2'].map(node => graphite.last(`codetogether.nodes.${node}.active_sessions`) ?? 0);
                    return own[0] + own[1] === 2;
                });
            });
            for (const ide of ['eclipse', 'intellij', 'vscode']) await graphite.has(`codetogether.total_downloads.${ide}`, 0);
            const lag = graphite.last('codetogether.average_server_lag_ms');
            assert.ok(lag !== undefined && lag >= 0 && lag < 10_000, `a lag of ${lag} ms`);
        });
    } finally {
        await graphite.destroy();
    }
});

test('figures go over a connection with prefix and tags, and a receiver that dies costs nothing but the points', { skip: GRAPHITE }, async () => {
    const graphite = await Graphite.start();
    try {
        const config = `${EVERY_SECOND}statsd_prefix = "company.edge"\nstatsd_tags = true\n`;
        const env = { CT_METRICS_STATSD_HOST: `tcp://localhost:${graphite.port}/` };
        await withEdge({ nodes: 2, config, env }, async edge => {
            await graphite.has('company.edge.active_sessions', 0);
            await graphite.has('company.edge.nodes.active_sessions;node=node-2', 0);
            await graphite.has('company.edge.total_downloads;ide=vscode', 0);

            await graphite.killStatsd();
            const away = () => {
                const log = readFileSync(path.join(edge.data, 'logs/server.log'), 'utf8');
                return log.match(/the StatsD receiver does not answer/g)?.length ?? 0;
            };
            await eventually('word of the outage from both nodes', () => away() >= 2);
            await twoSessions(edge.http, async () => {
                const said = away();
                await graphite.beginStatsd();
                await graphite.has('company.edge.active_sessions', 2);
                await graphite.has('company.edge.total_sessions_hosted', 2);
                assert.equal(away(), said, 'an outage is told of once');
            });
            const { nodes } = await edge.admin.status();
            const { text } = await read(`http://${nodes[0].address}/metrics`);
            assert.match(text, /^ctedge_node_statsd_lines_dropped_total [1-9]/m, 'what was dropped is counted');
        });
    } finally {
        await graphite.destroy();
    }
});

test('a wrong value of a variable of the metrics is named in one line', async () => {
    for (const [name, value] of [
        ['CT_METRICS_STATSD_HOST', 'http://'],
        ['CT_METRICS_STATSD_PORT', 'eighty'],
        ['CT_METRICS_STATSD_PROTOCOL', 'pigeon'],
        ['CT_PROMETHEUS_ENABLED', 'perhaps'],
    ]) {
        const child = new Child('ctedge up', BINARY, ['up'], { env: { [name]: value }, cwd: ROOT });
        const { code } = await within('end of ctedge up', child.exit);
        assert.equal(code, 1, child.output);
        const lines = child.lines.all.filter(line => line.includes(name));
        assert.equal(lines.length, 1, child.output);
        assert.ok(lines[0].includes(`"${value}"`), lines[0]);
    }
});

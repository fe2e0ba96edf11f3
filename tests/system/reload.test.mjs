//! Other settings while the edge runs: what is in force after `ctedge reload`, and what is said of the rest.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { eventually } from '../harness/deadline.mjs';
import { ctedge, freePort, temporaryDirectory, withEdge } from '../harness/edge.mjs';
import { BINARY, Child } from '../harness/process.mjs';

/** @typedef {import('../harness/edge.mjs').Edge} Edge */

/**
 * @param {string} url
 * @param {string} [login]
 */
async function status(url, login) {
    /** @type {Record<string, string>} */
    const headers = login === undefined ? {} : { authorization: `Basic ${Buffer.from(login).toString('base64')}` };
    const response = await fetch(url, { headers, redirect: 'manual', signal: AbortSignal.timeout(10_000) });
    await response.arrayBuffer();
    return response.status;
}

/**
 * What every node answers.
 *
 * @param {Edge} edge
 * @param {string} route
 * @param {string} [login]
 */
async function statuses(edge, route, login) {
    const { nodes } = await edge.admin.status();
    return Promise.all(nodes.map((/** @type {any} */ node) => status(`http://${node.address}${route}`, login)));
}

/**
 * Writes another settings file and lets the edge read it.
 *
 * @param {Edge} edge
 * @param {string} text
 * @returns {Promise<any>}
 */
async function reload(edge, text) {
    writeFileSync(path.join(edge.data, 'test.toml'), text);
    return JSON.parse(await edge.operate(['reload', '--json']));
}

/** @param {Edge} edge */
function serverLog(edge) {
    return readFileSync(path.join(edge.data, 'logs/server.log'), 'utf8');
}

/** @param {string} password */
function portal(password, more = '') {
    return `[portal]\ndashboard_user = "ada"\ndashboard_password = "${password}"\n${more}`;
}

test('a password, the downloads, the public figures and the license are what the file says as soon as `ctedge reload` is done', async () => {
    await withEdge({ nodes: 2, config: portal('first') }, async edge => {
        assert.deepEqual(await statuses(edge, '/dashboard', 'ada:first'), [200, 200]);
        assert.deepEqual(await statuses(edge, '/clients/'), [200, 200]);
        assert.equal(await status(`${edge.http}/metrics`), 404);

        const file = path.join(edge.data, 'elsewhere.properties');
        writeFileSync(file, 'licensee=nobody\n');
        const settings = portal('second', 'clients = false\n[metrics]\nprometheus = true\n[license]\nfile = "elsewhere.properties"\n');
        await reload(edge, settings);
        assert.deepEqual(await statuses(edge, '/dashboard', 'ada:first'), [401, 401], 'the old password opens the dashboard');
        assert.deepEqual(await statuses(edge, '/dashboard', 'ada:second'), [200, 200]);
        assert.deepEqual(await statuses(edge, '/logs/', 'ada:second'), [200, 200]);
        assert.deepEqual(await statuses(edge, '/clients/'), [404, 404]);
        assert.equal(await status(`${edge.http}/metrics`), 200);
        const { nodes } = await edge.admin.status();
        for (const { address } of nodes) {
            const { license } = JSON.parse(await (await fetch(`http://${address}/ct-health/`)).text());
            assert.equal(license.verdict, 'malformed');
        }

        // Nothing waits for a restart, and nothing is said twice.
        assert.match(await edge.operate(['reload']), /^the settings were read again; nothing has changed$/m);
        assert.match(serverLog(edge), /in_force=\["license\.file", "metrics\.prometheus", "portal\.clients", "portal\.dashboard_password"\] needs_restart=\[\] needs_start=\[\]/);
        for (const [name, text] of edge.logs()) assert.ok(!/second/.test(text), `${name} has the password`);
    });
});

/** A change of each kind of setting that is read once, by its name. */
const ONCE = {
    'node.owner': '[node]\nowner = "Somebody else"\n',
    'metrics.statsd_host': '[metrics]\nstatsd_host = "127.0.0.1:9"\n',
    'store.audit_days': '[store]\naudit_days = 7\nurl = "sqlite:other.db"\n',
    'log.level': '[log]\nlevel = "debug"\n',
    'balancer.threads': '[balancer]\nthreads = 2\n',
    region: 'region = "eu"\n',
    server_url: 'server_url = "https://edge.example.com/ct"\n',
};

test('what a restart brings into force is named until it is restarted, and what it does not is named for as long as it differs', async () => {
    const first = '[up]\nnodes = 2\n';
    await withEdge({ config: first }, async edge => {
        const texts = Object.values(ONCE).reverse();
        const changed = `secret_file = "other.secret"\n${texts.join('')}[up]\nnodes = 2\nnode_base_port = 3001\n`;
        writeFileSync(path.join(edge.data, 'other.secret'), randomBytes(32).toString('hex'), { mode: 0o600 });
        const all = Object.keys(ONCE).sort();
        const told = await reload(edge, changed);
        assert.deepEqual(told.needs_restart, all);
        assert.deepEqual(told.needs_start, ['secret_file', 'store.url']);
        assert.match(serverLog(edge), new RegExp(`not in force before a restart: ${all.join(', ').replaceAll('.', '\\.')};`));
        assert.match(serverLog(edge), /not in force before everything is stopped and started again: secret_file, store\.url/);
        assert.equal(await status(`${edge.http}/api/meta`), 200, 'the balancer serves under another path than it says');

        // A node that is started again has what a restart brings, and still understands the others.
        await edge.operate(['restart', 'node-1']);
        assert.deepEqual(JSON.parse(await edge.operate(['reload', '--json'])).needs_restart, all);
        await edge.operate(['restart', 'node-2']);
        assert.deepEqual(JSON.parse(await edge.operate(['reload', '--json'])).needs_restart, ['balancer.threads', 'log.level', 'region', 'server_url']);
        await edge.operate(['restart', 'balancer']);
        const last = JSON.parse(await edge.operate(['reload', '--json']));
        assert.deepEqual([last.needs_restart, last.needs_start], [[], ['secret_file', 'store.url']]);
        assert.match(await edge.operate(['reload']), /^needs `ctedge stop` and another start: secret_file, store\.url$/m);
        await edge.admin.nodesReady(2);
        // A connection that is kept leads to the balancer before, once more.
        const meta = await eventually('path of server_url', async () => {
            const answer = await fetch(`${edge.http}/ct/api/meta`);
            const body = await answer.json();
            return answer.ok && body;
        });
        assert.equal(meta.owner, 'Somebody else');
        assert.ok(!existsSync(path.join(edge.data, 'other.db')), 'some nodes share another store');

        // The way back needs nothing of the kind.
        const back = await reload(edge, first);
        assert.deepEqual([back.needs_restart, back.needs_start], [all, []]);
    });
});

test('a file that changes is taken over without a command, and a wrong one fails `ctedge reload` and changes nothing', async () => {
    await withEdge({ nodes: 1, config: portal('first') }, async edge => {
        const file = path.join(edge.data, 'test.toml');
        writeFileSync(file, portal('second', '[node]\nowner = "x"\n'));
        await eventually('the new password', async () => (await status(`${edge.http}/dashboard`, 'ada:second')) === 200, 20_000);
        await eventually('the warning', () => serverLog(edge).includes('not in force before a restart: node.owner;'), 20_000);

        writeFileSync(file, portal('third').replace('dashboard_user', 'dashboard_usr'));
        const { code, output } = await ctedge(['reload', '--admin', edge.admin.address]);
        assert.equal(code, 1, output);
        assert.match(output, /line 2: portal\.dashboard_usr: there is no such setting; is portal\.dashboard_user meant\?/);
        assert.equal(await status(`${edge.http}/dashboard`, 'ada:second'), 200);
    });
});

test('a certificate that cannot be read is the reason that `ctedge reload` gives', async () => {
    await withEdge({ nodes: 1, config: '' }, async edge => {
        writeFileSync(path.join(edge.data, 'test.toml'), '[[certificates]]\nchain = "/nowhere.crt"\nkey = "/nowhere.key"\n');
        const { code, output } = await ctedge(['reload', '--admin', edge.admin.address]);
        assert.equal(code, 1, output);
        assert.match(output, /^NOT TAKEN OVER: balancer: .*\/nowhere\.crt/m);
        assert.doesNotMatch(output, /in force/);
        assert.equal(await status(`${edge.http}/api/meta`), 200);
    });
});

test('a node that nobody supervises takes its file over by itself, at once at SIGHUP, and its log names the rest', async () => {
    const data = temporaryDirectory('reload');
    const address = `127.0.0.1:${await freePort()}`;
    const file = path.join(data, 'node.toml');
    const text = (/** @type {string} */ password, more = '') => `data = "${data}"\n${portal(password, more)}[[nodes]]\nid = "a"\naddress = "${address}"\n`;
    writeFileSync(path.join(data, 'cluster.secret'), randomBytes(32).toString('hex'), { mode: 0o600 });
    writeFileSync(file, text('first'));
    const node = new Child('ctedge node', BINARY, ['node', '--config', file, '--id', 'a']);
    try {
        await node.line(/the node serves/, 60_000);
        writeFileSync(file, text('second', '[node]\nowner = "x"\n'));
        node.kill('SIGHUP');
        const line = await node.line(/the node read its settings again/, 10_000);
        assert.match(line, /in_force=\["portal\.dashboard_password"\] needs_restart=\["node\.owner"\]/);
        assert.equal(await status(`http://${address}/dashboard`, 'ada:first'), 401);
        assert.equal(await status(`http://${address}/dashboard`, 'ada:second'), 200);
        writeFileSync(file, text('third'));
        await eventually('the third password', async () => (await status(`http://${address}/dashboard`, 'ada:third')) === 200, 20_000);
        assert.equal(await node.stop(), 0);
    } finally {
        node.killGroup('SIGKILL');
        rmSync(data, { recursive: true, force: true });
    }
});

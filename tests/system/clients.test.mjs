//! Client downloads through the balancer: what the operator adds, how it is served, and what is counted of it.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import path from 'node:path';
import { after, test } from 'node:test';
import { eventually, within } from '../harness/deadline.mjs';
import { temporaryDirectory, withEdge } from '../harness/edge.mjs';
import { Metrics } from '../harness/metrics.mjs';
import { withPostgres, withoutPostgres } from '../harness/postgres.mjs';
import { BINARY, Child } from '../harness/process.mjs';
import { byNodeHttp } from '../harness/raw.mjs';
import { entryOf, zipped } from '../harness/zip.mjs';

/** @typedef {import('../harness/edge.mjs').Edge} Edge */

const SERVER = 'https://edge.example.com';
const ENV = { CT_SERVER_URL: SERVER };
const CORE = 'com.genuitec.eclipse.codetogether.core_';

/** What the extension of the Open Collaboration Tools says of itself, as far as it matters here. */
const PACKAGE = `{
  "name": "open-collaboration-tools", "publisher": "typefox", "version": "0.3.8",
  "displayName": "Open Collaboration Tools", "engines": { "vscode": "^1.73.0" },
  "contributes": { "configuration": { "properties": {
    "oct.serverUrl": { "type": "string", "default": "https://elsewhere.example/" } } } }
}`;

const DESCRIPTOR = `<idea-plugin><id>com.example.together</id><name>Together &amp; more</name><vendor>Example</vendor>
    <version>2026.1</version><idea-version since-build="231" until-build="253.*"/></idea-plugin>`;

/** A client for each editor, as its makers pack it. */
const CLIENTS = {
    'oct.vsix': zipped({ 'extension.vsixmanifest': '<PackageManifest/>', 'extension/package.json': PACKAGE, 'extension/main.js': '//' }),
    'together.zip': zipped({
        'together/lib/together-2026.1.jar': zipped({ 'META-INF/plugin.xml': DESCRIPTOR }),
        'together/lib/other.jar': zipped({}),
    }),
    'site.zip': zipped({
        'p2.index': 'version=1\n',
        'content.jar': zipped({ 'content.xml': '<repository/>' }),
        'artifacts.xml.xz': Buffer.alloc(3_000, 7),
        [`plugins/${CORE}2026.1.0.v1.jar`]: zipped({ data: Buffer.alloc(100_000, 1) }),
        'plugins/com.genuitec.eclipse.codetogether.ui_2026.1.0.v1.jar': zipped({}),
        'features/com.genuitec.eclipse.codetogether_2026.1.0.v1.jar': zipped({}),
    }),
};

/** @type {string[]} */
const scratches = [];

after(() => {
    for (const folder of scratches) rmSync(folder, { recursive: true, force: true });
});

/** A folder that is gone after the tests. */
function scratch() {
    const folder = temporaryDirectory('clients');
    scratches.push(folder);
    return folder;
}

/**
 * `ctedge clients …`
 *
 * @param {string} data
 * @param {string[]} args
 * @param {Record<string, string>} [env]
 */
async function clients(data, args, env = ENV) {
    const child = new Child('ctedge clients', BINARY, ['clients', ...args, '--data', data], { env });
    const { code } = await within('end of ctedge clients', child.exit);
    return { code, output: child.output };
}

/** @param {string} data */
async function addAll(data) {
    const folder = scratch();
    for (const [name, bytes] of Object.entries(CLIENTS)) {
        writeFileSync(path.join(folder, name), bytes);
        const { code, output } = await clients(data, ['add', path.join(folder, name)]);
        assert.equal(code, 0, output);
    }
}

/**
 * @param {string} url
 * @param {Record<string, string>} [headers]
 * @param {string} [method]
 */
async function ask(url, headers = {}, method = 'GET') {
    const options = { method, headers: { 'accept-encoding': 'identity', ...headers }, signal: AbortSignal.timeout(20_000) };
    const response = await fetch(url, { ...options, redirect: 'manual' });
    const bytes = Buffer.from(await response.arrayBuffer());
    const header = (/** @type {string} */ name) => response.headers.get(name) ?? '';
    return { status: response.status, header, bytes, text: bytes.toString('utf8') };
}

/**
 * What all nodes have counted.
 *
 * @param {Edge} edge
 */
async function counted(edge) {
    const { nodes } = await edge.admin.status();
    const all = await Promise.all(nodes.map((/** @type {any} */ node) => Metrics.of(`http://${node.address}/metrics`)));
    const samples = all.flatMap(metrics => metrics.samples).filter(sample => sample.name === 'ctedge_node_downloads_total');
    /** @type {Record<string, number>} */
    const counts = {};
    for (const { labels: { ide, version }, value } of samples) {
        const name = `${ide} ${version}`;
        counts[name] = (counts[name] ?? 0) + value;
    }
    return counts;
}

test('what is added can be read by another user who runs the edge, whatever the umask of whoever adds it', async () => {
    const [data, folder] = [scratch(), scratch()];
    for (const [name, bytes] of Object.entries(CLIENTS)) {
        const file = path.join(folder, name);
        writeFileSync(file, bytes);
        const args = ['-c', 'umask 077; exec "$0" "$@"', BINARY, 'clients', 'add', file, '--data', data];
        const child = new Child('ctedge clients add', '/bin/sh', args, { env: ENV });
        assert.equal((await within('end of ctedge clients', child.exit)).code, 0, child.output);
    }
    const modes = (/** @type {'d' | 'f'} */ type) => {
        const found = execFileSync('find', [path.join(data, 'clients'), '-type', type, '-printf', '%m\n'], { encoding: 'utf8' });
        return [...new Set(found.trim().split('\n'))];
    };
    assert.deepEqual([modes('d'), modes('f')], [['755'], ['644']]);
});

test('what the operator adds is offered to each editor, with this server in it', async () => {
    await withEdge({ env: ENV }, async edge => {
        await addAll(edge.data);
        const { output } = await clients(edge.data, ['list', '--json']);
        assert.deepEqual(JSON.parse(output).map((/** @type {any} */ client) => client.path), [
            `eclipse/plugins/${CORE}2026.1.0.v1.jar`,
            'intellij/codetogether-onpremises-2026.1.zip',
            'vscode/codetogether-onpremises-0.3.8.vsix',
        ]);

        const page = await eventually('page with all clients', async () => {
            const page = await ask(`${edge.http}/clients/`);
            return page.text.includes('0.3.8') && page;
        });
        assert.match(page.header('content-type'), /^text\/html/);
        for (const part of ['2026.1.0.v1', 'Together &amp; more', 'Open Collaboration Tools', 'VS Code ^1.73.0', 'builds 231 to 253.*',
            `${SERVER}/clients/eclipse/`, `${SERVER}/clients/intellij/updatePlugins.xml`]) {
            assert.ok(page.text.includes(part), `${part} is missing in\n${page.text}`);
        }
        assert.doesNotMatch(page.text, /<script/i);
        // Nobody installs a bundle by itself: the site is what is offered.
        assert.ok(!page.text.includes('href="eclipse') && !page.text.includes(CORE), page.text);
        assert.match(page.text, /<tr><td>com\.genuitec\.eclipse\.codetogether<\/td><td>2026\.1\.0\.v1<\/td>/);
        assert.equal((await ask(`${edge.http}/clients`)).header('location'), 'clients/');
        for (const [, link] of page.text.matchAll(/<a href="([^"]+)" download>/g)) {
            assert.equal((await ask(new URL(link, `${edge.http}/clients/`).href)).status, 200, link);
        }

        const vsix = await ask(`${edge.http}/clients/vscode/codetogether-onpremises-0.3.8.vsix`);
        assert.equal(entryOf(vsix.bytes, 'extension/package.json'), PACKAGE.replace('https://elsewhere.example/', SERVER));
        assert.equal(entryOf(vsix.bytes, 'extension/main.js'), '//');

        const list = await ask(`${edge.http}/clients/intellij/updatePlugins.xml`);
        assert.equal(list.header('content-type'), 'application/xml');
        const plugin = `<plugin id="com.example.together" url="${SERVER}/clients/intellij/codetogether-onpremises-2026.1.zip" version="2026.1">`;
        assert.ok(list.text.includes(plugin) && list.text.includes('<idea-version since-build="231" until-build="253.*"/>'), list.text);

        // A later version for later builds beside it: each IDE takes the newest that its build allows.
        const later = path.join(scratch(), 'later.jar');
        const descriptor = DESCRIPTOR.replace('2026.1', '2026.10').replace('231', '261').replace(' until-build="253.*"', '');
        writeFileSync(later, zipped({ 'META-INF/plugin.xml': descriptor }));
        assert.equal((await clients(edge.data, ['add', later])).code, 0);
        const both = await eventually('both versions', async () => {
            const { text } = await ask(`${edge.http}/clients/intellij/updatePlugins.xml`);
            return text.includes('2026.10') && text;
        });
        const listed = [...both.matchAll(/<plugin id="([^"]+)" url="([^"]+)" version="([^"]+)">\s*<idea-version([^/]*)\/>/g)];
        assert.deepEqual(listed.map(match => match.slice(1)), [
            ['com.example.together', `${SERVER}/clients/intellij/codetogether-onpremises-2026.10.jar`, '2026.10', ' since-build="261"'],
            ['com.example.together', `${SERVER}/clients/intellij/codetogether-onpremises-2026.1.zip`, '2026.1', ' since-build="231" until-build="253.*"'],
        ]);
        for (const [, , url] of listed) assert.equal((await ask(url.replace(SERVER, edge.http))).status, 200, url);
    });
});

test('the files of an update site are served as they are, in parts and only when they have changed', async () => {
    await withEdge({ nodes: 2 }, async edge => {
        await addAll(edge.data);
        const jar = `plugins/${CORE}2026.1.0.v1.jar`;
        const file = readFileSync(path.join(edge.data, 'clients/eclipse', jar));
        const url = `${edge.http}/clients/eclipse/${jar}`;
        const whole = await ask(url);
        assert.equal(whole.status, 200);
        assert.ok(whole.bytes.equals(file));
        assert.equal(whole.header('content-type'), 'application/java-archive');
        assert.equal(whole.header('accept-ranges'), 'bytes');
        assert.match(whole.header('cache-control'), /no-cache/);
        assert.match(whole.header('etag'), /^"[^"]+"$/);
        assert.match(whole.header('last-modified'), / GMT$/);
        for (const name of ['p2.index', 'content.jar', 'artifacts.xml.xz']) {
            const answer = await ask(`${edge.http}/clients/eclipse/${name}`);
            assert.ok(answer.bytes.equals(readFileSync(path.join(edge.data, 'clients/eclipse', name))), name);
        }
        // Eclipse probes for files that a site may or may not have.
        for (const name of ['compositeContent.jar', 'content.xml.xz', 'site.xml']) {
            assert.equal((await ask(`${edge.http}/clients/eclipse/${name}`)).status, 404, name);
        }

        const head = await ask(url, {}, 'HEAD');
        assert.deepEqual([head.status, head.header('content-length'), head.bytes.length], [200, String(file.length), 0]);
        const same = await ask(url, { 'if-none-match': whole.header('etag') });
        assert.deepEqual([same.status, same.bytes.length], [304, 0]);
        const unchanged = await ask(url, { 'if-modified-since': whole.header('last-modified') });
        assert.equal(unchanged.status, 304);
        const part = await ask(url, { range: 'bytes=1000-1999' });
        assert.deepEqual([part.status, part.header('content-range')], [206, `bytes 1000-1999/${file.length}`]);
        assert.ok(part.bytes.equals(file.subarray(1000, 2000)));
        const rest = await ask(url, { range: 'bytes=100000-', 'if-range': whole.header('etag') });
        assert.ok(rest.status === 206 && rest.bytes.equals(file.subarray(100_000)));
        assert.equal((await ask(url, { range: 'bytes=100000-', 'if-range': '"another"' })).status, 200);
        assert.equal((await ask(url, { range: `bytes=${file.length}-` })).status, 416);
        assert.equal((await ask(url, {}, 'POST')).status, 405);
        // A cache may keep these for everybody; a cookie in them would bring all its users to one key.
        for (const shared of ['', 'intellij/updatePlugins.xml', `eclipse/${jar}`, 'eclipse/p2.index']) {
            const answer = await ask(`${edge.http}/clients/${shared}`);
            assert.equal(answer.status, 200, shared);
            assert.deepEqual([answer.header('cache-control'), answer.header('set-cookie')], ['public, no-cache', ''], shared);
        }
    });
});

test('whole downloads of clients are counted by editor and version, and nothing else is', async () => {
    await withEdge({ nodes: 2, env: ENV }, async edge => {
        await addAll(edge.data);
        const [vsix, plugin] = ['vscode/codetogether-onpremises-0.3.8.vsix', 'intellij/codetogether-onpremises-2026.1.zip'];
        const [core, ui] = [`eclipse/plugins/${CORE}2026.1.0.v1.jar`, `eclipse/plugins/${CORE.replace('core', 'ui')}2026.1.0.v1.jar`];
        const get = (/** @type {string} */ file, headers = {}, method = 'GET') => ask(`${edge.http}/clients/${file}`, headers, method);

        const { status, header } = await get(vsix, {}, 'HEAD');
        assert.equal(status, 200);
        assert.equal((await get(vsix, { 'if-none-match': header('etag') })).status, 304);
        assert.equal((await get(vsix, { range: 'bytes=0-9' })).status, 206);
        assert.equal((await get(vsix, { range: 'bytes=-22' })).status, 206);
        for (const file of [ui, 'eclipse/content.jar', 'intellij/updatePlugins.xml', '']) assert.equal((await get(file)).status, 200, file);
        assert.equal((await get('vscode/codetogether-onpremises-9.vsix')).status, 404);
        // Less than what lies in buffers between a node and a client, and much more.
        const named = PACKAGE.replace('0.3.8', '9.9');
        for (const [name, bytes] of /** @type {[string, number][]} */ ([['small', 200 << 10], ['medium', 300 << 10], ['large', 8 << 20]])) {
            const file = zipped({ 'extension/package.json': named, noise: Buffer.alloc(bytes) });
            writeFileSync(path.join(edge.data, `clients/vscode/${name}.vsix`), file);
        }
        const stalled = await Promise.all(['small', 'small', 'medium', 'medium', 'large'].map(name => begun(`${edge.http}/clients/vscode/${name}.vsix`)));

        for (let round = 0; round < 3; round += 1) await get(vsix);
        // What was broken off and is resumed is one download.
        assert.equal((await get(plugin, { range: 'bytes=0-99' })).status, 206);
        assert.equal((await get(plugin, { range: 'bytes=100-' })).status, 206);
        await get(core);
        const expected = { 'vscode 0.3.8': 3, 'intellij 2026.1': 1, 'eclipse 2026.1.0.v1': 1 };
        await eventually('all counts', async () => {
            const counts = await counted(edge);
            return Object.values(counts).reduce((sum, count) => sum + count, 0) >= 5;
        });
        // By then all that fits into buffers had long been sent.
        for (const socket of stalled) {
            const closed = new Promise(resolve => socket.once('close', resolve));
            socket.resetAndDestroy();
            await within('end of the connection', closed);
        }
        await eventually('the balancer without requests', async () => (await edge.admin.status()).balancer.requests_in_flight === 0);
        assert.deepEqual(await counted(edge), expected);
        // Who takes long has downloaded it all the same.
        await begun(`${edge.http}/clients/vscode/small.vsix`).then(socket => socket.resume());
        await eventually('the slow one', async () => (await counted(edge))['vscode 9.9'] === 1);
        const session = connectHttp2(edge.https, { rejectUnauthorized: false });
        for await (const _ of session.request({ ':path': '/clients/vscode/small.vsix' }));
        await eventually('one over HTTP/2', async () => (await counted(edge))['vscode 9.9'] === 2);
        session.close();
    });
});

/**
 * The connection of a client that asks for a file, reads a little of it, and then no more.
 *
 * @param {string} url
 */
async function begun(url) {
    const { hostname, port, host, pathname } = new URL(url);
    const socket = connect(Number(port), hostname);
    socket.write(`GET ${pathname} HTTP/1.1\r\nhost: ${host}\r\n\r\n`);
    await within('first part', new Promise(resolve => socket.once('readable', resolve)));
    assert.match(String(socket.read(12)), /^HTTP\/1\.1 200/);
    return socket;
}

test('the store keeps the downloads of each day', { skip: withoutPostgres() }, async () => {
    await withPostgres(async postgres => {
        await withEdge({ nodes: 2, env: ENV, config: postgres.settings() }, async edge => {
            await addAll(edge.data);
            for (let round = 0; round < 4; round += 1) await ask(`${edge.http}/clients/vscode/codetogether-onpremises-0.3.8.vsix`);
            const query = 'SELECT ide, version, artifact, SUM(downloads) FROM downloads GROUP BY ide, version, artifact';
            const expected = 'vscode|0.3.8|codetogether-onpremises-0.3.8.vsix|4';
            await eventually('four downloads in the store', async () => (await postgres.sql(query)).trim() === expected);
        });
    });
});

test('the documented counts of the access log count what was added, as they are', async () => {
    await withEdge({ nodes: 2, env: ENV }, async edge => {
        await addAll(edge.data);
        const { output } = await clients(edge.data, ['list', '--json']);
        for (const { path: file } of JSON.parse(output)) await byNodeHttp(`${edge.http}/clients/${file}`);
        await byNodeHttp(`${edge.http}/clients/`);
        const logs = path.join(edge.data, 'logs');
        const count = (/** @type {string} */ command) => Number(execFileSync('sh', ['-c', command], { cwd: logs, encoding: 'utf8' }));
        const lines = () => count('cat access.log | grep "GET /clients/" | wc -l');
        await eventually('access lines', () => lines() === 4);
        assert.equal(count('cat access.log | grep "GET /clients/eclipse/plugins/com.genuitec.eclipse.codetogether.core_" | wc -l'), 1);
        assert.equal(count('cat access.log | grep "GET /clients/intellij/codetogether-onpremises-" | wc -l'), 1);
        assert.equal(count('cat access.log | grep "GET /clients/vscode/codetogether-onpremises-" | wc -l'), 1);
    });
});

test('nothing outside the clients folder is served, and nothing hidden in it', async () => {
    await withEdge({ nodes: 1 }, async edge => {
        const folder = path.join(edge.data, 'clients/vscode');
        mkdirSync(folder, { recursive: true });
        writeFileSync(path.join(folder, 'plain.txt'), 'plain');
        writeFileSync(path.join(folder, '.hidden'), 'hidden words');
        const outside = scratch();
        writeFileSync(path.join(outside, 'outside.txt'), 'hidden words');
        symlinkSync(outside, path.join(edge.data, 'clients/up'));
        symlinkSync('../../cluster.secret', path.join(folder, 'link.vsix'));
        const secret = edge.secret();
        assert.equal((await rawGet(edge.http, '/clients/vscode/plain.txt')).split('\r\n\r\n')[1], 'plain');
        for (const astray of ['/clients/../cluster.secret', '/clients/%2e%2e/cluster.secret', '/clients/vscode/..%2f..%2fcluster.secret',
            '/clients/..%5ccluster.secret', '/clients//cluster.secret', '/clients/vscode/../../cluster.secret', '/clients/up/outside.txt',
            '/clients/vscode/link.vsix', '/clients/vscode/.hidden', '/clients/vscode/%2ehidden', '/clients/%00', '/clients/%252e%252e/cluster.secret']) {
            const answer = await rawGet(edge.http, astray);
            assert.match(answer, /^HTTP\/1\.1 4\d\d /, `${astray}: ${answer}`);
            assert.ok(!answer.includes(secret) && !answer.includes('hidden words'), astray);
        }
    });
});

/**
 * The answer to a path that no library would send.
 *
 * @param {string} base
 * @param {string} target
 * @returns {Promise<string>}
 */
function rawGet(base, target) {
    const { hostname, port, host } = new URL(base);
    const socket = connect(Number(port), hostname);
    socket.setEncoding('utf8');
    socket.write(`GET ${target} HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`);
    let text = '';
    socket.on('data', part => (text += part));
    return within(`answer to ${target}`, new Promise((resolve, reject) => {
        socket.once('error', reject);
        socket.once('close', () => resolve(text));
    }));
}

test('a public URL with a path has the downloads below it', async () => {
    const env = { CT_SERVER_URL: `${SERVER}/ct` };
    await withEdge({ nodes: 1, env }, async edge => {
        const file = path.join(scratch(), 'oct.vsix');
        writeFileSync(file, CLIENTS['oct.vsix']);
        const { code, output } = await clients(edge.data, ['add', file], env);
        assert.ok(code === 0 && output.includes(`it connects to ${SERVER}/ct without being told`), output);
        const moved = await ask(`${edge.http}/ct/clients`);
        const page = await ask(new URL(moved.header('location'), `${edge.http}/ct/clients`).href);
        assert.ok(page.status === 200 && page.text.includes(`connects your editor to <code>${SERVER}/ct</code>`), page.text);
        const link = /<a href="([^"]+)" download>/.exec(page.text)?.[1] ?? '';
        assert.equal((await ask(new URL(link, `${edge.http}/ct/clients/`).href)).status, 200, link);
    });
});

test('CT_NOCLIENTS switches the downloads off, and says so', async () => {
    await withEdge({ nodes: 1, env: { CT_NOCLIENTS: 'true', ...ENV } }, async edge => {
        await addAll(edge.data);
        for (const target of ['/clients', '/clients/', '/clients/vscode/codetogether-onpremises-0.3.8.vsix']) {
            const answer = await ask(edge.http + target);
            assert.equal(answer.status, 404, target);
            assert.match(answer.text, /^Client downloads are switched off on this server \(.*CT_NOCLIENTS\)/);
        }
    });
    const child = new Child('ctedge up', BINARY, ['up'], { env: { CT_NOCLIENTS: 'perhaps' } });
    assert.notEqual((await child.exit).code, 0);
    assert.match(child.output, /CT_NOCLIENTS.*perhaps/s);
});

test('CT_TRUST_ALL_CERTS tells the users of each editor how to make the certificate known', async () => {
    const words = ['http.systemCertificates', 'Server Certificates', 'keytool -importcert'];
    for (const [env, isTold] of /** @type {[Record<string, string>, boolean][]} */ ([[{ CT_TRUST_ALL_CERTS: 'true' }, true], [{}, false]])) {
        await withEdge({ nodes: 1, env: { ...env, ...ENV } }, async edge => {
            const { status, text } = await ask(`${edge.http}/clients/`);
            assert.equal(status, 200);
            for (const word of words) assert.equal(text.includes(word), isTold, word);
        });
    }
});

test('a file that is no client is refused with what clients are', async () => {
    const data = scratch();
    const file = path.join(data, 'letter.zip');
    writeFileSync(file, zipped({ 'letter.txt': 'Dear Ada' }));
    const stranger = await clients(data, ['add', file]);
    assert.equal(stranger.code, 1);
    assert.match(stranger.output, /letter\.zip is no client: .*\.vsix extensions of VS Code, plugins of IntelliJ.*update sites of Eclipse/);
    writeFileSync(file, CLIENTS['oct.vsix']);
    const homeless = await clients(data, ['add', file], {});
    assert.equal(homeless.code, 1);
    assert.match(homeless.output, /its public URL is not set: set server_url \(CT_SERVER_URL\), or .*--keep-server/);
});

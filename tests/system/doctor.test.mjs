//! `ctedge doctor` against deployments that are well, and against each of those that are not.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { Backend } from '../harness/backend.mjs';
import { withCluster } from '../harness/cluster.mjs';
import { eventually, within } from '../harness/deadline.mjs';
import { Balancer, freePort, temporaryDirectory, withBalancer, withEdge } from '../harness/edge.mjs';
import { Issuer } from '../harness/license.mjs';
import { HASHES_KEYS, PASSES_UPGRADES, withNginx } from '../harness/nginx.mjs';
import { withPostgres, withoutPostgres } from '../harness/postgres.mjs';
import { BINARY, Child } from '../harness/process.mjs';
import { run, without } from '../harness/programs.mjs';

const withoutNginx = without({ nginx: 'nginx' });
const withoutOpenssl = without({ openssl: 'openssl' });

/** @type {Issuer} */
let issuer;
before(async () => void (issuer = await Issuer.create()));
after(() => issuer.forget());

/**
 * What the doctor says.
 *
 * @param {string[]} args
 * @param {Record<string, string>} [env]
 */
async function doctor(args, env = {}) {
    const child = new Child('ctedge doctor', BINARY, ['doctor', '--json', ...args], { env: { ...issuer.env, ...env } });
    const { code } = await within('end of ctedge doctor', child.exit, 60_000);
    assert.ok(child.output.startsWith('{'), child.output);
    const diagnosis = JSON.parse(child.output);
    /** @type {any[]} */
    const findings = diagnosis.findings;
    const troubles = findings.filter(({ severity }) => severity !== 'ok').map(finding => finding.code);
    assert.equal(code, diagnosis.verdict === 'error' ? 1 : 0, child.output);
    return {
        code,
        findings,
        /** The codes of what is not well. */
        troubles,
        /** @type {string[]} */
        causes: diagnosis.causes,
        /** @param {string} code */
        finding: code => {
            const found = findings.find(finding => finding.code === code);
            assert.ok(found, `no ${code} in ${child.output}`);
            return found;
        },
    };
}

/**
 * An authority, and a certificate of it for `localhost`, as files in a folder.
 *
 * @param {string} folder
 */
function certificate(folder) {
    const file = (/** @type {string} */ name) => path.join(folder, name);
    const openssl = (/** @type {string[]} */ ...args) => {
        const { code, said } = run('openssl', args);
        assert.equal(code, 0, said);
    };
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
    openssl('req', '-x509', ...key, '-days', '90', '-subj', '/CN=Test authority', '-keyout', file('ca.key'), '-out', file('ca.pem'));
    openssl('req', ...key, '-subj', '/CN=edge', '-keyout', file('edge.key'), '-out', file('edge.csr'));
    writeFileSync(file('edge.ext'), 'subjectAltName=DNS:localhost\n');
    openssl(
        'x509', '-req', '-in', file('edge.csr'), '-CA', file('ca.pem'), '-CAkey', file('ca.key'), '-CAcreateserial', '-days', '60',
        '-extfile', file('edge.ext'), '-out', file('edge.pem'),
    );
    const settings = `[[certificates]]\nchain = "${file('edge.pem')}"\nkey = "${file('edge.key')}"\n`;
    return {
        settings,
        files: { certificate: file('edge.pem'), key: file('edge.key') },
        trusted: { SSL_CERT_FILE: file('ca.pem') },
    };
}

test('a healthy edge has no finding but good ones, and another name than its certificate\'s is found', { skip: withoutOpenssl }, async () => {
    const data = temporaryDirectory('doctor');
    try {
        const { settings, trusted } = certificate(data);
        await issuer.install(data, { connections: 50, locator: 'localhost' });
        const env = { ...issuer.env, CT_SERVER_URL: 'https://localhost' };
        await withEdge({ data, nodes: 2, config: settings, env }, async edge => {
            const { port } = new URL(edge.https);
            const well = await doctor(['--data', data, '--url', `https://localhost:${port}`], trusted);
            assert.deepEqual(well.troubles, [], JSON.stringify(well.findings));
            assert.deepEqual(well.findings.map(({ check }) => check), [
                'ports', 'address', 'certificate', 'http', 'polling', 'websocket', 'stickiness', 'stickiness', 'session', 'nodes',
                'store', 'license', 'license', 'clock',
            ]);
            await eventually('no session left', async () => (await edge.admin.status()).nodes.every(node => node.sessions === 0));

            const other = await doctor(['--url', `https://127.0.0.1:${port}`], trusted);
            assert.deepEqual(other.troubles, ['certificate.wrong-name', 'nodes.hidden']);
            assert.match(other.finding('certificate.wrong-name').sentence, /is for localhost, but .* 127\.0\.0\.1/);

            // The locator of the license fits the edge's public URL, and not this one.
            const elsewhere = await doctor(['--data', data, '--url', edge.http], { CT_SERVER_URL: 'https://other.example.com' });
            assert.deepEqual(elsewhere.troubles, ['license.nodes-differ']);
            assert.match(elsewhere.finding('license.nodes-differ').sentence, /node-1 says valid.*other-locator/);

            const unknown = await doctor(['--url', `https://localhost:${port}`]);
            assert.deepEqual(unknown.troubles, ['certificate.chain', 'nodes.hidden']);
            // Whose users are told of the authority at /clients needs no authority that this machine knows.
            const told = await doctor(['--data', data, '--url', `https://localhost:${port}`], { CT_TRUST_ALL_CERTS: 'true' });
            assert.deepEqual(told.troubles, []);
        });
        const own = { ...env, CT_TRUST_ALL_CERTS: 'true' };
        await withEdge({ data, nodes: 1, config: settings, env: own }, async edge => {
            const { port } = new URL(edge.https);
            const { troubles, finding } = await doctor(['--data', data, '--url', `https://localhost:${port}`]);
            assert.deepEqual(troubles, []);
            assert.match(finding('certificate.ok').sentence, /an authority of your own/);
        });
    } finally {
        rmSync(data, { recursive: true, force: true });
    }
});

test('a balancer before other servers is looked at as far as these tell, and nothing is asked of them that is not theirs', async () => {
    const servers = [await Backend.start('one'), await Backend.start('two')];
    try {
        const nodes = servers.map(({ node }) => node);
        await withBalancer(await Balancer.start({ nodes }), async ({ file }) => {
            const { troubles, findings, finding } = await doctor(['--config', file]);
            assert.deepEqual(troubles, ['address.stand-in'], JSON.stringify(findings));
            assert.match(finding('http.others').sentence, /answers for other servers/);
            const stickiness = findings.filter(({ code }) => code === 'stickiness.ok');
            assert.equal(stickiness.length, 2);
            for (const { sentence } of stickiness) assert.match(sentence, /over 2 nodes/);
            assert.ok(!findings.some(({ check }) => ['store', 'license', 'session'].includes(check)));
        });
        await withNginx({ nodes: servers.map(({ address }) => address) }, async nginx => {
            const settings = `server_url = "${nginx.url}"\n`;
            await withBalancer(await Balancer.start({ nodes, top: settings }), async ({ file }) => {
                const { troubles, finding } = await doctor(['--config', file]);
                assert.deepEqual(troubles, ['stickiness.untried', 'stickiness.untried'], 'nginx does not say who answered');
                assert.match(finding('stickiness.untried').sentence, /expose_node/);
            });
        });
    } finally {
        for (const server of servers) server.die();
    }
});

test('a balancer that lets everybody read what a node counts for itself is found, and a token ends it', { skip: withoutNginx }, async () => {
    const token = 'a-token-of-metrics';
    await withCluster({ nodes: 1 }, async cluster => {
        const nodes = cluster.nodes.map(({ address }) => address);
        await withNginx({ nodes, location: PASSES_UPGRADES }, async nginx => {
            assert.equal((await fetch(`${nginx.url}/metrics`)).status, 404, 'the public port is not the node\'s');
            assert.deepEqual((await doctor(['--url', nginx.url])).troubles, ['license.evaluation']);
        });
        // What looks like a scrape in everything.
        await withNginx({ nodes, host: nodes[0], location: PASSES_UPGRADES }, async nginx => {
            assert.match(await (await fetch(`${nginx.url}/metrics`)).text(), /^ctedge_node_sessions 0$/m);
            const { code, troubles, finding } = await doctor(['--url', nginx.url]);
            assert.deepEqual([code, troubles], [0, ['http.private-figures', 'license.evaluation']]);
            assert.match(finding('http.private-figures').remedy, /metrics\.token/);
        });
    });
    await withCluster({ nodes: 1, settings: `[metrics]\ntoken = "${token}"\n` }, async cluster => {
        const [{ address }] = cluster.nodes;
        await withNginx({ nodes: [address], host: address, location: PASSES_UPGRADES }, async nginx => {
            assert.equal((await fetch(`${nginx.url}/metrics`)).status, 404);
            assert.deepEqual((await doctor(['--url', nginx.url])).troubles, ['license.evaluation']);
        });
        const scraped = await fetch(`http://${address}/metrics`, { headers: { authorization: `Bearer ${token}` } });
        assert.match(await scraped.text(), /^ctedge_node_sessions 0$/m);
    });
});

test('a proxy that cuts WebSockets on which nobody says anything is found by waiting', { skip: withoutNginx }, async () => {
    await withCluster({ nodes: 2, settings: '[node.timeouts]\nping_interval = "3s"\n' }, async cluster => {
        const nodes = cluster.nodes.map(({ address }) => address);
        await withNginx({ nodes, upstream: HASHES_KEYS, location: PASSES_UPGRADES }, async nginx => {
            const { troubles, finding } = await doctor(['--url', nginx.url, '--idle', '4']);
            assert.deepEqual(troubles, ['license.evaluation']);
            assert.match(finding('websocket.stays').sentence, /stays open for \d s/);
        });
        const impatient = `${PASSES_UPGRADES}\nproxy_read_timeout 1s;`;
        await withNginx({ nodes, upstream: HASHES_KEYS, location: impatient }, async nginx => {
            const { code, troubles, causes, finding } = await doctor(['--url', nginx.url, '--idle', '4']);
            assert.deepEqual([code, troubles, causes], [1, ['websocket.cut', 'license.evaluation'], ['no-websocket']]);
            assert.match(finding('websocket.cut').remedy, /proxy_read_timeout/);
        });
    });
});

const withoutRoot = process.getuid?.() === 0 ? false : 'only root may become another user';

test('what another user may not look at is left out, and is no fault of the edge', { skip: withoutRoot }, async () => {
    const folder = temporaryDirectory('rights');
    try {
        chmodSync(folder, 0o755);
        const data = path.join(folder, 'data');
        mkdirSync(data, { mode: 0o700 });
        await issuer.install(data, { connections: 50 });
        await withEdge({ data, nodes: 1, env: issuer.env }, async edge => {
            const file = path.join(folder, 'edge.toml');
            const nodes = (await edge.admin.status()).nodes.map((/** @type {any} */ node) => {
                return `[[nodes]]\nid = "${node.id}"\naddress = "${node.address}"\n`;
            });
            const balancer = `[balancer]\nhttp = "${new URL(edge.http).host}"\nhttps = ""\nadmin = "${edge.admin.address}"\n`;
            writeFileSync(file, `data = "${data}"\n${balancer}${nodes.join('')}`);
            const said = run('setpriv', ['--reuid=65534', '--regid=65534', '--clear-groups', BINARY, 'doctor', '--config', file, '--json']);
            const { findings } = JSON.parse(said.said);
            const codes = (/** @type {string} */ severity) => findings
                .filter((/** @type {any} */ finding) => finding.severity === severity)
                .map((/** @type {any} */ finding) => finding.code);
            assert.deepEqual(codes('error'), []);
            assert.deepEqual(codes('skipped'), ['nodes.not-allowed', 'store.not-allowed', 'license.not-allowed']);
        });
    } finally {
        rmSync(folder, { recursive: true, force: true });
    }
});

test('without a license the seats of an evaluation are named, and its own certificate as self-signed', async () => {
    await withEdge({ nodes: 2 }, async edge => {
        const { code, troubles, finding } = await doctor(['--data', edge.data, '--url', edge.https]);
        assert.deepEqual([code, troubles], [0, ['certificate.self-signed', 'license.evaluation']]);
        assert.match(finding('license.evaluation').sentence, /25 connections/);
    });
});

test('a license that has expired is named as the reason why no session begins', async () => {
    const data = temporaryDirectory('doctor');
    try {
        await issuer.install(data, { connections: 50, expiration: '2020/12/31' });
        await withEdge({ data, nodes: 1, env: issuer.env }, async edge => {
            const { code, troubles, causes } = await doctor(['--data', data, '--url', edge.http]);
            assert.deepEqual([code, troubles, causes], [1, ['session.license', 'license.refused'], ['license-out']]);
        });
    } finally {
        rmSync(data, { recursive: true, force: true });
    }
});

test('another balancer before the nodes is told what it lacks', { skip: withoutNginx }, async () => {
    await withCluster({ nodes: 2 }, async cluster => {
        const nodes = cluster.nodes.map(({ address }) => address);
        const url = (/** @type {import('../harness/nginx.mjs').Nginx} */ nginx) => ['--url', nginx.url];

        await withNginx({ nodes, upstream: HASHES_KEYS, location: PASSES_UPGRADES }, async nginx => {
            const { troubles, finding } = await doctor(url(nginx));
            assert.deepEqual(troubles, ['license.evaluation']);
            assert.match(finding('stickiness.ok').sentence, /over 2 nodes/);
        });
        await withNginx({ nodes, location: PASSES_UPGRADES }, async nginx => {
            const { code, troubles, causes, findings } = await doctor(url(nginx));
            assert.equal(code, 1);
            assert.deepEqual(causes, ['not-sticky']);
            assert.equal(troubles.filter(trouble => trouble === 'stickiness.lost').length, 2, JSON.stringify(findings));
            assert.ok(troubles.includes('session.misdirected'), JSON.stringify(findings));
        });
        await withNginx({ nodes, upstream: 'hash $http_ctstickiness consistent;', location: PASSES_UPGRADES }, async nginx => {
            const { troubles, finding } = await doctor([...url(nginx), '--no-session']);
            assert.deepEqual(troubles, ['stickiness.lost', 'session.untried', 'license.evaluation']);
            assert.match(finding('stickiness.lost').sentence, /cookie \(browsers\)/);
        });
        await withNginx({ nodes, upstream: 'ip_hash;', location: PASSES_UPGRADES }, async nginx => {
            const { troubles, causes } = await doctor(url(nginx));
            // Nobody knows of the other node by this URL alone; with the nodes' settings it is seen.
            assert.deepEqual([troubles, causes], [['license.evaluation'], []]);
            const told = await doctor([...url(nginx), '--config', cluster.nodes[0].file]);
            assert.equal(told.troubles.filter(trouble => trouble === 'stickiness.one-node').length, 2, JSON.stringify(told.findings));
        });
        await withNginx({ nodes, upstream: HASHES_KEYS }, async nginx => {
            const { code, troubles, causes, finding } = await doctor(url(nginx));
            assert.deepEqual([code, causes], [1, ['no-websocket']]);
            assert.deepEqual(troubles, ['websocket.upgrade-lost', 'session.untried', 'license.evaluation']);
            assert.match(finding('websocket.upgrade-lost').remedy, /proxy_set_header Upgrade/);
        });
    });
});

test('a proxy that hides what clients say is told from one that does not', { skip: withoutNginx || withoutOpenssl }, async () => {
    const folder = temporaryDirectory('doctor');
    try {
        const { files: tls, trusted } = certificate(folder);
        await withCluster({ nodes: 2 }, async cluster => {
            const balancer = await cluster.balancer({ settings: 'trusted_proxies = ["127.0.0.0/8"]' });
            const nodes = [new URL(balancer.http).host];
            const says = async (/** @type {string} */ headers) => {
                /** @type {string[]} */
                let troubles = [];
                await withNginx({ nodes, tls, location: PASSES_UPGRADES + headers }, async nginx => {
                    ({ troubles } = await doctor(['--url', nginx.url], trusted));
                });
                return troubles;
            };
            const scheme = '\n            proxy_set_header X-Forwarded-Proto https;';
            assert.deepEqual(await says(scheme), ['nodes.hidden']);
            assert.deepEqual(await says(''), ['http.cookie-not-secure', 'nodes.hidden']);
            assert.deepEqual(await says(`${scheme} proxy_set_header ctstickiness "";`), ['stickiness.header-lost', 'nodes.hidden']);
            assert.deepEqual(await says(`${scheme} proxy_set_header x-oct-jwt "";`), ['session.token-refused', 'nodes.hidden']);
        });
    } finally {
        rmSync(folder, { recursive: true, force: true });
    }
});

test('a node that is gone is named, and a balancer that finds none', { skip: withoutNginx }, async () => {
    await withCluster({ nodes: 2 }, async cluster => {
        const [node, other] = cluster.nodes;
        const balancer = await cluster.balancer();
        node.child.killGroup('SIGKILL');
        await balancer.admin.nodeIs(node.id, 'down');
        const one = await doctor(['--config', balancer.file, '--url', balancer.http]);
        assert.deepEqual([one.code, one.causes], [1, ['node-down']]);
        assert.match(one.finding('nodes.down').sentence, new RegExp(`The node ${node.id} at ${node.address} does not answer`));
        assert.equal(one.finding('session.met').severity, 'ok');

        await withNginx({ nodes: [other.address] }, async nginx => {
            other.child.killGroup('SIGKILL');
            await other.child.exit;
            const { code, troubles, causes } = await doctor(['--url', nginx.url]);
            assert.deepEqual([code, troubles, causes], [1, ['http.gateway'], ['node-down']]);
        });
        await balancer.admin.nodeIs(other.id, 'down');
        const none = await doctor(['--url', balancer.http]);
        assert.deepEqual([none.code, none.troubles, none.causes], [1, ['http.no-node'], ['node-down']]);
    });
});

test('a node with another cluster secret is named', async () => {
    const folder = temporaryDirectory('doctor');
    try {
        const secret = path.join(folder, 'other.secret');
        writeFileSync(secret, 's'.repeat(64), { mode: 0o600 });
        const settings = (/** @type {number} */ number) => number === 2 ? `secret_file = "${secret}"` : '';
        await withCluster({ nodes: 2, settings }, async cluster => {
            const balancer = await cluster.balancer();
            const { code, finding } = await doctor(['--config', balancer.file, '--url', balancer.http, '--no-session']);
            assert.equal(code, 1);
            assert.match(finding('nodes.secret').sentence, /^The node node-2 has another cluster secret/);
        });
    } finally {
        rmSync(folder, { recursive: true, force: true });
    }
});

test('a store that is away is named, by this machine and by the nodes', { skip: withoutPostgres() }, async () => {
    await withPostgres(async postgres => {
        await withEdge({ nodes: 1, config: postgres.settings() }, async edge => {
            const args = ['--data', edge.data, '--url', edge.http];
            const well = await doctor(args);
            assert.deepEqual(well.troubles, ['license.evaluation'], JSON.stringify(well.findings));
            assert.match(well.finding('clock.together').sentence, /the store/);
            await postgres.stop();
            await eventually('a node without its store', async () => (await edge.admin.node('node-1')).store === 'unreachable');
            const { code, troubles, causes } = await doctor(args);
            assert.deepEqual([code, causes], [1, ['store-or-clock']]);
            for (const trouble of ['session.unavailable', 'store.unreachable', 'store.node-trouble']) {
                assert.ok(troubles.includes(trouble), `${trouble} in ${troubles}`);
            }
            await postgres.begin();
            await eventually('a node with its store', async () => (await edge.admin.node('node-1')).store === 'ok');
        });
    });
});

test('settings that cannot work are found while nothing runs', { skip: withoutOpenssl }, async () => {
    const data = temporaryDirectory('doctor');
    const stranger = createServer((_, response) => response.end('hello'));
    try {
        stranger.listen(0, '127.0.0.1');
        await once(stranger, 'listening');
        const taken = /** @type {import('node:net').AddressInfo} */ (stranger.address()).port;
        const [http, admin, node] = [await freePort(), await freePort(), await freePort()];
        const file = path.join(data, 'test.toml');
        writeFileSync(file, `data = "${data}"
[balancer]
http = "127.0.0.1:${taken}"
https = ""
admin = "127.0.0.1:${admin}"
[[nodes]]
id = "node-1"
address = "127.0.0.1:${node}"
[[nodes]]
id = "node-2"
address = "127.0.0.2:${node}"
`);
        const { code, troubles, finding } = await doctor(['--config', file, '--url', `http://127.0.0.1:${http}`]);
        assert.deepEqual([code, troubles], [1, ['ports.taken', 'address.refused', 'nodes.down', 'store.hosts', 'license.evaluation']]);
        assert.match(finding('ports.taken').remedy, new RegExp(`sport = :${taken}`));

        // The certificate that it would show is looked at before anybody shows it.
        run('openssl', [
            'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '9', '-subj', '/CN=edge',
            '-addext', 'subjectAltName=DNS:edge.example.com', '-keyout', path.join(data, 'key.pem'), '-out', path.join(data, 'edge.pem'),
        ]);
        writeFileSync(file, '[[certificates]]\nchain = "edge.pem"\nkey = "key.pem"\n', { flag: 'a' });
        const before = await doctor(['--config', file, '--url', `https://localhost:${http}`]);
        assert.deepEqual(before.troubles.filter(trouble => trouble.startsWith('certificate.')), [
            'certificate.wrong-name', 'certificate.self-signed', 'certificate.ends-soon',
        ]);
        assert.match(before.finding('certificate.wrong-name').sentence, /edge\.pem is for edge\.example\.com, but/);
    } finally {
        stranger.close();
        rmSync(data, { recursive: true, force: true });
    }
});

test('what is no edge, sends clients elsewhere or lives in another time is told from an edge', async () => {
    /** @type {(request: import('node:http').IncomingMessage, response: import('node:http').ServerResponse) => void} */
    let answer = (_, response) => void response.end();
    const server = createServer((request, response) => answer(request, response));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const url = `http://127.0.0.1:${/** @type {import('node:net').AddressInfo} */ (server.address()).port}`;
    try {
        answer = (_, response) => void response.end('<h1>Welcome</h1>');
        assert.deepEqual((await doctor(['--url', url])).troubles, ['http.foreign']);
        answer = (_, response) => void response.writeHead(302, { location: 'https://login.example.com/' }).end();
        assert.deepEqual((await doctor(['--url', url])).troubles, ['http.redirect']);
        answer = (_, response) => void response.writeHead(404, { date: new Date(Date.now() + 3_600_000).toUTCString() }).end();
        const late = await doctor(['--url', url]);
        assert.deepEqual(late.troubles, ['http.not-found', 'clock.far-apart']);
        assert.match(late.finding('clock.far-apart').sentence, /the public URL is 3\d{3} s ahead of/);
        answer = request => void request.socket.destroy();
        assert.deepEqual((await doctor(['--url', url])).troubles, ['http.no-answer']);
    } finally {
        server.closeAllConnections();
        server.close();
    }
});

test('people read a line for each finding, with what to do below', async () => {
    const child = new Child('ctedge doctor', BINARY, ['doctor', '--url', `http://127.0.0.1:${await freePort()}`]);
    const { code } = await within('end of ctedge doctor', child.exit, 30_000);
    assert.equal(code, 1);
    assert.match(child.lines.all[0], /^error {4}address {2}Nobody listens where http:\/\/127\.0\.0\.1:\d+ leads to\.$/);
    assert.match(child.lines.all[1], /^ {20}Start the edge/);
});

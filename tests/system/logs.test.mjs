//! What the logs say, and what they must never say.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import path from 'node:path';
import { test } from 'node:test';
import { startBackends } from '../harness/backend.mjs';
import { eventually } from '../harness/deadline.mjs';
import { Admin, Balancer, Edge, freePort, temporaryDirectory, withBalancer, withEdge } from '../harness/edge.mjs';
import { meeting } from '../harness/person.mjs';
import { Child, BINARY } from '../harness/process.mjs';
import { byNodeHttp, exchange } from '../harness/raw.mjs';

/** nginx's format `combined`. */
const COMBINED = /^(\S+) - (\S+) \[(\d{2}\/[A-Z][a-z]{2}\/\d{4}:\d{2}:\d{2}:\d{2} [+-]\d{4})\] "(\S+) (\S+) (HTTP\/\d(?:\.\d)?)" (\d{3}) (\d+) "([^"]*)" "([^"]*)"$/;

/** @param {import('../harness/edge.mjs').Edge} edge */
function accessLines(edge) {
    const log = [...edge.logs()].find(([name]) => name.endsWith('access.log'));
    return (log?.[1] ?? '').split('\n').filter(line => line !== '');
}

test('every request is one line of the access log in the combined format', async () => {
    await withEdge({}, async edge => {
        const headers = { 'user-agent': 'a "quoted" agent', referer: 'https://example.org/page' };
        await byNodeHttp(`${edge.http}/clients/vscode/codetogether-onpremises-1.vsix?x=1`, { headers });
        const lines = await eventually('access line', () => {
            const all = accessLines(edge);
            return all.some(line => line.includes('/clients/')) && all;
        });
        for (const line of lines) assert.match(line, COMBINED);
        const line = lines.filter(text => text.includes('GET /clients/vscode/codetogether-onpremises-'));
        assert.equal(line.length, 1);
        const [, address, , , method, path, , status, , referer] = COMBINED.exec(line[0]) ?? [];
        assert.deepEqual([address, method, path], ['127.0.0.1', 'GET', '/clients/vscode/codetogether-onpremises-1.vsix?x=1']);
        assert.match(status, /^[1-5]\d\d$/);
        assert.equal(referer, 'https://example.org/page');
    });
});

test('GoAccess reads every line of the access log', { skip: withoutGoAccess() }, async () => {
    await withEdge({ nodes: 2 }, async edge => {
        await meeting(async meet => {
            const ada = await meet('ada', edge.http).host();
            await (await meet('grace', edge.http).join(ada.roomId)).upgraded();
        });
        for (const agent of ['a "quoted" \\ agent', 'plain', '']) await byNodeHttp(`${edge.http}/clients/?q="x y"`, { headers: { 'user-agent': agent } });
        await byNodeHttp(`${edge.http}/%22%5c%00/%c3%a4?a=\\`, { method: 'POST', body: 'x' });
        for (const line of ['GET / HTTP/1.0', 'HEAD /clients/ HTTP/1.1\r\nhost: x\r\nconnection: close', 'BREW /pot HTTP/1.1\r\nhost: x\r\nconnection: close', 'nonsense']) {
            const { hostname, port } = new URL(edge.http);
            await exchange(Number(port), hostname, `${line}\r\n\r\n`);
        }
        const session = connectHttp2(edge.https, { rejectUnauthorized: false });
        for await (const _ of session.request({ ':path': '/clients/' }));
        await new Promise(resolve => session.close(() => resolve(undefined)));

        await eventually('the last line', () => accessLines(edge).some(line => line.includes('HTTP/2.0')));
        const file = path.join(edge.data, 'logs/access.log');
        const lines = accessLines(edge).length;
        const report = path.join(edge.data, 'report.json');
        execFileSync('goaccess', [file, '--log-format=COMBINED', '--no-global-config', '--no-progress', '-o', report], { stdio: 'ignore' });
        const { general } = JSON.parse(readFileSync(report, 'utf8'));
        assert.ok(lines > 15, accessLines(edge).join('\n'));
        assert.deepEqual([general.total_requests, general.valid_requests, general.failed_requests], [lines, lines, 0], accessLines(edge).join('\n'));
    });
});

/** What is missing for GoAccess, or false. */
function withoutGoAccess() {
    if (spawnSync('goaccess', ['--version']).status === 0) return false;
    if (process.env.CI === 'true') throw new Error('missing: goaccess');
    return 'missing: goaccess (apt-get install goaccess)';
}

test('no token is in any log, whatever the level', async () => {
    await withEdge({ config: '[log]\nlevel = "debug"\n' }, async edge => {
        /** @type {Map<string, string>} */
        const secrets = new Map();
        const seen = async (/** @type {string} */ url, /** @type {any} */ init) => {
            const response = await fetch(url, init);
            const body = await response.clone().json().catch(() => ({}));
            for (const name of ['pollToken', 'loginToken', 'roomToken']) {
                // What follows the key in a poll token, and the signature of a JWT, are what admits the bearer.
                if (body[name]) secrets.set(`${name} ${secrets.size}`, body[name].split('.').at(-1));
            }
            return response;
        };
        await meeting(async meet => {
            const host = await meet('host', edge.http).observed(seen).host();
            const guest = await meet('guest', edge.http).observed(seen).join(host.roomId);
            await host.upgraded();
            await guest.upgraded();
            for (const person of [host, guest]) secrets.set(`sid of ${person.name}`, person.socket.io.engine.id.split('.').at(-1));
            await host.say('a secret word between peers');
            await guest.hears('a secret word between peers');
            // A token in a query, as the browser's WebSocket transport would send it, and one that is refused.
            const query = `x-oct-jwt=${guest.roomToken}&token=${guest.loginToken}`;
            await byNodeHttp(`${edge.http}/websocket?${query}`);
            await byNodeHttp(`${edge.http}/api/session/poll/${host.roomId}.${'A'.repeat(24)}`, { method: 'POST' });
            await byNodeHttp(`${edge.http}/api/meta`, { headers: { referer: `https://example.org/?token=${guest.loginToken}` } });
        });
        secrets.set('refused poll token', 'A'.repeat(24));
        secrets.set('cluster secret', edge.secret());
        secrets.set('words between peers', 'a secret word');
        assert.ok(secrets.size >= 9, `${secrets.size} secrets were noted`);
        await edge.child.stop();
        for (const [log, text] of edge.logs()) {
            for (const [name, secret] of secrets) assert.ok(!text.includes(secret), `${name} stands in ${log}`);
        }
        assert.ok(accessLines(edge).length > 10, 'the logs were written');
    });
});

/**
 * @param {import('../harness/edge.mjs').Edge} edge
 * @param {string} name
 */
const linesOf = (edge, name) => {
    const file = path.join(edge.data, 'logs', name);
    return existsSync(file) ? readFileSync(file, 'utf8').split('\n').filter(line => line !== '') : [];
};

test('the server log says where the edge is in the words that scripts look for', async () => {
    await withEdge({}, async edge => {
        const ports = `port ${new URL(edge.http).port} (HTTP) and ${new URL(edge.https).port} (SSL)`;
        const announced = () => linesOf(edge, 'server.log').filter(line => line.includes('services now available'));
        const lines = announced();
        assert.equal(lines.length, 1, lines.join('\n'));
        // Another balancer is no other start of the edge.
        await edge.operate(['restart', 'balancer']);
        assert.deepEqual(announced(), lines);
        const said = `root INFO CodeTogether On-Premises services now available on ${ports}`;
        assert.ok(lines[0].endsWith(` ${said}`), lines[0]);
    });
});

test('the services are announced when the first node takes sessions, and not before', async () => {
    const folder = temporaryDirectory('far-node');
    const port = await freePort();
    const nodes = `[[nodes]]\nid = "far"\naddress = "127.0.0.1:${port}"\n`;
    const config = `[up]\nnodes = 0\n${nodes}`;
    const edge = new Edge({ data: folder, config });
    const announced = () => linesOf(edge, 'server.log').filter(line => line.includes('services now available'));
    try {
        await edge.child.line(/^\s+admin\s/);
        edge.admin = new Admin(edge.address('admin'));
        await eventually('a balancer', async () => (await edge.admin.call('/status').catch(() => undefined))?.status === 200);
        await edge.admin.nodeIs('far', 'down');
        // The log has the balancer's start, and the supervisor has looked at it.
        await eventually('the table of processes', async () => (await edge.listed('balancer'))?.state === 'running');
        assert.deepEqual(announced(), []);
        assert.ok(!edge.child.lines.all.includes('ready'), edge.child.output);

        const file = path.join(folder, 'node.toml');
        writeFileSync(file, `data = "${path.join(folder, 'far')}"\nsecret_file = "${path.join(folder, 'cluster.secret')}"\n`
            + `[store]\nurl = "none"\n${nodes}`);
        const node = new Child('ctedge node', BINARY, ['node', '--config', file, '--id', 'far']);
        try {
            await edge.child.line(/^ready$/, 60_000);
            assert.equal(announced().length, 1, announced().join('\n'));
        } finally {
            await node.stop();
        }
    } finally {
        await edge.destroy(false);
        rmSync(folder, { recursive: true, force: true });
    }
});

test('a balancer that nobody supervises announces the services when its first node takes sessions', async () => {
    const [backend] = await startBackends(1);
    try {
        await withBalancer(await Balancer.start({ nodes: [], settings: '[[dns]]\nname = "nodes.invalid"\nport = 3001\n' }), async balancer => {
            const announced = () => {
                return /** @type {string[]} */ (balancer.child.lines.all).filter(line => line.includes('services now available'));
            };
            assert.deepEqual(announced(), []);
            balancer.write([{ id: 'late', address: backend.address }]);
            balancer.reload();
            await balancer.admin.nodesReady(1);
            await eventually('the announcement', () => announced().length === 1);
            assert.ok(announced()[0].endsWith(`services now available on port ${new URL(balancer.http).port} (HTTP)`), announced()[0]);
        });
    } finally {
        backend.die();
    }
});

test('the download counts of the operators\' notes work on the access log as they are', async () => {
    const count = (/** @type {string} */ directory, /** @type {string} */ pattern) => {
        const command = `cat access.log | grep "${pattern}" | wc -l`;
        return Number(execFileSync('sh', ['-c', command], { cwd: directory, encoding: 'utf8' }));
    };
    await withEdge({}, async edge => {
        const logs = path.join(edge.data, 'logs');
        /** @type {[string, string[]][]} */
        const wanted = [
            ['GET /clients/eclipse/plugins/com.genuitec.eclipse.codetogether.core_', ['1.0.0.jar', '1.1.0.jar']],
            ['GET /clients/intellij/codetogether-onpremises-', ['2025.1.zip']],
            ['GET /clients/vscode/codetogether-onpremises-', ['1.vsix', '2.vsix', '3.vsix']],
        ];
        for (const [start, files] of wanted) {
            for (const file of files) await byNodeHttp(`${edge.http}${start.slice('GET '.length)}${file}`);
        }
        await byNodeHttp(`${edge.http}/clients/`);
        await eventually('all access lines', () => accessLines(edge).filter(line => line.includes('/clients/')).length === 7);
        assert.deepEqual(wanted.map(([start]) => count(logs, start)), [2, 1, 3]);
    });
});

test('the session log tells who came and went', async () => {
    await withEdge({}, async edge => {
        let room = '';
        await meeting(async meet => {
            const host = await meet('Hanna Host', edge.http).host();
            room = host.roomId;
            const guest = await meet('guest', edge.http).join(room);
            await guest.leave();
            await host.leave();
        });
        const lines = await eventually('the end in the session log', () => {
            const all = linesOf(edge, 'sessions.log').filter(line => line.includes(room));
            return all.some(line => / ended /.test(line)) && all;
        });
        const events = lines.map(line => line.split(' ')[3]);
        assert.deepEqual(events, ['created', 'joined', 'left', 'ended'], lines.join('\n'));
        for (const line of lines) assert.match(line, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [+-]\d{4} /);
        assert.match(lines[0], /user="Hanna Host"/);
    });
});

test('guests who are there when the host ends the session leave with it', async () => {
    await withEdge({ nodes: 1 }, async edge => {
        let room = '';
        await meeting(async meet => {
            const host = await meet('host', edge.http).host();
            room = host.roomId;
            await meet('guest', edge.http).join(room);
            await host.leave();
            const lines = await eventually('the end in the session log', () => {
                const all = linesOf(edge, 'sessions.log').filter(line => line.includes(room));
                return all.some(line => / ended /.test(line)) && all;
            });
            assert.deepEqual(lines.map(line => line.split(' ')[3]), ['created', 'joined', 'left', 'ended'], lines.join('\n'));
            assert.match(lines[2], /user="guest"/);
        });
    });
});

test('the user of a Basic login is in the access log, and the password is not', async () => {
    await withEdge({ nodes: 1 }, async edge => {
        const authorization = `Basic ${Buffer.from('ctuser:sesame').toString('base64')}`;
        await byNodeHttp(`${edge.http}/logs/`, { headers: { authorization } });
        const lines = await eventually('access line', () => {
            const all = accessLines(edge).filter(line => line.includes('GET /logs/'));
            return all.length > 0 && all;
        });
        assert.equal(COMBINED.exec(lines[0])?.[2], 'ctuser');
        assert.ok(!lines.some(line => line.includes('sesame') || line.includes(authorization.slice(6))), lines.join('\n'));
    });
});

test('CT_TIME_ZONE is the time zone of all logs, and counts more than the file; a wrong one is named', async () => {
    const env = { CT_TIME_ZONE: 'Asia/Tokyo' };
    await withEdge({ config: '[log]\ntime_zone = "America/New_York"\n', env }, async edge => {
        await byNodeHttp(`${edge.http}/api/meta`);
        const lines = await eventually('an access line', () => accessLines(edge).length > 0 && accessLines(edge));
        for (const line of lines) assert.match(line, / \+0900\] /);
        for (const line of linesOf(edge, 'server.log')) assert.match(line, / \+0900 root /);
        await meeting(async meet => void (await meet('ada', edge.http).host()));
        const sessions = await eventually('a line of sessions.log', () => {
            const lines = linesOf(edge, 'sessions.log');
            return lines.length > 0 && lines;
        });
        for (const line of sessions) assert.match(line, / \+0900 [a-z_]+ /);
        // Without a license there is a warning.
        const errors = await eventually('a line of error.log as nginx writes it', () => {
            const lines = linesOf(edge, 'error.log');
            return lines.length > 0 && lines;
        });
        for (const line of errors) {
            assert.match(line, /^\d{4}\/\d{2}\/\d{2} \d{2}:\d{2}:\d{2} \[(warn|error)\] \d+#\d+: \S/);
            const at = Date.parse(`${line.slice(0, 19).replaceAll('/', '-').replace(' ', 'T')}+09:00`);
            assert.ok(Math.abs(Date.now() - at) < 3_600_000, `${line} is in another time zone`);
        }
    });
    const child = new Child('ctedge up', BINARY, ['up'], { env: { CT_TIME_ZONE: 'Mars/Olympus' } });
    assert.notEqual((await child.exit).code, 0);
    assert.match(child.output, /CT_TIME_ZONE.*"Mars\/Olympus" is no time zone/s);
});

test('log files are set aside when they are long, by whichever process finds it due', async () => {
    await withEdge({ config: '[log]\nrotate_size = "4KiB"\nrotate_keep = 2\n' }, async edge => {
        const rotated = path.join(edge.data, 'logs', 'access.log.1');
        await eventually('a rotated access log', async () => {
            await Promise.all(Array.from({ length: 20 }, () => byNodeHttp(`${edge.http}/api/meta`)));
            return existsSync(rotated);
        });
        const moved = path.join(edge.data, 'logs', 'access.moved');
        renameSync(path.join(edge.data, 'logs', 'access.log'), moved);
        edge.child.kill('SIGUSR1');
        await eventually('the log opened again', () => existsSync(path.join(edge.data, 'logs', 'access.log')));
    });
});

const ALL_LOGS = ['server.log', 'sessions.log', 'usage.log', 'access.log', 'error.log'];

test('SIGUSR1 opens each log again, in a folder that is made again if need be', async () => {
    await withEdge({ nodes: 2 }, async edge => {
        const folder = path.join(edge.data, 'logs');
        for (const log of ALL_LOGS) await eventually(log, () => existsSync(path.join(folder, log)));
        renameSync(folder, `${folder}.moved`);
        edge.child.kill('SIGUSR1');
        for (const log of ALL_LOGS) await eventually(`${log} opened again`, () => existsSync(path.join(folder, log)));
        rmSync(`${folder}.moved`, { recursive: true });
    });
});

test('log files are set aside when they are old', async () => {
    await withEdge({ nodes: 1, config: '[log]\nrotate_age = "2s"\nrotate_keep = 2\nusage_interval = "1s"\n' }, async edge => {
        for (const log of ['access.log', 'usage.log']) {
            await eventually(`${log} set aside`, async () => {
                await byNodeHttp(`${edge.http}/api/meta`);
                return existsSync(path.join(edge.data, 'logs', `${log}.1`));
            });
        }
    });
});

test('a log that cannot be set aside stops nothing', async () => {
    await withEdge({ nodes: 2, config: '[log]\nrotate_size = "4KiB"\nrotate_keep = 1\n' }, async edge => {
        const folder = path.join(edge.data, 'logs');
        for (const log of ['server.log', 'access.log', 'sessions.log']) {
            rmSync(path.join(folder, `${log}.1`), { force: true });
            mkdirSync(path.join(folder, `${log}.1`, 'in the way'), { recursive: true });
        }
        const work = () => meeting(async meet => {
            const host = await meet('host', edge.http).host();
            await host.leave();
        });
        for (const log of ['access.log', 'sessions.log']) {
            await eventually(`a long ${log}`, async () => {
                await work();
                return statSync(path.join(folder, log)).size > 5 * 1024;
            }, 60_000);
        }
        // A file is looked at when something is written into it.
        await eventually('the log says so', async () => {
            await work();
            return [...edge.logs().values()].some(text => /sessions\.log cannot be set aside/.test(text));
        }, 60_000);
        await edge.child.stop();
    });
});

//! What an operator sees of a running edge: the dashboard and the logs, and who may see them.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { CHROMIUM, hasChromium, picture, withBrowser } from '../harness/browser.mjs';
import { eventually } from '../harness/deadline.mjs';
import { Edge, freePort, temporaryDirectory, withEdge } from '../harness/edge.mjs';
import { meeting } from '../harness/person.mjs';
import { withPostgres, withoutPostgres } from '../harness/postgres.mjs';
import { BINARY, Child } from '../harness/process.mjs';

const BROWSER = hasChromium ? false : `there is no ${CHROMIUM}: apt-get install chromium`;

const OPERATOR = { CT_DASHBOARD_USER: 'ada', CT_DASHBOARD_PASSWORD: 'a pass:wörd' };
const OPERATOR_LOGIN = 'ada:a pass:wörd';

/** How long a node waits for its store (`store.timeout`). */
const STORE_TIMEOUT_MS = 2_000;

/**
 * What the edge answers to somebody with this login.
 *
 * @param {Edge} edge
 * @param {string} route
 * @param {string} [login]
 * @param {string} [cookie]
 */
async function ask(edge, route, login, cookie) {
    /** @type {Record<string, string>} */
    const headers = login === undefined ? {} : { authorization: `Basic ${Buffer.from(login).toString('base64')}` };
    if (cookie) headers.cookie = cookie;
    const response = await fetch(edge.http + route, { headers, redirect: 'manual', signal: AbortSignal.timeout(10_000) });
    return { status: response.status, headers: response.headers, bytes: Buffer.from(await response.arrayBuffer()) };
}

/**
 * The dashboard's JSON.
 *
 * @param {Edge} edge
 * @param {string} login
 * @returns {Promise<any>}
 */
async function state(edge, login) {
    const { status, bytes } = await ask(edge, '/dashboard/api/state', login);
    assert.equal(status, 200, bytes.toString());
    return JSON.parse(bytes.toString());
}

/** The server log. @param {Edge} edge */
function serverLog(edge) {
    return readFileSync(path.join(edge.data, 'logs/server.log'), 'utf8');
}

test('without credentials the user is ctuser, and the password is written once to the server log', async () => {
    const data = temporaryDirectory('portal');
    try {
        const passwords = /The dashboard and the logs are for the user ctuser with the password (\S+)/g;
        const told = async (/** @type {Edge} */ edge) => {
            const written = [...serverLog(edge).matchAll(passwords)].map(match => match[1]);
            assert.equal(written.length, 1, serverLog(edge));
            const [password] = written;
            for (const route of ['/dashboard', '/logs/']) {
                assert.equal((await ask(edge, route)).status, 401, route);
                assert.equal((await ask(edge, route, 'ctuser:')).status, 401, route);
                assert.equal((await ask(edge, route, `ctuser:${password}`)).status, 200, route);
            }
            return password;
        };
        const edge = await Edge.start({ data, nodes: 2 });
        const first = await told(edge).finally(() => edge.stop());
        const file = path.join(data, 'dashboard.password');
        assert.equal(statSync(file).mode & 0o777, 0o600);
        assert.equal(readFileSync(file, 'utf8'), `${first}\n`);
        // A restart keeps it, and tells it to nobody again.
        const again = await Edge.start({ data, nodes: 2 });
        assert.equal(await told(again).finally(() => again.stop()), first);
    } finally {
        rmSync(data, { recursive: true, force: true });
    }
});

test('nodes of several machines that run without `ctedge up` have one password too, which the log of each machine tells once', async () => {
    const folder = temporaryDirectory('portal');
    const secret = randomBytes(32).toString('hex');
    const addresses = [];
    for (let index = 0; index < 3; index += 1) addresses.push(`127.0.0.1:${await freePort()}`);
    const listed = addresses.map((address, index) => `\n[[nodes]]\nid = "node-${index + 1}"\naddress = "${address}"\n`).join('');
    /** @type {Child[]} */
    const running = [];
    const start = async (/** @type {string} */ machine, /** @type {string} */ id) => {
        const data = path.join(folder, machine);
        mkdirSync(data, { recursive: true });
        writeFileSync(path.join(data, 'cluster.secret'), secret, { mode: 0o600 });
        writeFileSync(path.join(data, 'node.toml'), `data = "${data}"\n${listed}`);
        const node = new Child(`ctedge node ${id}`, BINARY, ['node', '--config', path.join(data, 'node.toml'), '--id', id]);
        running.push(node);
        await node.line(/the node serves/, 60_000);
        return node;
    };
    const told = (/** @type {string} */ machine) => {
        const log = readFileSync(path.join(folder, machine, 'logs/server.log'), 'utf8');
        return [...log.matchAll(/for the user ctuser with the password (\S+)/g)].map(match => match[1]);
    };
    try {
        await start('one', 'node-1');
        const second = await start('one', 'node-2');
        await start('two', 'node-3');
        const [password] = told('one');
        assert.match(password, /^[0-9a-f]{24}$/);
        assert.deepEqual([told('one'), told('two')], [[password], [password]]);
        const ask = async (/** @type {string} */ address, /** @type {string} */ login) => {
            const authorization = `Basic ${Buffer.from(login).toString('base64')}`;
            return (await fetch(`http://${address}/dashboard`, { headers: { authorization }, signal: AbortSignal.timeout(10_000) })).status;
        };
        for (const address of addresses) {
            assert.deepEqual([await ask(address, `ctuser:${password}`), await ask(address, 'ctuser:')], [200, 401]);
        }
        // A start later it is the same, and told to nobody again; another one in the file counts at once.
        assert.equal(await second.stop(), 0);
        await start('one', 'node-2');
        assert.equal(told('one').length, 1);
        writeFileSync(path.join(folder, 'one/dashboard.password'), 'another\n');
        assert.deepEqual([await ask(addresses[0], `ctuser:${password}`), await ask(addresses[0], 'ctuser:another')], [401, 200]);
    } finally {
        for (const node of running) node.killGroup('SIGKILL');
        rmSync(folder, { recursive: true, force: true });
    }
});

test('CT_DASHBOARD_USER and CT_DASHBOARD_PASSWORD open dashboard and logs, and no password is made', async () => {
    await withEdge({ nodes: 1, env: OPERATOR }, async edge => {
        for (const route of ['/dashboard', '/logs/', '/dashboard/metrics.tar.gz']) {
            const refused = await ask(edge, route, 'ctuser:a pass:wörd');
            assert.equal(refused.status, 401, route);
            assert.match(refused.headers.get('www-authenticate') ?? '', /^Basic realm="/);
            assert.equal((await ask(edge, route, OPERATOR_LOGIN)).status, 200, route);
        }
        assert.ok(!serverLog(edge).includes('ctuser'), 'a password was made');
        for (const [name, text] of edge.logs()) assert.ok(!text.includes('pass:wörd'), `${name} has the password`);
    });
});

test('CT_LOGS_USER and CT_LOGS_PASSWORD open the dashboard where it has no login of its own, and the logs alone where it has', async () => {
    const logs = { CT_LOGS_USER: 'grace', CT_LOGS_PASSWORD: 'the older form' };
    const older = 'grace:the older form';
    await withEdge({ nodes: 1, env: logs }, async edge => {
        assert.equal((await ask(edge, '/logs/', older)).status, 200);
        assert.equal((await ask(edge, '/dashboard', older)).status, 200);
    });
    await withEdge({ nodes: 1, env: { ...logs, ...OPERATOR } }, async edge => {
        assert.equal((await ask(edge, '/logs/', older)).status, 200);
        assert.equal((await ask(edge, '/dashboard', older)).status, 401);
        assert.equal((await ask(edge, '/logs/', OPERATOR_LOGIN)).status, 401);
        assert.equal((await ask(edge, '/dashboard', OPERATOR_LOGIN)).status, 200);
    });
});

test('whoever guesses has to pause, and server.log tells of it', async () => {
    const config = '[portal.limits]\nwrong_tries_max = 3\nwrong_tries_pause = "1m"\n';
    await withEdge({ nodes: 1, config, env: OPERATOR }, async edge => {
        const statuses = [];
        for (let attempt = 0; attempt < 4; attempt++) statuses.push((await ask(edge, '/dashboard', `ada:guess ${attempt}`)).status);
        assert.deepEqual(statuses, [401, 401, 429, 429]);
        const paused = await ask(edge, '/dashboard', OPERATOR_LOGIN);
        assert.equal(paused.status, 429);
        assert.ok(Number(paused.headers.get('retry-after')) <= 60);
        const told = await eventually('the line', () => {
            const lines = serverLog(edge).split('\n').filter(line => line.includes('wrong logins'));
            return lines.length > 0 && lines;
        });
        assert.equal(told.length, 1);
        assert.match(told[0], /127\.0\.0\.1/);
    });
});

test('guessing over all nodes gets no more tries than one limit, and holds up nobody who was let in before', async () => {
    await withEdge({ nodes: 2, env: OPERATOR }, async edge => {
        const welcome = await ask(edge, '/dashboard', OPERATOR_LOGIN);
        const cookies = welcome.headers.getSetCookie().map(cookie => cookie.split(';')[0]);
        assert.deepEqual(cookies.map(cookie => cookie.split('=')[0]).sort(), ['ctstickiness', 'ctvisitor']);
        const statuses = [];
        for (let attempt = 0; attempt < 60; attempt++) statuses.push((await ask(edge, '/dashboard', `ada:guess ${attempt}`)).status);
        const wrong = statuses.filter(status => status === 401).length;
        assert.ok(wrong > 4 && wrong <= 10, `${wrong} wrong tries were heard`);
        assert.deepEqual(new Set(statuses.slice(-20)), new Set([429]));
        assert.equal((await ask(edge, '/dashboard', OPERATOR_LOGIN)).status, 429);
        // Whatever node it comes to.
        const visitor = cookies.find(cookie => cookie.startsWith('ctvisitor=')) ?? '';
        for (let round = 0; round < 10; round++) assert.equal((await ask(edge, '/dashboard', OPERATOR_LOGIN, visitor)).status, 200);
        for (const [name, text] of edge.logs()) assert.ok(!text.includes(visitor.slice('ctvisitor='.length)), `${name} has the cookie`);
    });
});

test('one browser stays with one node, also before it is let in', async () => {
    await withEdge({ nodes: 3, env: OPERATOR, args: ['--expose-node'] }, async edge => {
        const first = await ask(edge, '/dashboard');
        const cookie = first.headers.getSetCookie()[0].split(';')[0];
        assert.match(cookie, /^ctstickiness=/);
        const nodes = new Set();
        for (const route of ['/dashboard', '/logs/', '/dashboard/api/state', '/dashboard', '/logs/server.log']) {
            nodes.add((await ask(edge, route, OPERATOR_LOGIN, cookie)).headers.get('x-ctedge-node'));
        }
        assert.deepEqual([...nodes], [first.headers.get('x-ctedge-node')]);
    });
});

test('the dashboard tells of nodes, sessions, seats and license, of all nodes together and by each of them', { skip: BROWSER }, async () => {
    await withEdge({ nodes: 3, env: OPERATOR }, async edge => {
        await meeting(async meet => {
            const ada = await meet('ada', edge.http).host();
            await meet('grace', edge.http).join(ada.roomId);
            // Any node may answer, and each hears of the others a moment later.
            const told = await eventually('a session of two', async () => {
                const told = await state(edge, OPERATOR_LOGIN);
                const isHeardOf = told.sessions.open === 1 && told.users.in_sessions === 2 && told.seats.taken === 2;
                return isHeardOf && told.days.at(-1)?.sessions === 1 && told;
            }, 20_000);
            assert.equal(told.of_all_nodes, true);
            assert.deepEqual(told.nodes.map((/** @type {any} */ node) => `${node.id} ${node.state}`), ['node-1 ready', 'node-2 ready', 'node-3 ready']);
            assert.equal(told.seats.licensed, 25);
            assert.equal(told.license.verdict, 'evaluation');
            assert.deepEqual(told.problems.map((/** @type {any} */ problem) => problem.severity), ['note']);
            const json = JSON.stringify(told);
            for (const secret of [ada.roomId, ada.roomToken, ada.loginToken, edge.secret()]) {
                assert.ok(!json.includes(secret), 'the dashboard lets its readers in');
            }

            await edge.operate(['suspend', 'node-2']);
            await edge.operate(['stop', 'node-3']);
            const problems = await eventually('what is wrong', async () => {
                const { nodes, seats, problems } = await state(edge, OPERATOR_LOGIN);
                // The session may have been on the node that was stopped.
                return nodes[1].state === 'suspended' && nodes[2].stopped && seats.taken === 2 && problems;
            }, 20_000);
            assert.ok(problems.some((/** @type {any} */ { node, advice }) => node === 'node-2' && advice.includes('ctedge resume node-2')), JSON.stringify(problems));
            assert.ok(problems.some((/** @type {any} */ { node, advice }) => node === 'node-3' && advice.includes('ctedge start node-3')), JSON.stringify(problems));
            assert.equal(problems.length, 3, 'what an operator did is nothing to be warned of');
            assert.ok(problems.every((/** @type {any} */ { severity }) => severity === 'note'));
            await looked(edge);

            // Nobody asked for this.
            const kill = await edge.aimAt('node-2');
            process.kill(edge.child.pid, 'SIGSTOP');
            try {
                kill();
                const found = await eventually('the death', async () => {
                    const told = await ask(edge, '/dashboard/api/state', OPERATOR_LOGIN);
                    const problems = told.status === 200 ? JSON.parse(told.bytes.toString()).problems : [];
                    return problems.find((/** @type {any} */ { what }) => what.startsWith('node-2 does not run'));
                }, 20_000);
                assert.equal(found.severity, 'warning');
            } finally {
                process.kill(edge.child.pid, 'SIGCONT');
            }
        });
    });
});

test('while the store does not answer the dashboard says so soon, shows what the node knows, and what to do', { skip: withoutPostgres() }, async () => {
    await withPostgres(postgres => withEdge({ nodes: 3, env: OPERATOR, config: postgres.settings() }, async edge => {
        await eventually('all nodes', async () => {
            const { nodes, of_all_nodes: ofAll } = await state(edge, OPERATOR_LOGIN);
            return ofAll && nodes.every((/** @type {any} */ node) => node.state === 'ready');
        }, 20_000);
        for (const [begin, end, failure] of /** @type {[() => any, () => any, RegExp][]} */ ([
            [() => postgres.freeze(), () => postgres.thaw(), /^the store is too slow$/],
            [() => postgres.stop(), () => postgres.begin(), /^the store cannot be reached$/],
        ])) {
            await begin();
            const told = await eventually('the failure', async () => {
                const since = Date.now();
                const told = await state(edge, OPERATOR_LOGIN);
                // One timeout of the store, not one for each of its tables.
                assert.ok(Date.now() - since < 2 * STORE_TIMEOUT_MS, `the page took ${Date.now() - since} ms`);
                return failure.test(told.store_failure ?? '') && told;
            }, 20_000);
            assert.equal(told.of_all_nodes, false);
            const others = told.nodes.filter((/** @type {any} */ node) => node.id !== told.node);
            assert.deepEqual(others.map((/** @type {any} */ node) => node.state), ['unknown', 'unknown']);
            const problem = told.problems.find((/** @type {any} */ { what }) => what.includes(`of ${told.node} alone`));
            assert.ok(problem?.advice.includes('ctedge doctor'), JSON.stringify(told.problems));
            assert.ok(!told.problems.some((/** @type {any} */ { what }) => /does not run|No node takes/.test(what)), JSON.stringify(told.problems));
            // Another node may have a page from a moment ago.
            await eventually('the page', async () => {
                const page = (await ask(edge, '/dashboard', OPERATOR_LOGIN)).bytes.toString();
                return /the figures of node-\d alone: the store/.test(page);
            });
            await end();
            await eventually('all nodes again', async () => (await state(edge, OPERATOR_LOGIN)).of_all_nodes, 20_000);
        }
    }));
});

test('with CT_NOCLIENTS the dashboard links no client downloads, and no link of it is dead', async () => {
    for (const [env, offers] of /** @type {[Record<string, string>, boolean][]} */ ([[{}, true], [{ CT_NOCLIENTS: 'true' }, false]])) {
        await withEdge({ nodes: 1, env: { ...OPERATOR, ...env } }, async edge => {
            const page = (await ask(edge, '/dashboard', OPERATOR_LOGIN)).bytes.toString();
            assert.equal(page.includes('Client downloads</a>'), offers);
            const links = [...page.matchAll(/<a href="([^"]+)"/g)].map(match => new URL(match[1], `${edge.http}/dashboard`).pathname);
            assert.ok(links.length >= 4, page);
            for (const link of links) assert.ok((await ask(edge, link, OPERATOR_LOGIN)).status < 400, link);
        });
    }
});

/** A person with a browser. @param {Edge} edge */
async function looked(edge) {
    const httpCredentials = { username: OPERATOR.CT_DASHBOARD_USER, password: OPERATOR.CT_DASHBOARD_PASSWORD };
    await withBrowser(async context => {
        const page = await context.newPage();
        /** @type {string[]} */
        const complaints = [];
        page.on('console', message => complaints.push(message.text()));
        page.on('pageerror', error => complaints.push(String(error)));
        await page.goto(`${edge.http}/dashboard`);
        await page.getByRole('heading', { name: 'What to do' }).waitFor();
        const row = page.getByRole('row').filter({ hasText: 'node-2' });
        assert.match(await row.innerText(), /suspended/);
        assert.match(await page.innerText('dl'), /2 of 25/);
        // A name or an address on two lines is read as two.
        await page.setViewportSize({ width: 1280, height: 900 });
        const { height } = /** @type {any} */ (await row.boundingBox());
        assert.ok(height < 40, `the row of a node is ${height} px high`);
        await picture(page, 'dashboard');
        await page.setViewportSize({ width: 390, height: 800 });
        const overflow = await page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth');
        assert.ok(Number(overflow) <= 0, 'the page is wider than a telephone');
        await picture(page, 'dashboard-narrow');
        await page.setViewportSize({ width: 1100, height: 760 });

        await page.getByRole('link', { name: 'Logs' }).click();
        for (const log of ['balancer.log', 'node-2.log', 'access.log']) {
            assert.match(await page.getByRole('row').filter({ hasText: log }).innerText(), /itself says|one line a request/);
        }
        await picture(page, 'logs');
        await page.getByRole('link', { name: 'server.log', exact: true }).click();
        assert.match(await page.innerText('pre'), /services now available on port/);
        await picture(page, 'log');
        const [download] = await Promise.all([
            page.waitForEvent('download'),
            page.getByRole('link', { name: 'Download' }).click(),
        ]);
        assert.equal(download.suggestedFilename(), 'server.log');
        assert.match(readFileSync(await download.path(), 'utf8'), /services now available on port/);
        assert.deepEqual(complaints, []);
    }, { httpCredentials });
}

test('/logs lists the logs, shows their ends and gives them whole or in part, and nothing else', async () => {
    await withEdge({ nodes: 1, env: OPERATOR }, async edge => {
        const list = (await ask(edge, '/logs/', OPERATOR_LOGIN)).bytes.toString();
        for (const log of ['server.log', 'sessions.log', 'usage.log', 'access.log', 'error.log']) {
            assert.ok(list.includes(`>${log}</a>`), log);
            const { status, headers } = await ask(edge, `/logs/${log}`, OPERATOR_LOGIN);
            assert.equal(status, 200, log);
            assert.match(headers.get('content-type') ?? '', /^text\/plain/);
            assert.equal(headers.get('cache-control'), 'no-store');
        }
        const lines = serverLog(edge).trimEnd().split('\n');
        writeFileSync(path.join(edge.data, 'logs/server.log.1'), 'first\nsecond\nthird\n');
        const end = await ask(edge, '/logs/server.log.1?lines=2', OPERATOR_LOGIN);
        assert.equal(end.bytes.toString(), 'second\nthird\n');
        const { bytes } = await ask(edge, '/logs/server.log', OPERATOR_LOGIN);
        assert.ok(bytes.toString().startsWith(lines[0]));

        for (const route of ['/logs/..%2fcluster.secret', '/logs/%2e%2e%2fcluster.secret', '/logs/%2fetc%2fpasswd', '/logs/..%2f..%2f..%2f..%2fetc%2fpasswd']) {
            const { status, bytes: outside } = await ask(edge, route, OPERATOR_LOGIN);
            assert.ok([400, 404].includes(status), `${route}: ${status}`);
            assert.ok(!outside.includes('root:') && !outside.includes(edge.secret()), route);
        }
    });
});

test('metrics.tar.gz of the dashboard holds session-metrics.csv and download-metrics.csv', async () => {
    await withEdge({ nodes: 2, env: OPERATOR }, async edge => {
        await meeting(async meet => {
            await meet('ada', edge.http).host();
            await eventually('a session in the figures', async () => (await state(edge, OPERATOR_LOGIN)).days?.at(-1)?.sessions === 1, 20_000);
        });
        const { status, headers, bytes } = await ask(edge, '/dashboard/metrics.tar.gz', OPERATOR_LOGIN);
        assert.equal(status, 200);
        assert.match(headers.get('content-disposition') ?? '', /metrics\.tar\.gz/);
        const names = execFileSync('tar', ['-tz'], { input: bytes, encoding: 'utf8' }).trim().split('\n');
        assert.deepEqual(names.sort(), ['download-metrics.csv', 'session-metrics.csv']);
        const [head, day] = execFileSync('tar', ['-xzO', 'session-metrics.csv'], { input: bytes, encoding: 'utf8' }).trim().split(/\r?\n/);
        const figures = Object.fromEntries(head.split(',').map((name, column) => [name, day.split(',')[column]]));
        assert.equal(figures.sessions, '1', `${head}\n${day}`);
        const audit = await ask(edge, '/dashboard/audit.csv', OPERATOR_LOGIN);
        assert.match(audit.bytes.toString(), /created/);
    });
});

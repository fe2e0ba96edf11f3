//! Licenses and seats, as operators and as the people in front of their editors meet them.

import assert from 'node:assert/strict';
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { eventually } from '../harness/deadline.mjs';
import { Edge, temporaryDirectory } from '../harness/edge.mjs';
import { Issuer, verify } from '../harness/license.mjs';
import { meeting } from '../harness/person.mjs';
import { ctedge } from '../harness/process.mjs';

/** @type {Issuer} */
let issuer;
before(async () => void (issuer = await Issuer.create()));
after(() => issuer.forget());

/**
 * Runs `use` against an edge whose data folder has been prepared.
 *
 * @param {{ nodes?: number, env?: Record<string, string>, config?: string, prepare?: (data: string) => Promise<void> | void }} options
 * @param {(edge: Edge, data: string) => Promise<void>} use
 */
async function withLicensedEdge({ prepare = () => {}, env = {}, ...options }, use) {
    const data = temporaryDirectory('license');
    try {
        await prepare(data);
        const edge = await Edge.start({ ...options, data, env: { ...issuer.env, ...env } });
        let failed = true;
        try {
            await use(edge, data);
            failed = false;
            await edge.stop();
        } finally {
            await edge.destroy(failed);
        }
    } finally {
        rmSync(data, { recursive: true, force: true });
    }
}

/** What a node says of its license and seats. @param {Edge} edge @param {string} id */
async function health(edge, id) {
    const { address } = await edge.admin.node(id);
    return (await fetch(`http://${address}/ct-health/`, { signal: AbortSignal.timeout(10_000) })).json();
}

/** Waits until every node gives this verdict. @param {Edge} edge @param {string} verdict */
async function verdictIs(edge, verdict) {
    const { nodes } = await edge.admin.status();
    for (const { id } of nodes) {
        await eventually(`verdict ${verdict} of ${id}`, async () => (await health(edge, id)).license.verdict === verdict);
    }
}

/** All that is in any log. @param {Edge} edge */
function allLogs(edge) {
    return [...edge.logs().values()].join('\n');
}

/**
 * @param {Edge} edge
 * @param {RegExp} wanted
 */
function linesOfServerLog(edge, wanted) {
    return readFileSync(path.join(edge.data, 'logs/server.log'), 'utf8').split('\n').filter(line => wanted.test(line));
}

test('variables of codetogether.config that take no effect are told once, with file, line and name', async () => {
    const prepare = (/** @type {string} */ data) => {
        const text = '# Ours\nexport CT_TIME_ZONE=UTC\nexport CT_SERVR_URL="https://edge.example.com"\nexport CT_REGION=eu\n';
        writeFileSync(path.join(data, 'codetogether.config'), text);
    };
    await withLicensedEdge({ nodes: 2, prepare, env: { CT_TIME_ZONE: 'UTC' } }, async (edge, data) => {
        const told = linesOfServerLog(edge, /takes no effect/).map(line => line.slice(line.indexOf('WARN')));
        const file = path.join(data, 'codetogether.config');
        assert.equal(told.length, 2, told.join('\n'));
        assert.ok(told[0].startsWith(`WARN ${file} line 3: CT_SERVR_URL takes no effect: the edge knows no such variable`), told[0]);
        assert.ok(told[1].startsWith(`WARN ${file} line 4: CT_REGION takes no effect: of this file only the license`), told[1]);
    });
});

test('a valid license is named in the log by the line that scripts look for, and its signature nowhere', async () => {
    const prepare = (/** @type {string} */ data) => issuer.install(data, { connections: 9 });
    await withLicensedEdge({ nodes: 3, prepare }, async (edge, data) => {
        assert.equal(linesOfServerLog(edge, /root INFO Valid CodeTogether license installed$/).length, 1, allLogs(edge));
        const signature = /signature=(\S+)/.exec(readFileSync(path.join(data, 'licensing.properties'), 'utf8'))?.[1];
        assert.ok(signature && !allLogs(edge).includes(signature));
        const { license, seats } = await health(edge, 'node-1');
        assert.deepEqual([license.verdict, license.licensee, seats.licensed], ['valid', 'Example & Söhne', 9]);
        await meeting(async meet => void (await meet('host', edge.http).host()));
    });
});

test('a change of the license takes effect without a restart, and what runs goes on', async () => {
    const prepare = (/** @type {string} */ data) => issuer.install(data, { connections: 9 });
    const env = { CT_SERVER_URL: 'https://edge.example.com' };
    await withLicensedEdge({ nodes: 2, prepare, env }, async (edge, data) => {
        const file = path.join(data, 'licensing.properties');
        await meeting(async meet => {
            const host = await meet('host', edge.http).host();
            const other = await meet('other', edge.http).login().then(() => meet('another', edge.http));
            /** @param {string} verdict @param {RegExp} shown @param {RegExp} logged */
            const refused = async (verdict, shown, logged) => {
                await verdictIs(edge, verdict);
                await assert.rejects(other.host(), error => shown.test(String(error)), verdict);
                await eventually(`a line with ${logged}`, () => logged.test(allLogs(edge)));
                assert.equal(linesOfServerLog(edge, logged).length, 1, 'once for all nodes');
            };
            await issuer.install(data, { connections: 9, expiration: '2020/12/31' });
            await refused('expired', /ended on 2020\/12\/31/, /ERROR.*the license has expired: its last day was 2020\/12\/31 UTC/);
            writeFileSync(file, readFileSync(file, 'utf8').replace('maxconnections=9', 'maxconnections=999'));
            await refused('forged', /not genuine/, /ERROR.*the license is forged/);
            await issuer.install(data, { connections: 9, locator: 'other.example.com' });
            await refused('other-locator', /another server/, /ERROR.*for other\.example\.com, but CT_SERVER_URL .* edge\.example\.com/);
            writeFileSync(file, readFileSync(file, 'utf8').replace('maxconnections=9', 'maxconnections=many'));
            await refused('malformed', /cannot be read/, /ERROR.*licensing\.properties line 2 \(maxconnections\): "many" is no number/);

            const guest = await meet('guest', edge.http).join(host.roomId);
            await guest.say('still here');
            await host.hears('still here');

            rmSync(file);
            await verdictIs(edge, 'evaluation');
            await eventually('a line of the evaluation', () => /WARN.*this is an evaluation with 25 connections/.test(allLogs(edge)));
            assert.equal((await health(edge, 'node-1')).seats.licensed, 25);
            await other.host();
            await issuer.install(data, { connections: 9, locator: 'EDGE.example.com' });
            await verdictIs(edge, 'valid');
        });
    });
});

test('a license that ends soon is a warning, and one in variables or in a sourced file is a license', async () => {
    const soon = new Date(Date.now() + 10 * 86_400_000).toISOString().slice(0, 10).replaceAll('-', '/');
    const env = await issuer.variables({ connections: 7, expiration: soon });
    await withLicensedEdge({ nodes: 1, env }, async edge => {
        assert.match(allLogs(edge), new RegExp(`WARN.*the license is valid for 7 connections to the end of ${soon} UTC, 10 days`));
        assert.equal((await health(edge, 'node-1')).license.ends_soon, true);
    });
    const prepare = async (/** @type {string} */ data) => {
        await issuer.run({ connections: 6 }, ['--format', 'shell', '--out', path.join(data, 'codetogether.config')]);
    };
    await withLicensedEdge({ nodes: 1, prepare }, async edge => {
        assert.equal((await health(edge, 'node-1')).seats.licensed, 6);
    });
});

test('each wrong variable gives one line that names it', async () => {
    const good = await issuer.variables({ connections: 7 });
    assert.deepEqual(await verify(good).then(({ code, lines }) => [code, lines.length]), [0, 1]);
    for (const [name, wrong] of [
        ['CT_LICENSEE', ' \t'], ['CT_MAXCONNECTIONS', '7 or so'], ['CT_MAXCONNECTIONS', '0'], ['CT_EXPIRATION', '31.12.2999'],
        ['CT_EXPIRATION', ''], ['CT_LOCATOR', 'https://edge'], ['CT_SIGNATURE', 'v1.AAAA'], ['CT_SIGNATURE', ''],
    ]) {
        const { code, lines } = await verify({ ...good, [name]: wrong });
        assert.deepEqual([code, lines.length], [3, 1], lines.join('\n'));
        assert.match(lines[0], new RegExp(`^the license cannot be read: ${name} \\(license\\.[a-z_]+\\): `));
    }
    const { code, lines } = await verify({ ...good, CTEDGE_LICENSE_PUBLIC_KEY: 'AAAA' });
    assert.equal(code, 1);
    assert.match(lines.join('\n'), /CTEDGE_LICENSE_PUBLIC_KEY/);
    const forged = await verify({ ...good, CT_LICENSEE: 'Somebody Else' });
    assert.deepEqual([forged.code, forged.lines.length], [3, 1]);
    assert.match(forged.lines[0], /forged/);
});

test('a private key is for its owner alone and on no output', async () => {
    assert.equal(statSync(issuer.key).mode & 0o777, 0o600);
    const secret = readFileSync(issuer.key, 'utf8').split('\n').find(line => line.startsWith('ctedge-license-private-key'));
    assert.ok(secret);
    const again = await ctedge(['license', 'keygen', '--out', issuer.key]);
    assert.equal(again.code, 1);
    assert.ok(!again.output.includes(secret));
    assert.ok(!(await issuer.run({ connections: 1 }, [])).includes(secret));
});

test('seats are never oversold over three nodes, and come back', async () => {
    const prepare = (/** @type {string} */ data) => issuer.install(data, { connections: 5 });
    const config = '[up]\nnodes = 3\n[node.timeouts]\ngrace = "2s"\n';
    await withLicensedEdge({ prepare, config }, async edge => {
        await meeting(async meet => {
            const people = Array.from({ length: 9 }, (_, number) => meet(`host ${number}`, edge.http));
            for (const person of people) await person.login();
            const tries = await Promise.allSettled(people.map(person => person.host()));
            const hosts = people.filter((_, number) => tries[number].status === 'fulfilled');
            // Those who were too many hear how many there are, whether they are refused at once or as they connect.
            assert.equal(hosts.length, 5, tries.map(one => one.status === 'rejected' ? String(one.reason) : 'in').join('\n'));
            for (const one of tries) {
                if (one.status === 'rejected') assert.match(String(one.reason), /All 5 connections|peer\/info/);
            }
            const taken = async () => {
                const seats = await Promise.all(['node-1', 'node-2', 'node-3'].map(async id => (await health(edge, id)).seats));
                return seats.reduce((sum, { taken }) => sum + taken, 0);
            };
            assert.equal(await taken(), 5);
            const late = await meet('late', edge.http);
            await late.login();
            await assert.rejects(late.host(), error => String(error).includes(
                'All 5 connections that this server is licensed for are in use. Please try again when somebody has left'));

            await hosts[0].leave();
            await eventually('free seat', async () => await taken() === 4);
            await late.host();
            await assert.rejects(meet('later', edge.http).host(), /All 5 connections/);

            // The seats of a node that dies go where its people go, and those of people who do not return are free again.
            const { node } = await edge.admin.explain(late.roomId);
            const there = [...hosts.slice(1), late];
            await edge.killNode(node);
            await eventually('return of everybody', async () => await taken() === 5, 60_000);
            for (const person of there) person.close();
            await eventually('free seats', async () => await taken() === 0, 60_000);
            for (let number = 0; number < 5; number += 1) await meet(`again ${number}`, edge.http).host();
        });
    });
});

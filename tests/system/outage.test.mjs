//! The store is away, and comes back.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { withCluster } from '../harness/cluster.mjs';
import { eventually, pause, within } from '../harness/deadline.mjs';
import { meeting } from '../harness/person.mjs';
import { ctedge } from '../harness/process.mjs';
import { withPostgres, withoutPostgres } from '../harness/postgres.mjs';
import { run, without } from '../harness/programs.mjs';
import { byNodeHttp } from '../harness/raw.mjs';
import { Wire } from '../harness/tcp-proxy.mjs';

const skip = withoutPostgres();

/** Longer than a lease lives without a beat, so that nodes find out what they may do without the store. */
const AWAY_MS = 5_000;

/** @type {{ how: string, state: string, begin: (postgres: any) => Promise<void> | void, end: (postgres: any) => Promise<void> | void }[]} */
const OUTAGES = [
    { how: 'stopped', state: 'unreachable', begin: postgres => postgres.stop(), end: postgres => postgres.begin() },
    { how: 'killed', state: 'unreachable', begin: postgres => postgres.crash(), end: postgres => postgres.begin() },
    { how: 'frozen', state: 'slow', begin: postgres => postgres.freeze(), end: postgres => postgres.thaw() },
];

for (const { how, state, begin, end } of OUTAGES) {
    test(`while the store is ${how} sessions go on and new ones are refused, and then all is well by itself`, { skip }, async () => {
        await withPostgres(postgres => withCluster({ nodes: 2, settings: postgres.settings() }, async cluster => {
            const balancer = await cluster.balancer();
            await meeting(async meet => {
                const ada = await meet('ada', balancer.http).host();
                const bob = await meet('bob', balancer.http).join(ada.roomId);
                const login = await meet('late', balancer.http).login();
                const owner = await cluster.ownerOf(balancer, ada.roomId);
                // A node has a few seats in reserve, for whoever comes while it cannot ask for more.
                await eventually('seat in reserve', async () => {
                    const { seats } = await owner.health();
                    return seats.held > seats.taken;
                });
                await begin(postgres);
                const since = Date.now();
                for (const node of cluster.nodes) await node.storeIs(state);
                for (let round = 0; Date.now() < since + AWAY_MS; round += 1) {
                    await ada.say(`round ${round}`);
                    await bob.hears(`round ${round}`);
                    await pause(200);
                }
                await bob.say('still here');
                await ada.hears('still here');
                await assertRefused(balancer, login);
                const metrics = await owner.metrics();
                assert.equal(metrics.sum('ctedge_node_store', { state }), 1);
                const { output } = await ctedge(['status', '--admin', balancer.admin.address]);
                assert.match(output, new RegExp(`${owner.id}: its store is ${state}`));
                assert.equal(metrics.sum('ctedge_node_store', { state: 'ok' }), 0);
                assert.equal(metrics.sum('ctedge_node_ownership_total', { event: 'cut_off' }), 1);
                // Who is in the session may go, and who has the host's consent may come: the store hears of it later.
                const cyd = await meet('cyd', balancer.http).join(ada.roomId);
                await cyd.say('I came meanwhile');
                await ada.hears('I came meanwhile');
                await bob.leave();
                await ada.told('room/left', ([peer]) => peer.id === bob.peer.id);
                assert.ok((await owner.metrics()).sum('ctedge_node_journal_entries') > 0, 'what is to be written waits');

                await end(postgres);
                for (const node of cluster.nodes) await node.storeIs('ok');
                const dan = await eventually('new session', () => meet('dan', balancer.http).host());
                await ada.say('all is well');
                await cyd.hears('all is well');
                assert.notEqual(dan.roomId, ada.roomId);
                await eventually('written journal', async () => {
                    return (await owner.metrics()).sum('ctedge_node_journal_entries') === 0;
                });
                const audit = await postgres.sql(`SELECT event, user_name FROM audit WHERE session_key = '${ada.roomId}' ORDER BY id`);
                assert.deepEqual(audit.split('\n'), ['created|ada', 'joined|bob', 'joined|cyd', 'left|bob']);
                assert.equal(await cluster.sum('ctedge_node_ownership_total', { event: 'lease_lost' }), 0);
                assert.equal(await cluster.sum('ctedge_node_journal_lost_entries_total'), 0);
            });
        }));
    });
}

test('a node that is cut off from the store alone keeps its sessions, and nobody takes them over', { skip }, async () => {
    await withPostgres(async postgres => {
        const wire = await Wire.to(`http://127.0.0.1:${postgres.port}`);
        const port = Number(new URL(wire.url).port);
        const settings = (/** @type {number} */ number) => postgres.settings(number === 1 ? port : undefined);
        try {
            await withCluster({ nodes: 3, settings }, cluster => meeting(meet => cutOff(cluster, wire, meet)));
        } finally {
            wire.close();
        }
    });
});

/**
 * The first node is cut off, with a session, and others are not.
 *
 * @param {import('../harness/cluster.mjs').Cluster} cluster
 * @param {Wire} wire
 * @param {(name: string, url: string) => import('../harness/person.mjs').Person} meet
 */
async function cutOff(cluster, wire, meet) {
    const [cut, ...others] = cluster.nodes;
    const balancer = await cluster.balancer();
    const ada = await cluster.hostAt(cut, balancer, meet);
    await eventually('seat in reserve', async () => {
        const { seats } = await cut.health();
        return seats.held > seats.taken;
    });
    wire.cut();
    await cut.storeIs('unreachable');
    await eventually('silent lease', async () => {
        return await cluster.sum('ctedge_node_ownership_total', { event: 'lease_silent' }) >= others.length;
    });
    for (const node of others) assert.equal((await node.health()).store, 'ok');
    // A balancer without any pin, and one that asks another node first: the one that is cut off answers for its own.
    const stranger = await cluster.balancer({ nodes: others });
    const bob = await meet('bob', stranger.http).join(ada.roomId);
    await bob.say('I found you');
    await ada.hears('I found you');
    // What is new goes to nodes that can own it.
    for (let number = 0; number < 4; number += 1) {
        const { roomId } = await meet(`new host ${number}`, balancer.http).host();
        assert.notEqual(await cluster.ownerOf(balancer, roomId), cut);
    }

    wire.mend();
    await cut.storeIs('ok');
    await ada.say('all is well');
    await bob.hears('all is well');
    await cluster.hostAt(cut, balancer, meet);
    for (const event of ['lease_lost', 'ended_silent_lease', 'taken_over', 'fenced']) {
        assert.equal(await cluster.sum('ctedge_node_ownership_total', { event }), 0, event);
    }
}

const withoutSqlite = without({ sqlite3: 'sqlite3' });

test('while somebody locks the file of the store it counts as slow, and sessions go on', { skip: withoutSqlite }, async () => {
    await withCluster({ nodes: 2 }, cluster => trouble(cluster, 'slow', () => lock(path.join(cluster.data, 'ctedge.db'))));
});

test('while the disk of the store is full, sessions go on, and no new one is accepted that could be lost', { skip: withoutMount() }, async () => {
    await withSmallDisk(async disk => {
        const settings = `[store]\nurl = "sqlite:${path.join(disk, 'ctedge.db')}"\n`;
        await withCluster({ nodes: 2, settings }, cluster => trouble(cluster, 'full', () => fill(disk)));
    });
});

/**
 * A session lives through trouble with its store.
 *
 * @param {import('../harness/cluster.mjs').Cluster} cluster
 * @param {string} state what nodes say of the store meanwhile
 * @param {() => Promise<() => Promise<void>>} begin makes the trouble, and gives what ends it
 */
async function trouble(cluster, state, begin) {
    const balancer = await cluster.balancer();
    await meeting(async meet => {
        const ada = await meet('ada', balancer.http).host();
        const bob = await meet('bob', balancer.http).join(ada.roomId);
        const login = await meet('late', balancer.http).login();
        const end = await begin();
        for (const node of cluster.nodes) {
            await node.storeIs(state);
            assert.equal((await node.metrics()).sum('ctedge_node_store', { state }), 1);
        }
        await ada.say('does not matter');
        await bob.hears('does not matter');
        await assertRefused(balancer, login);
        await end();
        for (const node of cluster.nodes) await node.storeIs('ok');
        await eventually('new session', () => meet('dan', balancer.http).host());
        await bob.say('all is well');
        await ada.hears('all is well');
        assert.equal(await cluster.sum('ctedge_node_ownership_total', { event: 'lease_lost' }), 0);
    });
}

/** @returns {string | false} what keeps a test from mounting a file system of its own */
function withoutMount() {
    return process.getuid?.() === 0 || process.env.CI === 'true' ? false : 'mounting a small tmpfs needs root';
}

/**
 * @param {(folder: string) => Promise<void>} use gets the folder of a file system of 8 MiB
 */
async function withSmallDisk(use) {
    const folder = mkdtempSync(path.join(tmpdir(), 'ctedge-test-disk-'));
    const mounted = run('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', folder]);
    assert.equal(mounted.code, 0, mounted.said);
    try {
        await use(folder);
    } finally {
        run('umount', ['--lazy', folder]);
        rmdirSync(folder);
    }
}

/**
 * Fills a disk to the last byte.
 *
 * @param {string} folder
 * @returns {Promise<() => Promise<void>>} makes room again
 */
async function fill(folder) {
    const filler = path.join(folder, 'filler');
    run('dd', ['if=/dev/zero', `of=${filler}`, 'bs=4096']);
    return async () => rmSync(filler);
}

/**
 * Locks an SQLite file, as a backup or an operator's shell may do.
 *
 * @param {string} file
 * @returns {Promise<() => Promise<void>>} gives it free
 */
async function lock(file) {
    const shell = spawn('sqlite3', ['-cmd', '.timeout 10000', file], { stdio: ['pipe', 'pipe', 'inherit'] });
    const ended = new Promise(resolve => shell.once('exit', resolve));
    const locked = new Promise(resolve => shell.stdout.once('data', resolve));
    shell.stdin.write("BEGIN EXCLUSIVE;\nSELECT 'locked';\n");
    await within('lock', locked);
    return async () => {
        shell.stdin.end('ROLLBACK;\n');
        await within('end of sqlite3', ended);
    };
}

/**
 * A new session is refused in words that a program understands.
 *
 * @param {import('../harness/edge.mjs').Balancer} balancer
 * @param {string} login
 */
async function assertRefused(balancer, login) {
    const refused = await byNodeHttp(`${balancer.http}/api/session/create`, { method: 'POST', headers: { 'x-oct-jwt': login } });
    assert.equal(refused.status, 503, refused.text);
    assert.ok(Number(refused.headers['retry-after']) > 0);
    assert.equal(typeof refused.body.code, 'string', refused.text);
}

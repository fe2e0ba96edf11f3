//! A node gives its sessions up to be stopped, and nobody in them can tell.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { test } from 'node:test';
import { eventually } from '../harness/deadline.mjs';
import { withEdge } from '../harness/edge.mjs';
import { Conversations } from '../harness/numbered.mjs';
import { meeting } from '../harness/person.mjs';
import { run, without } from '../harness/programs.mjs';
import { STORES } from '../harness/stores.mjs';
import { Wire } from '../harness/tcp-proxy.mjs';

/** @typedef {import('../harness/edge.mjs').Edge} Edge */

/**
 * The node with the most sessions, as the balancer sees it once it has seen everybody.
 *
 * @param {Edge} edge
 * @param {Conversations} conversations
 */
async function busiest(edge, conversations) {
    return eventually('everybody in the status', async () => {
        const { nodes } = await edge.admin.status();
        const peers = nodes.reduce((/** @type {number} */ sum, /** @type {any} */ node) => sum + node.peers, 0);
        if (peers !== conversations.people.length) return undefined;
        return nodes.toSorted((/** @type {any} */ a, /** @type {any} */ b) => b.sessions - a.sessions)[0];
    });
}

for (const { name, skip, open } of STORES) {
    test(`a drained node hands its sessions over at the deadline, and nothing of them is lost, on ${name}`, { skip }, async t => {
        await open(config => withEdge({ nodes: 3, config }, edge => meeting(async meet => {
            const conversations = await Conversations.start(meet, edge.http, { sessions: 6, peers: 3 });
            const { id: node, sessions, peers } = await busiest(edge, conversations);
            const plan = JSON.parse(await edge.operate(['plan', 'drain', node, '--json']));
            assert.deepEqual([plan.sessions, plan.peers], [sessions, peers]);
            assert.equal(plan.targets.reduce((/** @type {number} */ sum, /** @type {any} */ target) => sum + target.sessions, 0), sessions);

            await edge.operate(['drain', node, '--deadline', '10s']);
            const draining = await edge.admin.nodeIs(node, 'draining');
            assert.deepEqual([draining.drain.phase, draining.drain.sessions, draining.drain.peers], ['waiting', sessions, peers]);
            const room = await there(edge, node, conversations);
            const late = await meet('late', edge.http).join(room);
            assert.equal((await edge.admin.explain(room)).node, node, 'who joins a session joins it where it is');
            const fresh = await meet('fresh', edge.http).host();
            assert.notEqual((await edge.admin.explain(fresh.roomId)).node, node, 'a new session begins elsewhere');

            await eventually('the end of the node', async () => (await edge.listed(node)).state === 'drained', 60_000);
            await conversations.goOn();
            for (const { people: [host] } of conversations.rooms) {
                assert.notEqual((await edge.admin.explain(host.roomId)).node, node);
            }
            assert.ok(late.chat.length > 0);
            await conversations.assertNothingHappened(t);
        })));
    });
}

/** A session of the node. @param {Edge} edge @param {string} node @param {Conversations} conversations */
async function there(edge, node, { rooms }) {
    for (const { people: [host] } of rooms) {
        if ((await edge.admin.explain(host.roomId)).node === node) return host.roomId;
    }
    assert.fail(`no session at ${node}`);
}

for (const { name, skip, open } of STORES) {
    test(`a node that is drained at once, or told to stop, loses nothing, and comes back when it is started, on ${name}`, { skip }, async t => {
        await open(config => withEdge({ nodes: 3, config }, edge => meeting(async meet => {
            const conversations = await Conversations.start(meet, edge.http, { sessions: 6, peers: 3 });
            const { id: node } = await busiest(edge, conversations);
            const output = await edge.operate(['drain', node, '--now', '--wait']);
            assert.match(output, /has ended/);
            await conversations.goOn();
            await edge.operate(['start', node]);
            assert.equal((await edge.listed(node)).state, 'running');

            const { id: next, pid } = await busiest(edge, conversations);
            process.kill(pid, 'SIGTERM');
            await eventually('another process', async () => (await edge.admin.node(next)).pid !== pid, 60_000);
            await conversations.goOn();
            await conversations.assertNothingHappened(t);
        })));
    });
}

for (const { name, skip, open } of STORES) {
    test(`people who may only poll lose nothing when their node is drained, though they never pause, on ${name}`, { skip }, async t => {
        await open(config => withEdge({ nodes: 2, config }, edge => meeting(async meet => {
            const conversations = await Conversations.start(meet, edge.http, { sessions: 3, peers: 3, transport: 'polling' });
            for (let round = 0; round < 2; round += 1) {
                const { id: node } = await busiest(edge, conversations);
                await edge.operate(['drain', node, '--now', '--wait']);
                await edge.operate(['start', node]);
                await conversations.goOn();
            }
            await conversations.assertNothingHappened(t);
        })));
    });
}

for (const transport of /** @type {const} */ (['websocket', 'polling'])) {
    test(`what a ${transport} client with a slow uplink has under way is waited for when its node is drained`, async t => {
        await withEdge({ nodes: 2 }, edge => meeting(async meet => {
            const wire = await Wire.to(edge.http);
            t.after(() => wire.close());
            const host = await meet('host', edge.http).host();
            const guest = await meet('slow', wire.url).only(transport).join(host.roomId);
            const { node } = await edge.admin.explain(host.roomId);
            wire.uplinkBytesPerSecond = 60_000;
            const texts = Array.from({ length: 40 }, (_, index) => `${index}: ${randomBytes(15_000).toString('hex')}`);
            for (const text of texts) await guest.say(text);
            assert.ok(host.chat.length < 20, 'most of it is under way');
            const draining = edge.operate(['drain', node, '--now', '--wait']);
            await eventually('everything that was said', () => host.chat.length >= texts.length || undefined, 90_000);
            assert.match(await draining, /has ended/);
            assert.deepEqual(host.chat.map(text => text.split(':')[0]), texts.map(text => text.split(':')[0]));
            await guest.say('still here');
            await host.hears('still here', 30_000);
            assert.notEqual((await edge.admin.explain(host.roomId)).node, node);
        }));
    });
}

test('whoever waits for a drain is told how many sessions are left, until none is', async t => {
    // The balancer looks often enough to see each of the numbers, and the command asks it twice a second.
    const config = '[node.drain]\nhandoffs_per_second = 1\n\n[balancer.health]\ninterval = "100ms"\n';
    await withEdge({ nodes: 2, config }, edge => meeting(async meet => {
        // The fuller node has at least four.
        const conversations = await Conversations.start(meet, edge.http, { sessions: 8, peers: 2 });
        const { id: node, sessions } = await busiest(edge, conversations);
        const lines = (await edge.operate(['drain', node, '--now', '--wait'])).split('\n');
        assert.equal(new Set(lines).size, lines.length, `nothing is told twice:\n${lines.join('\n')}`);
        const told = lines.flatMap(line => {
            const [, left] = /^handing over, (\d+) sessions and \d+ peers left$/.exec(line) ?? [];
            return left ? [Number(left)] : [];
        });
        // A look may fall between the end of a session and that of its peers.
        const falling = [...new Set(told)];
        assert.deepEqual(told, told.toSorted((a, b) => b - a), 'the number never rises');
        assert.ok(falling[0] <= sessions && falling.length >= sessions / 2, `of ${sessions} sessions: ${falling}`);
        // A node without sessions ends at once, so that "drained" is told only if a look meets it before.
        const last = lines.slice(lines.findLastIndex(line => line.startsWith('handing over')) + 1);
        assert.deepEqual(last.filter(line => line !== 'drained' && line !== `${node} is down`), [`${node} has ended`]);
        assert.equal((await edge.listed(node)).state, 'drained');
        await conversations.goOn();
        await conversations.assertNothingHappened(t);
    }));
});

/** What a disk says that has no room for an estate, and some for everything that is small. */
const NO_ROOM = `CREATE TRIGGER no_room BEFORE UPDATE OF estate ON sessions WHEN NEW.estate IS NOT NULL
    BEGIN SELECT RAISE(ABORT, 'no room'); END;`;

const SQLITE = without({ sqlite3: 'sqlite3' });

test('sessions that the store cannot take for another node go on where they are until it can', { skip: SQLITE }, async t => {
    await withEdge({ nodes: 2 }, edge => meeting(async meet => {
        const file = path.join(edge.data, 'ctedge.db');
        const store = (/** @type {string} */ statement) => run('sqlite3', ['-cmd', '.timeout 5000', file, statement]);
        const conversations = await Conversations.start(meet, edge.http, { sessions: 2, peers: 2 });
        const { id: node, sessions } = await busiest(edge, conversations);
        assert.equal(store(NO_ROOM).said, '');
        const metrics = () => edge.admin.nodeMetrics(node);
        const drained = edge.operate(['drain', node, '--now', '--wait'], 90_000);
        await eventually('sessions that are taken back', async () => {
            return (await metrics()).sum('ctedge_node_ownership_total', { event: 'taken_back' }) >= sessions;
        }, 30_000);
        await conversations.goOn();
        assert.equal(store('DROP TRIGGER no_room').said, '');
        assert.match(await drained, /has ended/);
        await conversations.goOn();
        await conversations.assertNothingHappened(t);
    }));
});

for (const { name, skip, open } of STORES) {
    test(`a drain can be taken back until its deadline, on ${name}`, { skip }, async t => {
        await open(config => withEdge({ nodes: 2, config }, edge => meeting(async meet => {
            const conversations = await Conversations.start(meet, edge.http, { sessions: 2, peers: 2 });
            const { id: node } = await busiest(edge, conversations);
            await edge.operate(['drain', node, '--deadline', '10m']);
            await edge.admin.nodeIs(node, 'draining');
            await edge.operate(['resume', node]);
            await edge.admin.nodeIs(node, 'ready');
            await conversations.goOn();
            for (const person of conversations.people) assert.ok(person.socket.connected);
            await conversations.assertNothingHappened(t);
        })));
    });
}

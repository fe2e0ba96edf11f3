//! An edge of several machines, each with a `ctedge up` of its own: addresses of the loopback network stand for them.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { Edge, freePort, temporaryDirectory } from '../harness/edge.mjs';
import { Conversations } from '../harness/numbered.mjs';
import { meeting } from '../harness/person.mjs';
import { withPostgres, withoutPostgres } from '../harness/postgres.mjs';

/** A restart of three processes. */
const RESTART_MS = 180_000;

/** Two machines with two nodes each. */
const MACHINES = [
    { ip: '127.0.0.2', ids: ['left-1', 'left-2'] },
    { ip: '127.0.0.3', ids: ['right-1', 'right-2'] },
];

/**
 * @param {(left: Edge, right: Edge) => Promise<void>} use
 */
async function withTwoMachines(use) {
    await withPostgres(async postgres => {
        const folder = temporaryDirectory('machines');
        const secret = path.join(folder, 'cluster.secret');
        writeFileSync(secret, randomBytes(32).toString('hex'), { mode: 0o600 });
        const listed = [];
        for (const { ip, ids } of MACHINES) {
            for (const id of ids) listed.push(`[[nodes]]\nid = "${id}"\naddress = "${ip}:${await freePort()}"\n`);
        }
        const config = (/** @type {string} */ ip) =>
            `secret_file = "${secret}"\n${postgres.settings()}[up]\nnodes = 0\nmachine = "${ip}"\n${listed.join('')}`;
        const started = await Promise.allSettled(MACHINES.map(({ ip }) => Edge.start({ config: config(ip) })));
        const edges = started.flatMap(outcome => outcome.status === 'fulfilled' ? [outcome.value] : []);
        let failed = true;
        try {
            for (const outcome of started) if (outcome.status === 'rejected') throw outcome.reason;
            const [left, right] = edges;
            await use(left, right);
            await right.stop();
            failed = false;
        } finally {
            // One that was stopped is gone with its folder.
            for (const edge of edges.filter(({ child }) => !child.ended)) await edge.destroy(failed);
            rmSync(folder, { recursive: true });
        }
    });
}

/**
 * What runs on a machine.
 *
 * @param {Edge} edge
 * @returns {Promise<Map<string, number>>} process ids by name
 */
async function running(edge) {
    const { processes } = JSON.parse(await edge.operate(['list', '--json']));
    return new Map(processes.map((/** @type {any} */ { uid, pid }) => [uid, pid]));
}

/**
 * The host of a session on a machine.
 *
 * @param {string} machine
 * @param {(name: string, url: string) => import('../harness/person.mjs').Person} meet
 * @param {Edge} edge
 */
async function hostOn(machine, meet, edge) {
    for (let number = 0; number < 10; number += 1) {
        const host = await meet(`host ${number}`, edge.http).host();
        if ((await edge.admin.explain(host.roomId)).node.startsWith(machine)) return host;
    }
    assert.fail(`10 sessions, and none on ${machine}`);
}

/** How many sessions came so to the right machine's nodes. @param {Edge} right @param {string} event @param {string} [reason] */
async function adopted(right, event, reason) {
    const metrics = await Promise.all(['right-1', 'right-2'].map(id => right.admin.nodeMetrics(id)));
    const labels = reason ? { event, reason } : { event };
    return metrics.reduce((sum, of) => sum + of.sum('ctedge_node_ownership_total', labels), 0);
}

test('each machine starts its own of the nodes that all list, and is restarted and stopped without loss', { skip: withoutPostgres() }, async t => {
    await withTwoMachines((left, right) => meeting(async meet => {
        assert.deepEqual([...(await running(left)).keys()], ['balancer', 'left-1', 'left-2']);
        const before = await running(right);
        assert.deepEqual([...before.keys()], ['balancer', 'right-1', 'right-2']);
        const conversations = await Conversations.start(meet, right.http, { sessions: 6, peers: 2 });

        const former = await running(left);
        await left.operate(['restart'], RESTART_MS);
        const latter = await running(left);
        for (const node of ['left-1', 'left-2']) assert.notEqual(latter.get(node), former.get(node));
        assert.deepEqual(await running(right), before, 'the other machine is left alone');
        await conversations.goOn();

        // A machine that is switched off in order gives its sessions to the other. There is at least one.
        const host = await hostOn('left', meet, right);
        const guest = await meet('guest', right.http).join(host.roomId);
        await left.stop();
        for (const id of ['left-1', 'left-2']) await right.admin.nodeIs(id, 'down');
        await conversations.goOn();
        await guest.say('we have moved');
        await host.hears('we have moved', 30_000);
        // What was given to the other node of that machine, which was just told to stop as well, was whole when that took its leave.
        const parting = await adopted(right, 'estate_taken_over', 'left');
        assert.ok(await adopted(right, 'estate_adopted', 'stop') + parting > 0, 'it gave them');
        assert.equal(await adopted(right, 'estate_taken_over'), parting, 'nodes that died had none');
        assert.equal(await adopted(right, 'taken_over'), 0, 'nobody had to take them');
        const late = await meet('late', right.http).join(conversations.rooms[0].people[0].roomId);
        await late.say('the other machine is away');
        await conversations.rooms[0].people[1].hears('the other machine is away');
        await conversations.assertNothingHappened(t);
    }));
});

//! Every process of an edge is replaced, one after the other, and nobody in a session can tell.

import assert from 'node:assert/strict';
import { copyFileSync, renameSync, rmSync, statSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { withCluster } from '../harness/cluster.mjs';
import { eventually } from '../harness/deadline.mjs';
import { ctedge, temporaryDirectory, withEdge } from '../harness/edge.mjs';
import { Conversations, disconnects } from '../harness/numbered.mjs';
import { meeting } from '../harness/person.mjs';
import { BINARY } from '../harness/process.mjs';
import { bySocket } from '../harness/raw.mjs';
import { STORES } from '../harness/stores.mjs';

/** @typedef {import('../harness/edge.mjs').Edge} Edge */

/** A restart of four processes; each node hands its sessions over and starts again. */
const RESTART_MS = 180_000;

/**
 * The process ids by name, without those of balancers that only keep their last tunnels.
 *
 * @param {Edge} edge
 * @returns {Promise<Map<string, number>>}
 */
async function pids(edge) {
    const { processes } = JSON.parse(await edge.operate(['list', '--json']));
    const current = processes.filter((/** @type {any} */ { uid }) => !/^balancer-\d+$/.test(uid));
    return new Map(current.map((/** @type {any} */ { uid, pid }) => [uid, pid]));
}

/** Newcomers at the front door, one after the other, each on a connection of its own. */
class Newcomers {
    /** @param {string} url */
    constructor(url) {
        this.arriving = true;
        this.served = 0;
        /** What the others were told instead. @type {string[]} */
        this.refused = [];
        this.arrival = this.arrive(`${url}/api/meta`);
    }

    /** @param {string} url */
    async arrive(url) {
        while (this.arriving) {
            try {
                const { status, text } = await bySocket(url);
                if (status === 200) this.served += 1;
                else this.refused.push(`${status} ${text}`);
            } catch (error) {
                this.refused.push(String(error));
            }
        }
    }

    /** Nobody was refused. */
    async assertServed() {
        this.arriving = false;
        await this.arrival;
        assert.deepEqual(this.refused, [], `of ${this.served + this.refused.length} newcomers`);
        assert.ok(this.served > 0);
    }
}

for (const { name, skip, open } of STORES) {
    test(`a restart of everything loses nothing and refuses nobody, on ${name}`, { skip }, async t => {
        await open(config => withEdge({ nodes: 3, config }, edge => meeting(async meet => {
            const conversations = await Conversations.start(meet, edge.http, { sessions: 4, peers: 3 });
            const before = await pids(edge);
            const newcomers = new Newcomers(edge.http);
            await edge.operate(['restart'], RESTART_MS);
            await newcomers.assertServed();
            const after = await pids(edge);
            assert.deepEqual([...after.keys()].sort(), [...before.keys()].sort());
            for (const [process, pid] of after) assert.notEqual(pid, before.get(process), process);
            await conversations.goOn();
            await conversations.assertNothingHappened(t);
        })));
    });
}

/**
 * How a program comes to the path that it is called by, and a newer one after it: in one step, whatever runs there.
 *
 * @type {{ what: string, install: (program: string, version: string) => void }[]}
 */
const INSTALLATIONS = [
    {
        what: 'has taken the place of its file',
        install: (program, version) => {
            copyFileSync(BINARY, `${program}-${version}`);
            renameSync(`${program}-${version}`, program);
        },
    },
    {
        what: 'its link has been switched to',
        install: (program, version) => {
            copyFileSync(BINARY, `${program}-${version}`);
            symlinkSync(`${program}-${version}`, `${program}-link`);
            renameSync(`${program}-link`, program);
        },
    },
];

for (const { what, install } of INSTALLATIONS) {
    test(`a restart of everything brings the newer program that ${what}, and loses nothing`, async t => {
        const folder = temporaryDirectory('program');
        t.after(() => rmSync(folder, { recursive: true }));
        const program = path.join(folder, 'ctedge');
        // Both are the same bytes: it is by the file that they are told apart.
        const installed = (/** @type {string} */ version) => {
            install(program, version);
            return statSync(program).ino;
        };
        const first = installed('1');
        await withEdge({ nodes: 2, binary: program }, edge => meeting(async meet => {
            const assertAllRun = async (/** @type {number} */ inode) => {
                const running = [...await pids(edge)].map(([name, pid]) => [name, statSync(`/proc/${pid}/exe`).ino]);
                assert.deepEqual(running, ['balancer', 'node-1', 'node-2'].map(name => [name, inode]));
            };
            const conversations = await Conversations.start(meet, edge.http, { sessions: 3, peers: 3 });
            await assertAllRun(first);
            const second = installed('2');
            assert.notEqual(second, first);
            await edge.operate(['restart'], RESTART_MS);
            await assertAllRun(second);
            await conversations.goOn();
            await conversations.assertNothingHappened(t);
        }));
    });
}

test('a restart of everything leaves alone what was stopped or drained', async () => {
    await withEdge({ nodes: 3 }, async edge => {
        await edge.operate(['stop', 'node-2']);
        await edge.operate(['drain', 'node-3', '--now', '--wait']);
        const before = await pids(edge);
        await edge.operate(['restart'], RESTART_MS);
        assert.notEqual((await pids(edge)).get('node-1'), before.get('node-1'));
        for (const [node, state] of [['node-2', 'stopped'], ['node-3', 'drained']]) {
            assert.equal((await edge.listed(node)).state, state);
        }
        await edge.operate(['start']);
        for (const node of ['node-2', 'node-3']) assert.equal((await edge.listed(node)).state, 'running');
        await edge.admin.nodeIs('node-3', 'ready');
    });
});

test('a restart of everything leaves a drain that is under way to its deadline', async () => {
    await withEdge({ nodes: 2 }, edge => meeting(async meet => {
        const host = await meet('host', edge.http).host();
        const { node } = await edge.admin.explain(host.roomId);
        const before = await pids(edge);
        await edge.operate(['drain', node, '--deadline', '1h']);
        assert.match(await edge.operate(['restart'], RESTART_MS), new RegExp(`${node} is being drained and is left alone`));
        const after = await pids(edge);
        assert.deepEqual([...after].filter(([name, pid]) => pid === before.get(name)).map(([name]) => name), [node]);
        assert.equal((await edge.admin.node(node)).state, 'draining');
    }));
});

test('a node with many sessions is given the time that they take', async t => {
    const config = '[restart]\nhandoff = "4s"\n\n[node.drain]\nhandoffs_per_second = 1\n';
    await withEdge({ nodes: 2, config }, edge => meeting(async meet => {
        // The fuller node has at least six, and so takes five seconds.
        const conversations = await Conversations.start(meet, edge.http, { sessions: 12, peers: 2 });
        const nodes = await eventually('everybody in the status', async () => {
            const { nodes } = await edge.admin.status();
            const peers = nodes.reduce((/** @type {number} */ sum, /** @type {any} */ node) => sum + node.peers, 0);
            return peers === conversations.people.length && nodes;
        });
        const { id: node } = nodes.toSorted((/** @type {any} */ a, /** @type {any} */ b) => b.sessions - a.sessions)[0];
        const told = await edge.operate(['restart', node]);
        assert.doesNotMatch(told, /is stopped/);
        assert.match(told, new RegExp(`${node} serves`));
        await conversations.goOn();
        await conversations.assertNothingHappened(t);
    }));
});

test('a restart of the balancer disconnects nobody and refuses nobody', async t => {
    await withEdge({ nodes: 2 }, edge => meeting(async meet => {
        const conversations = await Conversations.start(meet, edge.http, { sessions: 3, peers: 3 });
        const before = await pids(edge);
        const newcomers = new Newcomers(edge.http);
        await edge.operate(['restart', 'balancer'], RESTART_MS);
        await newcomers.assertServed();
        const after = await pids(edge);
        assert.deepEqual([...after].filter(([process, pid]) => pid !== before.get(process)).map(([process]) => process), ['balancer']);
        await conversations.goOn();
        const late = await meet('late', edge.http).join(conversations.rooms[0].people[0].roomId);
        await late.say('here by the new balancer');
        await conversations.rooms[0].people[1].hears('here by the new balancer');
        for (const { name, heard } of conversations.people) {
            assert.ok(!heard.all.some(({ kind, event }) => kind === 'socket' && event === 'disconnect'), `${name} stayed connected`);
        }
        await conversations.assertNothingHappened(t);
    }));
});

test('at its deadline a replaced balancer sends its people to its successor, and nothing is lost', async t => {
    await withEdge({ nodes: 2, config: '[balancer.timeouts]\nretire = "1s"\n' }, edge => meeting(async meet => {
        const conversations = await Conversations.start(meet, edge.http, { sessions: 4, peers: 3, everyMs: 5 });
        const former = (await pids(edge)).get('balancer');
        await edge.operate(['restart', 'balancer'], RESTART_MS);
        await eventually('end of the balancer before', async () => {
            const { processes } = JSON.parse(await edge.operate(['list', '--json']));
            return processes.every((/** @type {any} */ { pid }) => pid !== former);
        }, 30_000);
        assert.ok(conversations.people.every(({ heard }) => heard.all.some(disconnects)), 'everybody was sent away');
        await conversations.goOn();
        await conversations.assertNothingHappened(t);
        const logs = [...edge.logs().values()].join('');
        assert.ok(!logs.includes('the time to stop is over'), 'nobody had to be cut off');
    }));
});

test('of the balancers that were replaced no more than four stay for their tunnels, and nothing is lost', async t => {
    await withEdge({ nodes: 2 }, edge => meeting(async meet => {
        const conversations = await Conversations.start(meet, edge.http, { sessions: 2, peers: 2, everyMs: 5 });
        const processes = async () => {
            const { processes } = JSON.parse(await edge.operate(['list', '--json']));
            return processes.filter((/** @type {any} */ { uid }) => uid.startsWith('balancer'));
        };
        for (let restart = 1; restart <= 4; restart += 1) {
            await edge.operate(['restart', 'balancer'], RESTART_MS);
            // Each keeps somebody.
            await (await meet(`host ${restart}`, edge.http).host()).upgraded();
        }
        assert.equal((await processes()).length, 5);
        await edge.operate(['restart', 'balancer'], RESTART_MS);
        await eventually('end of the oldest', async () => (await processes()).length === 5, 30_000);
        assert.ok(conversations.people.every(({ heard }) => heard.all.some(disconnects)), 'its people were sent away');
        await conversations.goOn();
        await conversations.assertNothingHappened(t);
    }));
});

test('the periodic restart comes at its minute, and loses nothing', async t => {
    // The first occasion is a minute away at least: by then the conversations have begun.
    const minute = new Date(Date.now() + 60_000).getUTCMinutes();
    // An edge that is started within an occasion leaves it out, so there is a second one.
    const schedule = `${(minute + 1) % 60},${(minute + 3) % 60} * * * *`;
    const env = { CT_AUTO_RESTART_CRON_PATTERN: schedule, CT_TIME_ZONE: 'UTC' };
    await withEdge({ nodes: 2, env }, edge => meeting(async meet => {
        const conversations = await Conversations.start(meet, edge.http, { sessions: 2, peers: 3 });
        const before = await pids(edge);
        await eventually('the end of the periodic restart', () => {
            return [...edge.logs().values()].some(text => text.includes('the periodic restart is done'));
        }, RESTART_MS + 200_000);
        for (const [process, pid] of await pids(edge)) assert.notEqual(pid, before.get(process), process);
        await conversations.goOn();
        await conversations.assertNothingHappened(t);
    }));
});

test('machine by machine, without `ctedge up`: each node is drained and started again, then each balancer, and no session ends', async t => {
    await withCluster({ nodes: 3 }, cluster => meeting(async meet => {
        const balancer = await cluster.balancer();
        const { admin } = balancer;
        const conversations = await Conversations.start(meet, balancer.http, { sessions: 6, peers: 3 });

        const refused = await ctedge(['restart', '--admin', admin.address]);
        assert.equal(refused.code, 1);
        assert.match(refused.output, /was not started by `ctedge up`.*`ctedge drain NODE --now --wait`/);

        for (const node of cluster.nodes) {
            const drained = await ctedge(['drain', node.id, '--now', '--wait', '--admin', admin.address], RESTART_MS);
            assert.equal(drained.code, 0, drained.output);
            assert.match(drained.output, /has ended/);
            assert.deepEqual(await node.child.exit, { code: 0, signal: null }, 'a service manager would take it for a failure');
            // Here the newer program takes the place of the one before.
            node.start();
            await admin.nodeIs(node.id, 'ready');
            await conversations.goOn();
        }
        assert.equal(await balancer.child.stop(), 0);
        balancer.launch();
        await conversations.goOn();
        await conversations.assertNothingHappened(t);
    }));
});

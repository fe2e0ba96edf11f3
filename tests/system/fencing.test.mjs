//! A node that was away for too long comes back, finds that its sessions are another's, and lets go of them.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { withCluster } from '../harness/cluster.mjs';
import { eventually, pause } from '../harness/deadline.mjs';
import { Numbered, ON_ITS_WAY_MS, assertFate, assertSamePeers, everybodyBack, report, threePeople } from '../harness/numbered.mjs';
import { meeting } from '../harness/person.mjs';
import { withPostgres, withoutPostgres } from '../harness/postgres.mjs';
import { STORES } from '../harness/stores.mjs';
import { Wire } from '../harness/tcp-proxy.mjs';

/** How long the node stands still: longer than a lease lives without a beat (3 s) and a probe waits (1 s). */
const STOPPED_MS = 8_000;

/**
 * How long people talk meanwhile: with one store longer than what is left of a dead lease is kept (60 s). What is done with it
 * then is decided by the nodes, whatever the store, so that a minute on one of them is enough.
 */
const AWAY_MS = { SQLite: 65_000, PostgreSQL: STOPPED_MS };

/**
 * Stops a process, and waits until every thread of it stands still: until then it goes on with what it has read.
 *
 * @param {import('../harness/process.mjs').Child} child
 */
async function standStill(child) {
    child.kill('SIGSTOP');
    const folder = `/proc/${child.pid}/task`;
    await eventually('all threads to stand still', () => readdirSync(folder).every(thread => {
        // The state follows the name, which stands in parentheses.
        return readFileSync(`${folder}/${thread}/stat`, 'utf8').replace(/^.*\) /s, '').startsWith('T');
    }));
}

for (const { name, skip, open } of STORES) {
    test(`a node that stood still serves nothing that it had, on ${name}`, { skip }, async () => {
        await open(settings => withCluster({ nodes: 3, settings }, async cluster => {
            const balancer = await cluster.balancer();
            await meeting(async meet => {
                const ada = await meet('ada', balancer.http).host();
                const bob = await meet('bob', balancer.http).join(ada.roomId);
                const ids = [ada.peer.id, bob.peer.id];
                const stopped = await cluster.ownerOf(balancer, ada.roomId);
                const { incarnation } = await stopped.health();
                // These two are connected to the node itself, so that no balancer ends their connections meanwhile.
                const eve = await meet('eve', `http://${stopped.address}`).only('websocket').join(ada.roomId);
                const fay = await meet('fay', `http://${stopped.address}`).only('websocket').join(ada.roomId);
                await eve.say('all is well');
                for (const other of [ada, bob, fay]) await other.hears('all is well');
                for (const person of [ada, bob]) await person.upgraded();

                const since = Date.now();
                const back = everybodyBack([ada, bob]);
                await standStill(stopped.child);
                await eve.say('nobody listens');
                await back;
                assert.notEqual((await cluster.ownerOf(balancer, ada.roomId)).id, stopped.id);
                await ada.say('we went on');
                await bob.hears('we went on', 20_000);
                await pause(Math.max(0, since + STOPPED_MS - Date.now()));
                assert.ok(eve.socket.connected && fay.socket.connected, 'they have noticed nothing');
                stopped.child.kill('SIGCONT');

                for (const person of [eve, fay]) await eventually('disconnect', () => !person.socket.connected);
                await eventually('empty ready node', async () => {
                    const health = await stopped.health();
                    return health.status === 'ready' && health.sessions === 0 && health.incarnation !== incarnation;
                });
                assert.ok(!fay.chat.includes('nobody listens'), 'what it found when it went on is not relayed');
                assert.ok(!bob.chat.includes('nobody listens'));
                for (const [index, person] of [ada, bob].entries()) {
                    for (const info of person.heard.all.filter(message => message.method === 'peer/info')) {
                        assert.equal(info.params[0].id, ids[index]);
                    }
                }
                await bob.say('and on');
                await ada.hears('and on');

                const metrics = await stopped.metrics();
                assert.equal(metrics.sum('ctedge_node_ownership_total', { event: 'lease_lost' }), 1);
                assert.equal(metrics.sum('ctedge_node_ownership_total', { event: 'fenced' }), 1, 'one session was let go');
                await balancer.admin.nodeIs(stopped.id, 'ready');
                await cluster.hostAt(stopped, balancer, meet);
            });
        }));
    });
}

for (const { name, skip, open } of STORES) {
    test(`of what people say, only what was in the hands of a node that then stood still is lost, on ${name}`, { skip }, async t => {
        await open(settings => withCluster({ nodes: 3, settings }, async cluster => {
            const balancer = await cluster.balancer();
            await meeting(async meet => {
                const people = await threePeople(meet, balancer.http);
                const ids = people.map(person => person.peer.id);
                const numbered = new Numbered(people, 20);
                await eventually('conversation', () => numbered.count > 100);
                const stopped = await cluster.ownerOf(balancer, people[0].roomId);
                const since = Date.now();
                const back = everybodyBack(people);
                await standStill(stopped.child);
                const to = await back;
                await pause(Math.max(0, since + AWAY_MS[/** @type {'SQLite' | 'PostgreSQL'} */ (name)] - Date.now()));
                const [heard, count] = [people.map(person => person.heard.all.length), numbered.count];
                stopped.child.kill('SIGCONT');
                await balancer.admin.nodeIs(stopped.id, 'ready');
                await eventually('more conversation', () => numbered.count > count + 100);
                const fate = await numbered.end();
                report(t, fate);
                assertFate(fate, { from: since - ON_ITS_WAY_MS, to });
                assertSamePeers(people, ids);
                // Nobody is cut off by its return, and the session stays where it went.
                for (const [index, person] of people.entries()) {
                    const later = person.heard.all.slice(heard[index]);
                    assert.ok(!later.some(({ kind }) => kind === 'socket'), `${person.name} stayed connected`);
                }
                assert.notEqual((await cluster.ownerOf(balancer, people[0].roomId)).id, stopped.id);
            });
        }));
    });
}

/** How long a peer without a connection stays one: longer than those who are cut off take, be the machine busy. */
const GRACE = '[node.timeouts]\ngrace = "2m"\n';

const skip = withoutPostgres();

test('a node that runs and reaches neither the store nor the others lets go when it hears that it was taken over', { skip }, async t => {
    await withPostgres(async postgres => {
        const wires = { store: await Wire.to(`http://127.0.0.1:${postgres.port}`), node: await Wire.to('http://127.0.0.1') };
        const port = Number(new URL(wires.store.url).port);
        const settings = (/** @type {number} */ number) => postgres.settings(number === 1 ? port : undefined) + GRACE;
        try {
            await withCluster({ nodes: 3, settings, wire: wires.node }, cluster => {
                return meeting(meet => cutOffFromAll(t, cluster, wires, meet));
            });
        } finally {
            for (const wire of Object.values(wires)) wire.close();
        }
    });
});

/**
 * The first node is cut off from everybody, with a session; first balancers reach it again, then it reaches the store.
 *
 * @param {import('node:test').TestContext} t
 * @param {import('../harness/cluster.mjs').Cluster} cluster
 * @param {{ store: Wire, node: Wire }} wires
 * @param {(name: string, url: string) => import('../harness/person.mjs').Person} meet
 */
async function cutOffFromAll(t, cluster, wires, meet) {
    const [cut] = cluster.nodes;
    const balancer = await cluster.balancer();
    const ada = await cluster.hostAt(cut, balancer, meet);
    const people = [ada, await meet('bob', balancer.http).join(ada.roomId), await meet('cyd', balancer.http).join(ada.roomId)];
    for (const person of people) await person.upgraded();
    // These two have a way to the node that is not cut, so that it has somebody to serve.
    const aside = await Wire.to(cut.url);
    t.after(() => aside.close());
    const stranded = [];
    for (const name of ['eve', 'fay']) stranded.push(await meet(name, aside.url).only('websocket').join(ada.roomId));
    const [eve, fay] = stranded;
    const ids = [...people, ...stranded].map(person => person.peer.id);
    const numbered = new Numbered(people, 20);
    await eventually('conversation', () => numbered.count > 100);
    const { incarnation } = await cut.health();
    const events = async () => {
        const metrics = await cut.metrics();
        return ['cut_off', 'lease_lost', 'fenced'].map(event => metrics.sum('ctedge_node_ownership_total', { event }));
    };

    const from = Date.now() - ON_ITS_WAY_MS;
    const back = everybodyBack(people);
    for (const wire of Object.values(wires)) wire.cut();
    const to = await back;
    const owner = await cluster.ownerOf(balancer, ada.roomId);
    assert.notEqual(owner, cut);
    await balancer.admin.nodeIs(cut.id, 'down');
    assert.ok(await cluster.sum('ctedge_node_ownership_total', { event: 'ended_silent_lease' }) >= 1, 'by one of the others, or both');
    // It cannot know.
    await eve.say('where are the others?');
    await fay.hears('where are the others?');
    const alone = await cut.health();
    assert.deepEqual([alone.status, alone.store, alone.sessions, alone.incarnation], ['ready', 'unreachable', 1, incarnation]);
    assert.deepEqual(await events(), [1, 0, 0]);

    const ups = async () => {
        const metrics = await balancer.admin.metrics();
        return metrics.sum('ctedge_balancer_node_state_changes_total', { node: cut.id, state: 'ready' });
    };
    const [upsBefore, connectionsBefore] = [await ups(), wires.node.connections];
    wires.node.mend();
    // Each check has a connection of its own and waits for the one before; two that succeed bring up any other node.
    await eventually('answers to four checks', () => wires.node.connections > connectionsBefore + 4);
    const held = await balancer.admin.node(cut.id);
    assert.equal(held.state, 'down', 'it answers, and what it says is over');
    assert.match(held.trouble, /its lease is over and it goes on/);
    assert.equal(await ups(), upsBefore);
    const late = await meet('late', balancer.http).join(ada.roomId);
    assert.equal(await cluster.ownerOf(balancer, ada.roomId), owner);
    assert.ok(eve.socket.connected && fay.socket.connected, 'they have noticed nothing');

    // Whoever the node sends away finds the others.
    aside.target = new URL(balancer.http);
    const sentAway = everybodyBack(stranded);
    wires.store.mend();
    await sentAway;
    await eventually('empty ready node', async () => {
        const health = await cut.health();
        return health.status === 'ready' && health.store === 'ok' && health.sessions === 0 && health.incarnation !== incarnation;
    });
    assert.deepEqual(await events(), [1, 1, 1], 'it let go of its one session');
    await balancer.admin.nodeIs(cut.id, 'ready');
    for (const person of stranded) await person.say(`${person.name} is here again`);
    for (const listener of [...people, late]) for (const { name } of stranded) await listener.hears(`${name} is here again`);
    const fate = await numbered.end();
    report(t, fate);
    assertFate(fate, { from, to });
    assertSamePeers([...people, ...stranded], ids);
    for (const { name, chat } of [...people, ...stranded, late]) {
        assert.equal(new Set(chat).size, chat.length, `${name} hears nothing twice`);
    }
    for (const { name, chat } of people) {
        assert.ok(!chat.includes('where are the others?'), `${name} does not hear what came to a session that was over`);
    }
    assert.equal(await cluster.ownerOf(balancer, ada.roomId), owner);
    await cluster.hostAt(cut, balancer, meet);
}

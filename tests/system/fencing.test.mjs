//! A node that was away for too long comes back, finds that its sessions are another's, and lets go of them.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { withCluster } from '../harness/cluster.mjs';
import { eventually, pause } from '../harness/deadline.mjs';
import { Numbered, ON_ITS_WAY_MS, assertFate, assertSamePeers, everybodyBack, report, threePeople } from '../harness/numbered.mjs';
import { meeting } from '../harness/person.mjs';
import { STORES } from '../harness/stores.mjs';

/** How long the node stands still: longer than a lease lives without a beat (3 s) and a probe waits (1 s). */
const STOPPED_MS = 8_000;

/** How long people talk meanwhile: with one store longer than what is left of a dead lease is kept (60 s). */
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

//! A node is killed, and its sessions go on elsewhere: the same rooms, the same peers, nothing of their documents lost.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withCluster } from '../harness/cluster.mjs';
import { eventually, pause, within } from '../harness/deadline.mjs';
import { withEdge } from '../harness/edge.mjs';
import { Numbered, ON_ITS_WAY_MS, assertFate, assertSamePeers, everybodyBack, report, threePeople } from '../harness/numbered.mjs';
import { meeting } from '../harness/person.mjs';
import { withPostgres, withoutPostgres } from '../harness/postgres.mjs';
import { STORES } from '../harness/stores.mjs';

/** @typedef {import('../harness/person.mjs').Person} Person */

/** How often editors ask for what they may have missed of a document. */
const EDITORS_RESYNC_MS = 10_000;

/** How often each says something. */
const TALK_EVERY_MS = 5;

/**
 * Each of them hears everybody else.
 *
 * @param {Person[]} people
 * @param {string} text
 */
async function talk(people, text) {
    for (const speaker of people) {
        await speaker.say(`${text} of ${speaker.name}`);
        for (const other of people) if (other !== speaker) await other.hears(`${text} of ${speaker.name}`, 30_000);
    }
}

/**
 * A request that is never answered. Its node is killed in the moment in which it arrives.
 *
 * @param {Person} from
 * @param {Person} to
 * @param {() => void} kill
 * @returns {Promise<{ answer: Promise<any> }>} once it has arrived
 */
async function requestInFlight(from, to, kill) {
    to.connection?.fs.onReadFile(() => {
        kill();
        return new Promise(() => {});
    });
    const request = /** @type {Promise<any>} */ (from.connection?.fs.readFile(to.peer.id, 'endless.txt'));
    request.catch(() => {});
    await to.told('fileSystem/readFile');
    return { answer: request };
}

/**
 * The ids, what the session is told, and the request in flight, when the node of a session dies.
 *
 * @param {(name: string) => Person} meet
 * @param {(room: string) => Promise<() => void>} aim finds the session's node, to be killed by a call
 * @param {number} errorMs by when the request has failed
 */
async function survive(meet, aim, errorMs) {
    const ada = await meet('ada').host();
    const people = [ada, await meet('bob').join(ada.roomId), await meet('cyd').join(ada.roomId)];
    const ids = people.map(person => person.peer.id);
    await talk(people, 'before');
    for (const person of people) await person.upgraded();
    const { answer } = await requestInFlight(people[1], ada, await aim(ada.roomId));
    await assert.rejects(within('error', answer, errorMs), /the server of the session was lost/);
    await talk(people, 'after');
    const dan = await meet('dan').join(ada.roomId);
    await talk([...people, dan], 'with dan');
    assertSamePeers(people, ids);
    return people;
}

for (const { name, skip, open } of STORES) {
    test(`a session outlives its node, which is started again at once, on ${name}`, { skip }, async () => {
        await open(config => withEdge({ nodes: 3, config }, edge => meeting(async meet => {
            await survive(name => meet(name, edge.http), async room => {
                const { node } = await edge.admin.explain(room);
                return edge.aimAt(node);
            }, 6_000);
        })));
    });

    test(`a session goes on at another node when its own is dead and nobody says so, on ${name}`, { skip }, async () => {
        await open(settings => withCluster({ nodes: 3, settings }, async cluster => {
            const balancer = await cluster.balancer();
            await meeting(async meet => {
                let dead = '';
                const [ada] = await survive(name => meet(name, balancer.http), async room => {
                    const owner = await cluster.ownerOf(balancer, room);
                    dead = owner.id;
                    return () => owner.child.kill('SIGKILL');
                }, 15_000);
                assert.notEqual((await cluster.ownerOf(balancer, ada.roomId)).id, dead);
                assert.equal(await cluster.sum('ctedge_node_ownership_total', { event: 'taken_over' }), 1);
                // Both that are left may find it silent at the same moment.
                assert.ok(await cluster.sum('ctedge_node_ownership_total', { event: 'ended_silent_lease' }) >= 1);
                const metrics = await balancer.admin.metrics();
                assert.ok(metrics.sum('ctedge_balancer_places_total', { reason: 'takeover' }) >= 1, 'it says why the key moved');
            });
        }));
    });
}

for (const { name, skip, open } of STORES) {
    test(`a guest in whose coming the node dies has come, on ${name}`, { skip }, async () => {
        await open(config => withEdge({ nodes: 3, config }, edge => meeting(async meet => {
            const ada = await meet('ada', edge.http).host();
            await ada.upgraded();
            const kill = await edge.aimAt((await edge.admin.explain(ada.roomId)).node);
            const isTold = ada.told('room/joined').then(kill);
            // Neither the guest nor what the host is to send it must wait for something that was lost.
            // He does not upgrade: in the middle of that a client finds out at its next ping only.
            const bob = await meet('bob', edge.http).only('websocket').join(ada.roomId);
            await isTold;
            await talk([ada, bob], 'after');
        })));
    });
}

for (const { name, skip, open } of STORES) {
    test(`of what people say while their node is killed, only what is on its way is lost, on ${name}`, { skip }, async t => {
        await open(config => withEdge({ nodes: 3, config }, edge => meeting(async meet => {
            const people = await threePeople(meet, edge.http);
            const ids = people.map(person => person.peer.id);
            const numbered = new Numbered(people, TALK_EVERY_MS);
            await eventually('conversation', () => numbered.count > 200);
            const { node } = await edge.admin.explain(people[0].roomId);
            const from = Date.now() - ON_ITS_WAY_MS;
            const back = everybodyBack(people);
            await edge.killNode(node);
            const to = await back;
            const settled = numbered.count + 200;
            await eventually('more conversation', () => numbered.count > settled);
            const fate = await numbered.end();
            report(t, fate);
            assertFate(fate, { from, to });
            // Each wrote what the node did not relay within the last moments before it died, or into a connection that was
            // about to break.
            const most = Math.ceil((to - from) / TALK_EVERY_MS) * people.length;
            assert.ok(fate.lost.length <= most, `${fate.lost.length} of ${fate.said} messages are lost, ${most} may be`);
            assertSamePeers(people, ids);
        })));
    });
}

test('who waits to be let in when the node dies is told at once to ask again, and then is', async () => {
    await withEdge({ nodes: 3 }, edge => meeting(async meet => {
        const ada = await meet('ada', edge.http).host();
        await ada.upgraded();
        /** @type {(value: any) => void} */
        let asked = () => {};
        const isAsked = new Promise(resolve => (asked = resolve));
        ada.connection?.peer.onJoinRequest(() => new Promise(() => asked(undefined)));
        const dan = meet('dan', edge.http);
        const waiting = dan.ask(ada.roomId);
        waiting.catch(() => {});
        await within('question', isAsked);
        const { node } = await edge.admin.explain(ada.roomId);
        const back = everybodyBack([ada]);
        await edge.killNode(node);
        await assert.rejects(within('refusal', waiting, 10_000), error => {
            assert.equal(typeof error.code, 'string', String(error));
            return true;
        });
        ada.react(true);
        await back;
        await dan.join(ada.roomId);
        await dan.say('here');
        await ada.hears('here');
    }));
});

test('a node that dies while the store is away is replaced when the store is back', { skip: withoutPostgres() }, async () => {
    await withPostgres(postgres => withCluster({ nodes: 2, settings: postgres.settings() }, async cluster => {
        const balancer = await cluster.balancer();
        await meeting(async meet => {
            const people = await threePeople(meet, balancer.http);
            const ids = people.map(person => person.peer.id);
            await talk(people, 'before');
            const owner = await cluster.ownerOf(balancer, people[0].roomId);
            await postgres.stop();
            for (const node of cluster.nodes) await node.storeIs('unreachable');
            owner.child.kill('SIGKILL');
            await eventually('everybody cut off', () => people.every(person => !person.socket.connected));
            await postgres.begin();
            await eventually('everybody back', () => people.every(person => person.socket.connected), 60_000);
            await talk(people, 'after');
            assertSamePeers(people, ids);
            assert.equal(await cluster.sum('ctedge_node_ownership_total', { event: 'taken_over' }), 1);
        });
    }));
});

/**
 * People who write one document while `kill` ends the node of their session, twice, and what becomes of the document.
 *
 * @param {(name: string) => Person} meet
 * @param {(room: string) => Promise<void>} kill
 */
async function writeTogether(meet, kill) {
    const ada = await meet('ada').host();
    const people = [ada, await meet('bob').join(ada.roomId), await meet('cyd').join(ada.roomId)];
    const texts = people.map(person => person.openDocument(EDITORS_RESYNC_MS));
    let written = 0;
    let writing = true;
    const writers = texts.map(async (text, index) => {
        while (writing) {
            text.insert(text.length, String.fromCharCode(97 + index));
            written += 1;
            await pause(10);
        }
    });
    for (let kills = 1; kills <= 2; kills += 1) {
        const before = written;
        await eventually('letters', () => written > before + 100);
        const back = everybodyBack(people);
        await kill(ada.roomId);
        await back;
    }
    writing = false;
    await Promise.all(writers);
    await eventually('one text on all screens', () => {
        return texts.every(text => text.length === written && text.toString() === texts[0].toString());
    }, 3 * EDITORS_RESYNC_MS);
}

for (const { name, skip, open } of STORES) {
    test(`a document that three people write has every letter of it, though their node dies twice, on ${name}`, { skip }, async () => {
        await open(config => withEdge({ nodes: 3, config }, edge => meeting(async meet => {
            await writeTogether(name => meet(name, edge.http), async room => {
                await edge.killNode((await edge.admin.explain(room)).node);
            });
        })));
    });
}

test('a document has every letter of it, though two of three nodes die and nobody says so', async () => {
    await withCluster({ nodes: 3 }, async cluster => {
        const balancer = await cluster.balancer();
        await meeting(meet => writeTogether(name => meet(name, balancer.http), async room => {
            const owner = await cluster.ownerOf(balancer, room);
            owner.child.kill('SIGKILL');
            await owner.child.exit;
        }));
        assert.equal(await cluster.sum('ctedge_node_ownership_total', { event: 'taken_over' }), 1, 'by the node that is left, from the second');
    });
});

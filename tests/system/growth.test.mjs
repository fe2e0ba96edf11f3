//! A node is added under many sessions: new ones may begin there, those that run stay where they are, even for those who come
//! back to them, or come late, through a balancer that has never seen them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually } from '../harness/deadline.mjs';
import { Balancer, withBalancer, withEdge } from '../harness/edge.mjs';
import { Issuer } from '../harness/license.mjs';
import { Conversations, disconnects, reconnected } from '../harness/numbered.mjs';
import { meeting } from '../harness/person.mjs';
import { STORES } from '../harness/stores.mjs';

/** @typedef {import('../harness/person.mjs').Person} Person */

const SESSIONS = 200;

/** So many sessions at a time: a client that was cut off comes back after about a second. */
const TOGETHER = 20;

/**
 * A guest comes back to the session after a cut, and somebody joins late.
 *
 * @param {Person} host
 * @param {Person} guest
 * @param {Person} late
 */
async function comeBackAndJoin(host, guest, late) {
    const back = reconnected(guest);
    guest.socket.io.engine.close();
    await back;
    await late.join(host.roomId);
    await late.say('here I am');
    await host.hears('here I am');
    await late.leave();
}

/**
 * The node that owns each session and the epoch since when, as `balancer` has heard it from the owner.
 *
 * @param {import('../harness/edge.mjs').Admin} admin
 * @param {Conversations} conversations
 */
async function owners(admin, { rooms }) {
    const found = new Map();
    for (const { people: [host] } of rooms) {
        const { node, pin } = await admin.explain(host.roomId);
        found.set(host.roomId, [node, pin?.epoch]);
    }
    return found;
}

for (const { name, skip, open } of STORES) {
    test(`none of ${SESSIONS} sessions moves when a node is added, and new ones begin there, on ${name}`, { skip }, async t => {
        const issuer = await Issuer.create();
        t.after(() => issuer.forget());
        const env = await issuer.variables({ connections: 2_000 });
        await open(settings => withEdge({ config: `[up]\nnodes = 3\n\n${settings}`, env }, edge => meeting(async meet => {
            const conversations = await Conversations.start(meet, edge.http, { sessions: SESSIONS, peers: 2, everyMs: 2_000 });
            const before = await owners(edge.admin, conversations);
            for (const [room, [node, epoch]] of before) assert.ok(epoch > 0, `${room} is known by its owner's word, at ${node}`);
            edge.addNodes(4, settings);
            await edge.admin.nodesReady(4);
            const status = await edge.admin.status();
            const ids = new Set([...before.values()].map(([node]) => node));
            const added = status.nodes.find((/** @type {any} */ { id }) => !ids.has(id));
            await conversations.goOn(2);
            for (const { name, heard } of conversations.people) {
                assert.ok(!heard.all.some(disconnects), `${name} stayed connected`);
            }

            await eventually('a session on the added node', async () => {
                const host = await meet('newcomer', edge.http).host();
                return (await edge.admin.explain(host.roomId)).node === added.id;
            });
            // Whoever comes back, and whoever joins, meets the others: through this balancer, and through one without a pin.
            const nodes = status.nodes.map((/** @type {any} */ { id, address }) => ({ id, address }));
            const fresh = await Balancer.start({ nodes, secret: edge.secret() });
            await withBalancer(fresh, async balancer => {
                for (let at = 0; at < conversations.rooms.length; at += TOGETHER) {
                    const some = conversations.rooms.slice(at, at + TOGETHER);
                    await Promise.all(some.map(({ people: [host, guest] }) => comeBackAndJoin(host, guest, meet('late', balancer.http))));
                }
                assert.deepEqual(await owners(balancer.admin, conversations), before, 'by the word of the owners to another balancer');
            });
            assert.deepEqual(await owners(edge.admin, conversations), before);
            await conversations.assertNothingHappened(t);
        })));
    });
}

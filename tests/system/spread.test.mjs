//! Many sessions at once: each stays with one node, and all nodes have some.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { eventually } from '../harness/deadline.mjs';
import { withEdge } from '../harness/edge.mjs';
import { Issuer } from '../harness/license.mjs';
import { meeting } from '../harness/person.mjs';

const SESSIONS = 100;
/** So many sessions are built up at a time: what one process of Node.js can encrypt without starving its timers. */
const AT_ONCE = 5;

test('100 sessions of 4 peers, each on its own connection, never reach a wrong node and use all nodes', async () => {
    const issuer = await Issuer.create();
    after(() => issuer.forget());
    const env = await issuer.variables({ connections: SESSIONS * 4 });
    await withEdge({ args: ['--expose-node'], env }, async edge => {
        await meeting(async meet => {
            /** @type {import('../harness/person.mjs').Person[][]} */
            const sessions = [];
            const build = async (/** @type {number} */ number) => {
                const host = await meet(`host ${number}`, edge.http).host();
                const guests = await Promise.all([1, 2, 3].map(index => {
                    return meet(`guest ${number}-${index}`, edge.http).join(host.roomId);
                }));
                sessions.push([host, ...guests]);
            };
            for (let first = 0; first < SESSIONS; first += AT_ONCE) {
                await Promise.all(Array.from({ length: AT_ONCE }, (_, index) => build(first + index)));
            }
            await Promise.all(sessions.map(speakAndListen));

            const nodes = await eventually('everybody in the status', async () => {
                const { nodes } = await edge.admin.status();
                return sum(nodes.map((/** @type {any} */ node) => node.peers)) === SESSIONS * 4 && nodes;
            });
            const spread = nodes.map((/** @type {any} */ node) => node.sessions);
            const peers = nodes.map((/** @type {any} */ node) => node.peers);
            assert.equal(sum(spread), SESSIONS, `sessions by node: ${spread}`);
            assert.equal(sum(peers), SESSIONS * 4, `peers by node: ${peers}`);
            const fair = SESSIONS / nodes.length;
            assert.ok(spread.every((/** @type {number} */ count) => count > fair / 2), `sessions by node: ${spread}`);

            for (const people of sessions) {
                const seen = new Set(people.flatMap(person => [...person.nodes]));
                const { node } = await edge.admin.explain(people[0].roomId);
                assert.deepEqual([...seen], [node], `session ${people[0].roomId}`);
            }
        });
    });
});

/** @param {import('../harness/person.mjs').Person[]} people */
async function speakAndListen(people) {
    const [host, ...guests] = people;
    await host.say(`session ${host.roomId}`);
    await Promise.all(guests.map(guest => guest.hears(`session ${host.roomId}`, 60_000)));
    await guests[0].say('heard');
    await Promise.all([host, guests[1], guests[2]].map(person => person.hears('heard', 60_000)));
    for (const person of people) {
        // Only its own session: a message of any other would stand here too.
        const expected = person === host ? ['heard'] : [`session ${host.roomId}`, ...(person === guests[0] ? [] : ['heard'])];
        assert.deepEqual(person.chat, expected, person.name);
    }
}

/** @param {number[]} numbers */
function sum(numbers) {
    return numbers.reduce((total, number) => total + number, 0);
}

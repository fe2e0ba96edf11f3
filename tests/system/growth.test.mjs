//! A node is added under many sessions: new ones may begin there, those that run stay where they are.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually } from '../harness/deadline.mjs';
import { withEdge } from '../harness/edge.mjs';
import { Issuer } from '../harness/license.mjs';
import { Conversations } from '../harness/numbered.mjs';
import { meeting } from '../harness/person.mjs';

/** @typedef {import('../harness/edge.mjs').Edge} Edge */

const SESSIONS = 200;

/** Each session's node, by its owner's own word. @param {Edge} edge @param {Conversations} conversations */
async function whereabouts(edge, { rooms }) {
    const found = new Map();
    for (const { people: [host] } of rooms) found.set(host.roomId, (await edge.admin.explain(host.roomId)).node);
    return found;
}

test(`none of ${SESSIONS} sessions moves when a node is added, and new ones begin there`, async t => {
    const issuer = await Issuer.create();
    t.after(() => issuer.forget());
    const env = await issuer.variables({ connections: 1000 });
    await withEdge({ config: '[up]\nnodes = 3\n', env }, edge => meeting(async meet => {
        const conversations = await Conversations.start(meet, edge.http, { sessions: SESSIONS, peers: 2, everyMs: 2_000 });
        const before = await whereabouts(edge, conversations);
        edge.addNodes(4);
        await edge.admin.nodesReady(4);
        const added = (await edge.admin.status()).nodes.find((/** @type {any} */ { id }) => ![...before.values()].includes(id)).id;
        await conversations.goOn(2);

        await eventually('a session on the added node', async () => {
            const host = await meet('newcomer', edge.http).host();
            return (await edge.admin.explain(host.roomId)).node === added;
        });
        assert.deepEqual(await whereabouts(edge, conversations), before);
        const { nodes } = await edge.admin.status();
        const others = nodes.filter((/** @type {any} */ { id }) => id !== added);
        const sessions = others.reduce((/** @type {number} */ sum, /** @type {any} */ node) => sum + node.sessions, 0);
        assert.ok(sessions >= SESSIONS, `${sessions} sessions where ${SESSIONS} were`);
        for (const { name, heard } of conversations.people) {
            assert.ok(!heard.all.some(({ kind, event }) => kind === 'socket' && event === 'disconnect'), `${name} stayed connected`);
        }
        await conversations.assertNothingHappened(t);
    }));
});

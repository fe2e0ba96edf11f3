//! The transport is cut and comes back: the same peer, and nothing lost.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { eventually } from '../harness/deadline.mjs';
import { Edge, withEdge } from '../harness/edge.mjs';
import { meeting } from '../harness/person.mjs';
import { Wire } from '../harness/tcp-proxy.mjs';

/** @type {Edge} */
let edge;

before(async () => {
    edge = await Edge.start();
});

after(async () => {
    await edge.stop();
});

/**
 * A host on the edge and a guest behind a wire of its own.
 *
 * @param {(host: any, guest: any, wire: Wire) => Promise<void>} use
 * @param {Edge} [where]
 */
async function withWire(use, where = edge) {
    const wire = await Wire.to(where.http);
    try {
        await meeting(async meet => {
            const host = await meet('host', where.http).host();
            const guest = await meet('guest', wire.url).join(host.roomId);
            await guest.upgraded();
            await use(host, guest, wire);
        });
    } finally {
        wire.close();
    }
}

test('what was sent to a guest while its transport was cut arrives once, in order', async () => {
    await withWire(async (host, guest, wire) => {
        const said = [];
        const say = async (/** @type {number} */ count) => {
            for (let index = 0; index < count; index += 1) {
                said.push(`number ${said.length}`);
                await host.say(/** @type {string} */ (said.at(-1)));
            }
        };
        await say(10);
        await guest.hears('number 9');
        for (const round of [1, 2, 3]) {
            // Some are in flight when the cut comes: written to a connection that will never deliver them.
            const during = say(10);
            wire.cut();
            await during;
            await eventually(`disconnect ${round}`, () => !guest.socket.connected);
            await say(10);
            wire.mend();
            await guest.hears(`number ${said.length - 1}`, 30_000);
            assert.deepEqual(guest.chat, said, `after cut ${round}`);
        }
        const again = guest.heard.all.filter((/** @type {any} */ message) => message.method === 'peer/info');
        assert.ok(again.every((/** @type {any} */ message) => message.params[0].id === guest.peer.id), 'the id is kept');
        assert.ok(!host.heard.all.some((/** @type {any} */ message) => message.method === 'room/left'));
        const joins = host.heard.all.filter((/** @type {any} */ message) => message.method === 'room/joined');
        assert.equal(joins.length, 1, 'whoever comes back does not join anew');
        await guest.say('I am back');
        const heard = await host.hears('I am back');
        assert.equal(heard.origin, guest.peer.id);
    });
});

test('a host whose transport was cut finds its session as it was', async () => {
    const wire = await Wire.to(edge.http);
    try {
        await meeting(async meet => {
            const host = await meet('host', wire.url).host();
            const guest = await meet('guest', edge.http).join(host.roomId);
            await host.upgraded();
            wire.cut();
            await eventually('disconnect', () => !host.socket.connected);
            for (const text of ['one', 'two', 'three']) await guest.say(text);
            wire.mend();
            await host.hears('three', 30_000);
            assert.deepEqual(host.chat, ['one', 'two', 'three']);
            assert.ok(!guest.heard.all.some(message => /room\/(left|closed)/.test(message.method)));
            const late = await meet('late', edge.http).join(host.roomId);
            await host.say('all here');
            await late.hears('all here');
            await guest.hears('all here');
        });
    } finally {
        wire.close();
    }
});

for (const transport of /** @type {const} */ (['polling', 'websocket'])) {
    test(`a peer that knows nothing but ${transport} hears everything, a cut included`, async () => {
        const wire = await Wire.to(edge.http);
        try {
            await meeting(async meet => {
                const host = await meet('host', edge.http).host();
                const guest = await meet('guest', wire.url).only(transport).join(host.roomId);
                for (let number = 0; number < 20; number += 1) await host.say(`first ${number}`);
                await guest.hears('first 19');
                wire.cut();
                for (let number = 0; number < 20; number += 1) await host.say(`then ${number}`);
                await eventually('disconnect', () => !guest.socket.connected);
                wire.mend();
                await guest.hears('then 19', 30_000);
                const numbers = Array.from({ length: 20 }, (_, number) => number);
                assert.deepEqual(guest.chat, [...numbers.map(n => `first ${n}`), ...numbers.map(n => `then ${n}`)]);
                assert.equal(guest.socket.io.engine.transport.name, transport);
                await guest.say('heard it all');
                await host.hears('heard it all');
            });
        } finally {
            wire.close();
        }
    });
}

test('a guest that stays away longer than the grace period has left', async () => {
    await withEdge({ config: '[node.timeouts]\ngrace = "1s"\n' }, async short => {
        await withWire(async (host, guest, wire) => {
            wire.cut();
            await host.told('room/left', (/** @type {any} */ [peer]) => peer.id === guest.peer.id);
        }, short);
    });
});

test('a host that stays away longer than the grace period ends the session', async () => {
    await withEdge({ config: '[node.timeouts]\ngrace = "1s"\n' }, async short => {
        const wire = await Wire.to(short.http);
        try {
            await meeting(async meet => {
                const host = await meet('host', wire.url).host();
                const guest = await meet('guest', short.http).join(host.roomId);
                await host.upgraded();
                wire.cut();
                await guest.told('room/closed');
                await assert.rejects(meet('late', short.http).ask(host.roomId), { code: 'RoomNotFound' });
            });
        } finally {
            wire.close();
        }
    });
});
